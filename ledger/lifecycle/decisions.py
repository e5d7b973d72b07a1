"""Approvals, releases, incidents, holds and erasures of one ledger: loaded, decided, saved.

::

    decisions = Decisions(ledger.writer, ledger.reader, actor="service:asof", clock=system_clock)
    release, yes = decisions.get(Release, "2026-47"), decisions.get(Approval, "CHG-4211")
    release.approve([yes], "user:ivo", now=now)
    decisions.store(release, yes)              # one batch; ConflictError if one of them moved on

Of two who decide about the same stream from the same version, one is recorded and the other gets a
`ConflictError`: he loads again, and is told by the rules where it stands now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, TypeVar

from eventsourcing.application import AggregateNotFoundError

from ledger.errors import NotFoundError
from ledger.lifecycle.aggregate import Aggregate, Decision
from ledger.lifecycle.application import LedgerApplication, in_our_words
from ledger.lifecycle.approval import Approval
from ledger.lifecycle.erasure import Erasure
from ledger.lifecycle.hold import Held, Hold, held_entries
from ledger.lifecycle.incident import Incident
from ledger.lifecycle.release import Release
from ledger.reader import Reader

__all__ = ["Decisions", "bound_slots"]

Kind = TypeVar("Kind", Approval, Release, Incident, Hold, Erasure)


class Decisions(LedgerApplication):
    """What people decide about a ledger's subjects, each in a stream of its own."""

    aggregates: ClassVar[tuple[type[Aggregate], ...]] = (
        Approval,
        Release,
        Incident,
        Hold,
        Erasure,
    )

    def get(self, kind: type[Kind], name: str) -> Kind:
        """The aggregate as its stream tells, by its id. Raises: NotFoundError."""
        stream = f"{kind.PREFIX}{name}"
        try:
            with in_our_words():
                found: Kind = self.repository.get(stream)
        except AggregateNotFoundError:
            raise NotFoundError(f"there is no {stream}: its id is not known here") from None
        return found

    def ids(self, kind: type[Aggregate]) -> Iterator[str]:
        """The ids of all of a kind, in the order of their names."""
        for stream in self.reader.streams(kind.PREFIX):
            yield stream.removeprefix(kind.PREFIX)

    def store(
        self,
        *aggregates: Aggregate,
        also: Sequence[Decision] = (),
        idempotency_key: str | None = None,
    ) -> None:
        """Saves what was decided, of all of them and `also`, in one batch: all or none.

        Raises:
            ConflictError: somebody decided in between. Nothing is written; load again. After any
                exception the aggregates are ahead of their streams: throw them away.
        """
        with in_our_words():
            self.save(*aggregates, *also, idempotency_key=idempotency_key)

    def complete(self, release: Release, actor: str, *, now: int) -> None:
        """Completes a release and makes its bindings, in one batch.

        The pipeline's version is read before its entries are: what comes in between is a conflict.
        """
        stream = release.pipeline_stream
        version = self.reader.stream_version(stream)
        release.complete(actor, now=now, bound=bound_slots(self.reader, stream, now))
        if release.pending:
            events = enumerate(release.bindings(), start=version + 1)
            self.store(
                release,
                also=[Decision(stream, number, event, actor) for number, event in events],
                idempotency_key=f"{release.id}/completed",
            )

    def held(self, indexes: Sequence[int], *, now: int) -> Held:
        """Which of these entries may not be erased now, and because of which holds.

        Reads every hold; one that cannot be read (`IncompleteError`) stops the erasure as well.
        """
        entries = {index: self.reader.entry(index).stream for index in indexes}
        holds = (self.get(Hold, name) for name in self.ids(Hold))
        return held_entries(holds, entries, now)


def bound_slots(reader: Reader, stream: str, now: int) -> Mapping[str, str]:
    """What each slot of a pipeline's stream holds at `now`: the latest effective time, then index.

    Reads the whole stream; where many states are asked for, projections answer.
    """
    latest: dict[str, tuple[int, int, str | None]] = {}
    for record in reader.stream(stream):
        if not record.type.startswith("binding.") or record.effective_at > now:
            continue
        data = record.data or {}
        kept = (
            record.effective_at,
            record.index,
            data.get("asset_version") if record.type.startswith("binding.changed/") else None,
        )
        slot = data.get("slot", "")
        latest[slot] = max(latest.get(slot, kept), kept, key=lambda entry: entry[:2])
    return {slot: version for slot, (_, _, version) in latest.items() if version is not None}
