"""What changed between two states, field by field, and which entries did it.

::

    found = diff(reader, index, "demand-forecast", "production", start=then, end=now_, now=now)
    found.bindings[0].word, found.bindings[0].slot         # ('changed', 'model')
    found.bindings[0].fields[0].path                       # '/metadata/metrics/mape_percent'
    found.bindings[0].entries[-1].actor                    # 'user:81f3'

Both ends are whole positions (docs/spec/time.md), so one may also ask what became known about one
and the same instant. `start` is always "before": going backwards shows what a return would undo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ledger.canonical import format_time
from projections.at import position
from projections.html import html_table
from projections.state import state_at

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.record import Record
    from projections.at import Moment, Position
    from projections.index import Index
    from projections.state import Binding, State

__all__ = ["BindingDiff", "Diff", "FieldDiff", "Reason", "diff", "diff_states"]

Word = Literal["added", "changed", "removed"]
ENTRIES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDiff:
    """One field of an asset version's record, before and after, by JSON pointer; None: not
    there."""

    path: str
    before: Any
    after: Any

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """An entry between the two positions: who did what, when and why."""

    index: int
    type: str
    actor: str
    recorded_at: int
    effective_at: int
    reason: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "type": self.type,
            "actor": self.actor,
            "recorded_at": format_time(self.recorded_at),
            "effective_at": format_time(self.effective_at),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingDiff:
    """A slot that holds something else, and the entries in between that touched it.

    They are the newest `ENTRIES` and those that decide the two sides; `more` says there are others.
    """

    slot: str
    word: Word
    before: Binding | None
    after: Binding | None
    fields: tuple[FieldDiff, ...]
    entries: tuple[Reason, ...]
    more: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "slot": self.slot,
            "change": self.word,
            "before": _side(self.before),
            "after": _side(self.after),
            "fields": [item.as_json() for item in self.fields],
            "entries": [item.as_json() for item in self.entries],
            "more_entries": self.more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Two states of one pipeline and stage, compared."""

    before: State
    after: State
    bindings: tuple[BindingDiff, ...]
    traffic: tuple[FieldDiff, ...]
    traffic_entries: tuple[Reason, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both states have the same content."""
        return not self.bindings and not self.traffic

    def as_json(self) -> dict[str, Any]:
        return {
            "pipeline": self.after.pipeline,
            "stage": self.after.stage,
            "from": _end(self.before),
            "to": _end(self.after),
            "equal": self.is_empty,
            "bindings": [item.as_json() for item in self.bindings],
            "traffic": {
                "before": dict(self.before.traffic),
                "after": dict(self.after.traffic),
                "changes": [item.as_json() for item in self.traffic],
                "entries": [item.as_json() for item in self.traffic_entries],
            },
            "basis": self.after.basis.as_json(),
        }

    def summary(self) -> list[str]:
        """The difference in a few lines for people."""
        lines = [f"from {self.before.mode}", f"to   {self.after.mode}"]
        if self.is_empty:
            return [*lines, "  nothing is different"]
        for item in self.bindings:
            lines.append(f"  {item.slot} {item.word}: {_name(item.before)} -> {_name(item.after)}")
            lines += [f"      {f.path}: {f.before!r} -> {f.after!r}" for f in item.fields]
            lines += [f"      entry {_words(entry)}" for entry in item.entries]
            lines += ["      and earlier entries"] if item.more else []
        lines += [f"  traffic{f.path}: {f.before} -> {f.after}" for f in self.traffic]
        return lines + [f"      entry {_words(entry)}" for entry in self.traffic_entries]

    def _repr_html_(self) -> str:
        rows = [
            (item.slot, item.word, _name(item.before), _name(item.after)) for item in self.bindings
        ]
        caption = f"{self.after.pipeline} in {self.after.stage}: what changed"
        return html_table(caption, ("slot", "change", "before", "after"), rows)


def diff(
    reader: Reader,
    index: Index,
    pipeline: str,
    stage: str,
    *,
    start: Moment,
    end: Moment | None = None,
    start_known_at: Moment | None = None,
    end_known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
) -> Diff:
    """What is different at `end` (now by default) from `start`. Raises as `state` does."""
    before = position(reader, at=start, known_at=start_known_at, basis=basis, now=now)
    after = position(reader, at=end, known_at=end_known_at, basis=basis, now=now)
    return diff_states(
        reader,
        index,
        state_at(reader, index, pipeline, stage, before),
        state_at(reader, index, pipeline, stage, after),
    )


def diff_states(reader: Reader, index: Index, before: State, after: State) -> Diff:
    """Two states of one pipeline and stage, compared, with the entries between their positions."""
    lanes = index.lanes(after.pipeline, after.stage)
    between = (before.position, after.position)

    def entries(part: str, name: str) -> tuple[tuple[Reason, ...], bool]:
        return _between(reader, index, lanes.get((part, name)), *between)

    slots = sorted(before.bindings.keys() | after.bindings.keys())
    traffic = tuple(_fields(before.traffic, after.traffic))
    return Diff(
        before=before,
        after=after,
        bindings=tuple(
            _compared(
                slot,
                before.bindings.get(slot),
                after.bindings.get(slot),
                *_with_records(reader, before, after, slot, *entries("slot", slot)),
            )
            for slot in slots
            if _content(before, slot) != _content(after, slot)
        ),
        traffic=traffic,
        traffic_entries=entries("traffic", "live")[0] if traffic else (),
    )


def _content(state: State, slot: str) -> tuple[str, str | None] | None:
    bound = state.bindings.get(slot)
    return None if bound is None else (bound.asset_version, bound.digest)


def _with_records(
    reader: Reader, before: State, after: State, slot: str, found: tuple[Reason, ...], more: bool
) -> tuple[tuple[Reason, ...], bool]:
    """With the entry that recorded the version, where that is what changed what is known of it."""
    sides = (before.bindings.get(slot), after.bindings.get(slot))
    one, other = (None if side is None else (side.asset_version, side.recorded) for side in sides)
    if one is None or other is None or one[0] != other[0]:
        return found, more
    records = {entry for entry in (one[1], other[1]) if entry is not None}
    return (*found, *(_reason(reader.entry(entry)) for entry in sorted(records))), more


def _compared(
    slot: str,
    before: Binding | None,
    after: Binding | None,
    entries: tuple[Reason, ...],
    more: bool,
) -> BindingDiff:
    word: Word = "added" if before is None else "removed" if after is None else "changed"
    both = before is not None and after is not None
    fields = tuple(_fields(before.record, after.record)) if both and before and after else ()
    return BindingDiff(
        slot=slot,
        word=word,
        before=before,
        after=after,
        fields=fields,
        entries=entries,
        more=more,
    )


def _between(
    reader: Reader, index: Index, lane: int | None, one: Position, other: Position
) -> tuple[tuple[Reason, ...], bool]:
    """The entries of a lane that count at one of the two positions and not at the other."""
    if lane is None:
        return (), False
    times = min(one.at, other.at), max(one.at, other.at)
    knowns = min(one.known, other.known), max(one.known, other.known)
    newest = index.changes_between(lane, times, knowns, ENTRIES + 1)
    deciding = {index.latest(lane, where.at, where.known) for where in (one, other)} - {-1}
    records = [reader.entry(entry) for entry in sorted({*newest[-ENTRIES:], *deciding})]
    kept = [_reason(record) for record in records if _counts(record, one) != _counts(record, other)]
    return tuple(kept), len(newest) > ENTRIES


def _counts(record: Record, where: Position) -> bool:
    return record.index < where.known and record.effective_at <= where.at


def _reason(record: Record) -> Reason:
    return Reason(
        index=record.index,
        type=record.type,
        actor=record.actor,
        recorded_at=record.recorded_at,
        effective_at=record.effective_at,
        reason=(record.data or {}).get("reason"),
    )


_NOT_COMPARED: Final = frozenset(("effective_at", "reason", "change_id", "caused_by", "inferred"))
_NOWHERE: Final = object()


def _fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[FieldDiff]:
    """The fields that differ, deeper objects by JSON pointer, in the order of their paths."""
    kept = [
        {name: value for name, value in side.items() if name not in _NOT_COMPARED}
        for side in (before, after)
    ]
    yield from _fields_below("", *kept)


def _fields_below(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[FieldDiff]:
    for name in sorted(before.keys() | after.keys()):
        here = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        left, right = before.get(name, _NOWHERE), after.get(name, _NOWHERE)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _fields_below(here, left, right)
        elif left != right:
            yield FieldDiff(path=here, before=_shown(left), after=_shown(right))


def _shown(value: Any) -> Any:
    return None if value is _NOWHERE else value


def _side(bound: Binding | None) -> dict[str, Any] | None:
    return None if bound is None else bound.as_json()


def _end(state: State) -> dict[str, Any]:
    return {
        "mode": state.mode,
        "at": format_time(state.at),
        "known_at": state.known_at,
        "state_digest": state.state_digest,
    }


def _name(bound: Binding | None) -> str:
    return "nothing" if bound is None else f"{bound.asset_version} ({bound.digest})"


def _words(entry: Reason) -> str:
    why = f": {entry.reason}" if entry.reason else ""
    return f"{entry.index}, {entry.type} by {entry.actor}{why}"
