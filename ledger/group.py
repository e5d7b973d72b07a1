"""A group of batches on their way in: what becomes of each, and where it is told.

::

    plan = plan_group(group, versions=versions, uses=uses, positions=positions, row_at=row_at)
    plan.accepted, plan.repeated, plan.refused
    plan.events                          # of the accepted ones, in their places in their streams

All of it is decided before anything is linked, and nothing of it is kept by the store: a group that
was not written can be planned again. A batch that is refused fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ledger.batch import Batch
from ledger.chain import Linked, Prepared
from ledger.errors import AsofError, ConflictError, KeyReusedError, TamperError
from ledger.receipt import Receipt
from ledger.store import KeyUse, Row, Tracked, as_row, check_grows

__all__ = ["Answer", "Appended", "Plan", "Waiting", "plan_group", "refuse_all", "rows_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Where a batch stands, for ever, and the signed tree that says so.

    `repeated` tells that the key had been used before: this is the first answer again. The receipts
    are made when asked for.
    """

    first_index: int
    count: int
    recorded_at: int
    tree_size: int
    checkpoint: bytes
    repeated: bool
    receipts: Sequence[Receipt] = field(repr=False, compare=False)


class Answer(Protocol):
    """Where a result goes: a `concurrent.futures.Future`, or something lighter of its shape."""

    def set_running_or_notify_cancel(self) -> bool: ...
    def set_result(self, result: Appended, /) -> None: ...
    def set_exception(self, exception: BaseException | None, /) -> None: ...


Waiting = tuple[Batch, Answer]


@dataclass(slots=True)
class Plan:
    """What becomes of each batch of a group."""

    versions: dict[str, int]
    accepted: list[Waiting] = field(default_factory=list)
    repeated: list[tuple[Waiting, KeyUse | int]] = field(default_factory=list)
    refused: list[tuple[Waiting, AsofError]] = field(default_factory=list)
    events: list[Prepared] = field(default_factory=list)
    tracked: dict[str, int] = field(default_factory=dict)

    def contents(self) -> list[tuple[bytes, bytes]]:
        """Salt and payload of each event."""
        return [
            (salt, draft.payload)
            for batch, _ in self.accepted
            for salt, draft in zip(batch.salts, batch.drafts, strict=True)
        ]

    def key_uses(self, first_index: int, tree_size: int) -> list[KeyUse]:
        """What the keys of the accepted batches stand for from now on, in order."""
        uses, position = [], first_index
        for batch, _ in self.accepted:
            if batch.key is not None:
                uses.append(KeyUse(batch.key, batch.digest, position, len(batch.drafts), tree_size))
            position += len(batch.drafts)
        return uses

    def positions(self) -> list[Tracked]:
        """Where followers have come with it."""
        return [Tracked(*position) for position in self.tracked.items()]


def plan_group(
    group: Sequence[Waiting],
    *,
    versions: dict[str, int],
    uses: dict[str, KeyUse],
    positions: dict[str, int],
    row_at: Callable[[int], Row | None],
) -> Plan:
    """Decide in the order of the group, each batch on top of those before it.

    `versions` are those of all its streams, and move on; `uses` and `positions` those of its keys
    and followers that there are; `row_at` reads the entry that a key stands for.
    """
    plan = Plan(versions)
    fresh: dict[str, tuple[Batch, int]] = {}
    for waiting in group:
        batch = waiting[0]
        try:
            if batch.key in uses:
                _check_same_body(batch, uses[batch.key], row_at)
                plan.repeated.append((waiting, uses[batch.key]))
            elif batch.key in fresh:
                first, position = fresh[batch.key]
                _check_body(batch, first.digest, first.salts[0])
                plan.repeated.append((waiting, position))
            else:
                if (tracked := batch.tracked) is not None:
                    held = plan.tracked.get(tracked.name, positions.get(tracked.name))
                    check_grows(tracked, held)
                plan.events += _placed(batch, plan.versions)
                plan.accepted.append(waiting)
                if tracked is not None:
                    plan.tracked[tracked.name] = tracked.position
                if batch.key is not None:
                    fresh[batch.key] = (batch, len(fresh))
        except AsofError as exc:
            plan.refused.append((waiting, exc))
    return plan


def _placed(batch: Batch, versions: dict[str, int]) -> list[Prepared]:
    """The events with their versions; `versions` moves on only if the whole batch is accepted."""
    reached: dict[str, int] = {}
    events = []
    for draft, commitment in zip(batch.drafts, batch.commitments, strict=True):
        stream = draft.stream
        before = reached[stream] if stream in reached else versions[stream]
        if draft.expected_version is not None and draft.expected_version != before:
            raise ConflictError(
                f"the stream {stream!r} stands at version {before}, not {draft.expected_version}: "
                "read it again and decide again"
            )
        reached[stream] = version = before + 1
        events.append(Prepared(draft.actor, stream, draft.type, version, commitment))
    versions.update(reached)
    return events


def rows_of(
    events: Sequence[Prepared], contents: Sequence[tuple[bytes, bytes]], linked: Linked
) -> list[Row]:
    """The rows to be stored: what `Row` names, in its order."""
    at = linked.recorded_at
    return [
        as_row(
            (
                index,
                at,
                event.actor,
                event.stream,
                event.type,
                event.version,
                event.commitment,
                salt,
                payload,
                leaf,
            )
        )
        for index, (event, (salt, payload), leaf) in enumerate(
            zip(events, contents, linked.leaf_hashes, strict=True), linked.first_index
        )
    ]


def _check_same_body(batch: Batch, use: KeyUse, row_at: Callable[[int], Row | None]) -> None:
    first = row_at(use.first_index)
    if first is None:
        raise TamperError("a key stands for it, but it is missing", index=use.first_index)
    if first.salt is None:
        raise KeyReusedError(
            f"the key {use.key!r} was used for entry {first.index}, whose payload was erased: "
            "the bodies cannot be compared any more; use another key"
        )
    _check_body(batch, use.body_digest, first.salt)


def _check_body(batch: Batch, digest: bytes, salt: bytes) -> None:
    if not batch.is_body_of(digest, salt):
        raise KeyReusedError(
            f"the idempotency key {batch.key!r} was used for another batch: nothing was written; "
            "use a new key for a new batch"
        )


def refuse_all(group: Sequence[Waiting], error: AsofError) -> None:
    """The same for each of them."""
    for _, answer in group:
        answer.set_exception(error)
