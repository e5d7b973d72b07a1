"""How entries become rows of the index: a batch at a time, in order, inside a transaction.

Each entry is read once and leaves traces: which lane it changes, what it begins or ends, which
asset versions it names. The rules are those of `fold`, asked the other way round: not "does this
entry count for my question?" but "for which questions could it count?".

It is done in two steps, so that a batch of thousands costs a handful of statements and not
thousands:

1. `Traces` reads the entries and writes down what they leave, by name. Nothing is looked up.
2. `write` gives every name its number, looks up in bulk what was there before (names, lanes, their
   greatest changes, first ends), and hands each table its rows at once.

What was looked up is remembered in `Remembered` from batch to batch, up to a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import orjson

from projections.facts import (
    CHANGES,
    ENDS,
    STARTS,
    Fact,
    fact_of,
    family_of,
    lane_of,
    recorded_ref,
    shares_of,
    withdrawn_ref,
    words,
)

if TYPE_CHECKING:
    from ledger.store import Row
    from projections.tables import Build, Tables

__all__ = [
    "OPEN",
    "Remembered",
    "Traces",
    "audience_of",
    "audiences",
    "bucket_of",
    "parse_audience",
    "write",
]

OPEN: Final = 63
BEFORE: Final = -1
ALL_CHANGES: Final = ("change", "")
NO_CHANGE: Final = (-(1 << 62), -1)
MOST_REMEMBERED: Final = 200_000

Lane = tuple[str, str, str]
"""An audience, a part and a name."""

Rows = list[tuple[Any, ...]]
Tracer = Callable[["Row"], None]


def bucket_of(duration: int) -> int:
    """The least b with duration <= 2^b; -1 for what lasted no time at all."""
    return (duration - 1).bit_length() if duration > 0 else BEFORE


def audience_of(pipeline: object, stage: object) -> str:
    """Whom a run, incident or approval concerns, as one text; null stands for everyone."""
    if type(pipeline) is str and type(stage) is str:
        return _audience_of_names(pipeline, stage)
    return orjson.dumps([pipeline, stage], default=str).decode()


@lru_cache(maxsize=4_096)
def _audience_of_names(pipeline: str, stage: str) -> str:
    return orjson.dumps([pipeline, stage]).decode()


def parse_audience(text: str) -> tuple[str, str]:
    """The pipeline and stage of a lane's audience."""
    pipeline, stage = orjson.loads(text)
    return str(pipeline), str(stage)


def audiences(pipeline: str, stage: str) -> list[str]:
    """The audiences that a pipeline and stage belong to."""
    return [audience_of(*pair) for pair in product((pipeline, None), (stage, None))]


class _Tracers(dict[str, "Tracer | None"]):
    """From a type to what it leaves, learned once a type: most entries cost one look-up."""

    def __init__(self, families: dict[str, Tracer]) -> None:
        super().__init__()
        self._families = families

    def __missing__(self, type_name: str) -> Tracer | None:
        self[type_name] = self._families.get(family_of(type_name))
        return self[type_name]


