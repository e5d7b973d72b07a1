"""How a pipeline and stage came to be as they are: each change, in the order in which it took
effect.

::

    for change in history(reader, index, "demand-forecast", "production", slot="model", now=now):
        print(change.summary()[0])

One order everywhere: oldest first, by effective time, then index. Streamed by pages, so the whole
past of a pipeline may be longer than memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import format_time
from ledger.errors import NotFoundError
from projections.at import position
from projections.facts import Fact, fact_of, family_of, lane_of, shares_of
from projections.state import unknown_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.reader import Reader
    from projections.at import Moment
    from projections.index import Index

__all__ = ["HistoryEntry", "history"]

PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One change. `late` tells that it was recorded after it had taken effect."""

    index: int
    recorded_at: int
    effective_at: int
    type: str
    actor: str
    slot: str | None
    asset_version: str | None
    shares: Mapping[str, Any] | None
    reason: str | None

    @property
    def late(self) -> bool:
        """Whether it became known only after it held."""
        return self.effective_at < self.recorded_at

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "recorded_at": format_time(self.recorded_at),
            "effective_at": format_time(self.effective_at),
            "type": self.type,
            "actor": self.actor,
            "slot": self.slot,
            "asset_version": self.asset_version,
            "shares": None if self.shares is None else dict(self.shares),
            "reason": self.reason,
            "late": self.late,
        }

    def summary(self) -> list[str]:
        """The change in one line for people."""
        what = self.slot or ("traffic" if self.shares is not None else "definition")
        holds = self.asset_version or (dict(self.shares) if self.shares is not None else "-")
        when = format_time(self.effective_at)
        late = f" (recorded {format_time(self.recorded_at)})" if self.late else ""
        why = f": {self.reason}" if self.reason else ""
        return [f"{when}{late} entry {self.index} {what} -> {holds} by {self.actor}{why}"]


def history(
    reader: Reader,
    index: Index,
    pipeline: str,
    stage: str,
    *,
    slot: str | None = None,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    after: tuple[int, int] | None = None,
    now: int,
) -> Iterator[HistoryEntry]:
    """The changes in effect at a position, oldest first; of one slot, or of everything. `after`
    goes on behind a change: its effective time and its index.

    Raises NotFoundError, before anything is yielded, for a pipeline or slot of which there is no
    entry.
    """
    where = position(reader, at=at, known_at=known_at, basis=basis, now=now)
    if index.size() < where.basis:
        index.catch_up()
    if not index.knows(pipeline, stage, where.basis):
        raise unknown_pipeline(pipeline, stage, index.pipelines(where.basis))
    lane = _lane(index, pipeline, stage, slot)
    entries = index.changes_in_order(lane, at=where.at, known=where.known, after=after)
    return (_entry(fact) for fact in _facts(reader, entries))


def _lane(index: Index, pipeline: str, stage: str, slot: str | None) -> int:
    lanes = index.lanes(pipeline, stage)
    wanted = ("change", "") if slot is None else ("slot", slot)
    if wanted not in lanes and slot is not None:
        there = ", ".join(sorted(name for part, name in lanes if part == "slot")) or "none"
        raise NotFoundError(f"{pipeline} in {stage} has no slot {slot!r}; there is: {there}")
    return lanes.get(wanted, -1)


def _facts(reader: Reader, entries: Iterator[int]) -> Iterator[Fact]:
    """What was erased since it was indexed is passed over; `log` still shows its entry."""
    while page := list(islice(entries, PAGE)):
        rows = {row.index: row for row in reader.rows_at(sorted(page))}
        facts = (fact_of(rows[entry]) for entry in page)
        yield from (fact for fact in facts if fact is not None)


def _entry(fact: Fact) -> HistoryEntry:
    family = family_of(fact.type)
    part, name = lane_of(fact)
    return HistoryEntry(
        index=fact.entry,
        recorded_at=fact.recorded_at,
        effective_at=fact.effective_at,
        type=fact.type,
        actor=fact.actor,
        slot=name if part == "slot" else None,
        asset_version=str(fact.data["asset_version"]) if family == "binding.changed" else None,
        shares=shares_of(fact) if family == "traffic.changed" else None,
        reason=fact.data.get("reason"),
    )