class Traces:
    """What entries leave behind, by name, in the order of the entries.

    `names` has every text in the order of its first appearance, from which numbers are given: the
    same log gives the same numbers, whatever its batches.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.names: dict[str, None] = {}
        self.scopes: dict[str, int] = {}
        self.lanes: dict[Lane, None] = {}
        self.changes: list[tuple[Lane, int, int]] = []
        self.unreadable: list[tuple[str, int]] = []
        self.uses: list[tuple[str, Lane, int, int]] = []
        self.spans: list[tuple[int, str, str, int]] = []
        self.ends: list[tuple[str, int, int]] = []
        self.run_assets: list[tuple[str, int, str, int, int]] = []
        self.assets: list[tuple[str, str, int]] = []
        self.withdrawals: list[tuple[str, int]] = []
        self.parents: list[tuple[str, str, int, int]] = []
        families: dict[str, Tracer] = dict.fromkeys(CHANGES, self._change)
        families |= dict.fromkeys(STARTS, self._start)
        families |= dict.fromkeys(ENDS, self._end)
        families["asset.version.recorded"] = self._record
        families["asset.version.withdrawn"] = self._withdraw
        tracers = _Tracers(families)
        for row in rows:
            trace = tracers[row[4]]
            if trace is not None:
                trace(row)

    # --- changes of a pipeline -----------------------------------------------------------------

    def _change(self, row: Row) -> None:
        stream = row[3]
        if not stream.startswith("pipeline/"):
            return
        self.scopes.setdefault(self._named(stream), row[0])
        fact = fact_of(row)
        if fact is None:
            self.unreadable.append((stream, row[0]))
        elif _lies_in_its_stream(fact):
            pipeline, stage = fact.data.get("pipeline"), fact.data.get("stage")
            audience = self._named(audience_of(pipeline, stage))
            self._add_to_lane((audience, *ALL_CHANGES), fact)
            lane = (audience, *lane_of(fact))
            self._add_to_lane(lane, fact)
            for ref in _refs_used(fact):
                self.uses.append((self._named(ref), lane, fact.effective_at, fact.entry))

    def _add_to_lane(self, lane: Lane, fact: Fact) -> None:
        self.lanes[lane] = None
        self.changes.append((lane, fact.effective_at, fact.entry))

    # --- what begins and ends ------------------------------------------------------------------

    def _start(self, row: Row) -> None:
        fact = _of_stream(row, STARTS)
        if fact is None:
            return
        subject = self._named(fact.stream)
        audience = self._named(audience_of(fact.data.get("pipeline"), fact.data.get("stage")))
        self.spans.append((fact.entry, audience, subject, fact.effective_at))
        if STARTS[family_of(fact.type)] == "run":
            self._add_run_assets(subject, 0, "inputs", fact)

    def _end(self, row: Row) -> None:
        fact = _of_stream(row, ENDS)
        if fact is None:
            return
        subject = self._named(fact.stream)
        self.ends.append((subject, fact.entry, fact.effective_at))
        if ENDS[family_of(fact.type)] == "run":
            self._add_run_assets(subject, 1, "outputs", fact)

    def _add_run_assets(self, run: str, role: int, field: str, fact: Fact) -> None:
        for ref in dict.fromkeys(words(fact.data.get(field))):
            self.run_assets.append((run, role, self._named(ref), fact.entry, fact.effective_at))

    # --- asset versions ------------------------------------------------------------------------

    def _record(self, row: Row) -> None:
        fact = fact_of(row)
        ref = None if fact is None else recorded_ref(fact)
        if fact is None or ref is None:
            return
        child = self._named(ref)
        self.assets.append((child, str(fact.data.get("digest")), fact.entry))
        for parent in dict.fromkeys(words(fact.data.get("parents"))):
            self.parents.append((child, self._named(parent), fact.entry, fact.effective_at))

    def _withdraw(self, row: Row) -> None:
        fact = fact_of(row)
        if fact is not None:
            self.withdrawals.append((self._named(withdrawn_ref(fact)), fact.entry))

    def _named(self, text: str) -> str:
        self.names[text] = None
        return text


class Remembered:
    """What was looked up in a build, for the batch that follows.

    It holds while the build is exactly as we left it; where anybody else has written, dropped or
    switched, it is made anew. Memory is bounded: what is too much is forgotten whole.
    """

    def __init__(self, build: Build | None = None) -> None:
        self.build = build
        self.names: dict[str, int] = {}
        self.lanes: dict[Lane, int] = {}
        self.audiences: set[int] = set()
        self.tops: dict[int, tuple[int, int]] = {}
        self.last_ids: tuple[int, int] | None = None

    def for_build(self, build: Build) -> Remembered:
        """This, or a new one where this does not hold for the build as it is now."""
        if build != self.build:
            return Remembered(build)
        if len(self.names) > MOST_REMEMBERED:
            self.names.clear()
        if len(self.lanes) > MOST_REMEMBERED:
            self.lanes.clear()
            self.audiences.clear()
            self.tops.clear()
        return self


def write(tables: Tables, traces: Traces, held: Remembered) -> None:
    """Write what was left, inside `tables.writing()`; `held` holds for the build as it is."""
    _Batch(tables, traces, held).write()


class _Batch:
    """One batch on its way into the tables. Lives no longer than one `write`."""

    def __init__(self, tables: Tables, traces: Traces, held: Remembered) -> None:
        self._tables = tables
        self._traces = traces
        self._held = held
        self._pending: dict[str, Rows] = {}

    def write(self) -> None:
        ends, spans = self._look_up()
        self._number_lanes()
        self._add_changes()
        self._add_spans(ends, spans)
        self._add_versions()
        for statement, rows in self._pending.items():
            self._tables.add(statement, rows)

    # 1. numbers for names and lanes

    def _look_up(self) -> tuple[dict[int, tuple[int, int]], Rows]:
        """Number the names; then find lanes, first ends and spans of those that were there: about a
        new name nothing can be.
        """
        first_new = self._number_names()
        names, traces = self._held.names, self._traces
        lanes = {names[audience] for audience, _, _ in traces.lanes} - self._held.audiences
        ended = {names[subject] for subject, _, _ in traces.ends}
        begun = {names[subject] for _, _, subject, _ in traces.spans}
        old = [number for number in ended | begun if number < first_new]
        found = self._tables.ask(
            ("lanes_of", {"audiences": [number for number in lanes if number < first_new]}),
            ("first_ends", {"subjects": old}),
            ("spans_of", {"subjects": [number for number in ended if number < first_new]}),
        )
        texts = {names[audience]: audience for audience, _, _ in traces.lanes}
        for audience, part, name, lane in found[0]:
            self._held.lanes[texts[audience], part, name] = lane
        self._held.audiences |= lanes
        return {subject: (entry, at) for subject, entry, at in found[1]}, found[2]

    def _number_names(self) -> int:
        """Returns the least number that is new."""
        held = self._held
        unknown = [text for text in self._traces.names if text not in held.names]
        found, ids = self._tables.ask(("name_ids", {"texts": unknown}), ("greatest_ids", {}))
        held.names.update(found)
        if held.last_ids is None:
            held.last_ids = (ids[0][0], ids[0][1])
        last, last_lane = held.last_ids
        new = [text for text in unknown if text not in held.names]
        for number, text in enumerate(new, last + 1):
            held.names[text] = number
            self._later("add_name", number, text)
        held.last_ids = (last + len(new), last_lane)
        return last + 1

    def _number_lanes(self) -> None:
        """Number the new lanes, and learn the greatest change of those that were there."""
        held = self._held
        last, last_lane = held.last_ids or (0, 0)
        first_lane = last_lane + 1
        for lane in self._traces.lanes:
            if lane not in held.lanes:
                last_lane += 1
                held.lanes[lane] = last_lane
                audience, part, name = lane
                self._later("add_lane", last_lane, held.names[audience], part, name)
        held.last_ids = (last, last_lane)
        numbers = [held.lanes[lane] for lane in self._traces.lanes]
        unknown = [lane for lane in numbers if lane < first_lane and lane not in held.tops]
        (found,) = self._tables.ask(("tops", {"lanes": unknown})) if unknown else ([],)
        held.tops.update((lane, (at, entry)) for lane, at, entry in found)

    # 2. rows

    def _add_changes(self) -> None:
        names, lanes, tops = self._held.names, self._held.lanes, self._held.tops
        changes, known = self._rows("add_change"), self._rows("add_known")
        for key, at, entry in self._traces.changes:
            lane = lanes[key]
            top = tops[lane] = max(tops.get(lane, NO_CHANGE), (at, entry))
            changes.append((lane, at, entry))
            known.append((lane, entry, *top))
        self._rows("add_scope").extend(
            (names[stream], entry) for stream, entry in self._traces.scopes.items()
        )
        self._rows("add_unreadable").extend(
            (names[stream], entry) for stream, entry in self._traces.unreadable
        )
        self._rows("add_use").extend(
            (names[ref], lanes[key], at, entry) for ref, key, at, entry in self._traces.uses
        )

    def _add_spans(self, ends: dict[int, tuple[int, int]], spans: Rows) -> None:
        """The first end recorded closes the spans of its subject; later ones are only kept."""
        names = self._held.names
        before = set(ends)
        for subject, entry, at in self._traces.ends:
            ends.setdefault(names[subject], (entry, at))
            self._later("add_end", names[subject], entry, at)
        for entry, audience, subject, at in self._traces.spans:
            number = names[subject]
            self._later(
                "add_span", entry, names[audience], number, at, *_buckets(entry, at, ends, number)
            )
        for number, entry, at in spans:
            if number not in before:
                self._later("close_span", *_buckets(entry, at, ends, number), entry)

    def _add_versions(self) -> None:
        names = self._held.names
        self._rows("add_asset").extend(
            (names[ref], digest, entry) for ref, digest, entry in self._traces.assets
        )
        self._rows("add_withdrawal").extend(
            (names[ref], entry) for ref, entry in self._traces.withdrawals
        )
        self._rows("add_parent").extend(
            (names[child], names[parent], entry, at)
            for child, parent, entry, at in self._traces.parents
        )
        self._rows("add_run_asset").extend(
            (names[run], role, names[ref], entry, at)
            for run, role, ref, entry, at in self._traces.run_assets
        )

    def _rows(self, statement: str) -> Rows:
        return self._pending.setdefault(statement, [])

    def _later(self, statement: str, *values: Any) -> None:
        self._rows(statement).append(values)


def _buckets(
    entry: int, effective_at: int, ends: dict[int, tuple[int, int]], subject: int
) -> tuple[int, int]:
    """How long a span lasted until its first end, on both axes."""
    end = ends.get(subject)
    if end is None:
        return OPEN, OPEN
    return bucket_of(end[1] - effective_at), bucket_of(end[0] - entry)


def _of_stream(row: Row, words_of: dict[str, str]) -> Fact | None:
    """What the row says, where it lies in a stream of its kind and can be read."""
    return fact_of(row) if row[3].startswith(f"{words_of[family_of(row[4])]}/") else None


def _lies_in_its_stream(fact: Fact) -> bool:
    pipeline, stage = fact.data.get("pipeline"), fact.data.get("stage")
    return fact.stream == f"pipeline/{pipeline}@{stage}"


def _refs_used(fact: Fact) -> Sequence[str]:
    family = family_of(fact.type)
    if family == "traffic.changed":
        return list(shares_of(fact))
    return [str(fact.data.get("asset_version"))] if family == "binding.changed" else []
