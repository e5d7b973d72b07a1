"""How entries become rows of the index: one batch at a time, in order, inside a transaction.

Each entry is read once and leaves positions behind: which lane it changes, what it begins or ends,
which asset versions it names. The rules are those of `fold`, asked the other way round: not "does
this entry count for my question?" but "for which questions could it count?".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
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

__all__ = ["OPEN", "Batch", "audience_of", "audiences", "bucket_of", "parse_audience"]

OPEN: Final = 63
BEFORE: Final = -1
ALL_CHANGES: Final = ("change", "")
NO_CHANGE: Final = (-(1 << 62), -1)

Adder = Callable[[Fact], None]


def bucket_of(duration: int) -> int:
    """The least b with duration <= 2^b; -1 for what lasted no time at all."""
    return (duration - 1).bit_length() if duration > 0 else BEFORE


def audience_of(pipeline: object, stage: object) -> str:
    """Whom a run, incident or approval concerns, as one text; null stands for everyone."""
    return orjson.dumps([pipeline, stage], default=str).decode()


def parse_audience(text: str) -> tuple[str, str]:
    """The pipeline and stage of a lane's audience."""
    pipeline, stage = orjson.loads(text)
    return str(pipeline), str(stage)


def audiences(pipeline: str, stage: str) -> list[str]:
    """The audiences that a pipeline and stage belong to."""
    return [audience_of(*pair) for pair in product((pipeline, None), (stage, None))]


class Batch:
    """Rows on their way into the tables. What only grows is collected and written at the end."""

    def __init__(self, connection: sqlite3.Connection, statements: dict[str, str]) -> None:
        self._connection = connection
        self._sql = statements
        self._names: dict[str, int] = {}
        self._scopes: set[int] = set()
        self._lanes: dict[tuple[int, str, str], int] = {}
        self._tops: dict[int, tuple[int, int]] = {}
        self._pending: dict[str, list[tuple[Any, ...]]] = {}
        self._adders: dict[str, Adder] = dict.fromkeys(STARTS, self._start)
        self._adders |= dict.fromkeys(ENDS, self._end)
        self._adders["asset.version.recorded"] = self._record
        self._adders["asset.version.withdrawn"] = self._withdraw

    def add(self, rows: Iterable[Row]) -> None:
        """Index these rows, which follow those indexed so far."""
        for row in rows:
            family = family_of(row[4])
            if family in CHANGES:
                self._change(row)
            elif (add := self._adders.get(family)) is not None:
                fact = fact_of(row)
                if fact is not None:
                    add(fact)
        for name, values in self._pending.items():
            self._connection.executemany(self._sql[name], values)

    # --- changes of a pipeline -----------------------------------------------------------------

    def _change(self, row: Row) -> None:
        stream = row[3]
        if not stream.startswith("pipeline/"):
            return
        scope = self._scope(stream, row[0])
        fact = fact_of(row)
        if fact is None:
            self._later("add_unreadable", scope, row[0])
        elif _lies_in_its_stream(fact):
            audience = self._name(audience_of(fact.data.get("pipeline"), fact.data.get("stage")))
            self._add_to_lane(self._lane(audience, ALL_CHANGES), fact)
            lane = self._lane(audience, lane_of(fact))
            self._add_to_lane(lane, fact)
            for ref in _refs_used(fact):
                self._later("add_use", self._name(ref), lane, fact.effective_at, fact.entry)

    def _add_to_lane(self, lane: int, fact: Fact) -> None:
        top = max(self._top(lane), (fact.effective_at, fact.entry))
        self._tops[lane] = top
        self._later("add_change", lane, fact.effective_at, fact.entry)
        self._later("add_known", lane, fact.entry, *top)

    def _top(self, lane: int) -> tuple[int, int]:
        if lane not in self._tops:
            row = self._one("top", lane, 1 << 62)
            self._tops[lane] = NO_CHANGE if row is None else (int(row[0]), int(row[1]))
        return self._tops[lane]

    def _scope(self, stream: str, index: int) -> int:
        scope = self._name(stream)
        if scope not in self._scopes:
            self._connection.execute(self._sql["add_scope"], (scope, index))
            self._scopes.add(scope)
        return scope

    def _lane(self, audience: int, subject: tuple[str, str]) -> int:
        key = (audience, *subject)
        if key not in self._lanes:
            row = self._one("lane_id", *key)
            self._lanes[key] = self._insert("add_lane", *key) if row is None else int(row[0])
        return self._lanes[key]

    # --- what begins and ends ------------------------------------------------------------------

    def _start(self, fact: Fact) -> None:
        kind = STARTS[family_of(fact.type)]
        if not fact.stream.startswith(f"{kind}/"):
            return
        subject = self._name(fact.stream)
        audience = audience_of(fact.data.get("pipeline"), fact.data.get("stage"))
        end = self._one("first_end", subject)
        buckets = (OPEN, OPEN) if end is None else _buckets(fact.entry, fact.effective_at, end)
        values = (fact.entry, self._name(audience), subject, fact.effective_at, *buckets)
        self._connection.execute(self._sql["add_span"], values)
        if kind == "run":
            self._add_run_assets(subject, 0, "inputs", fact)

    def _end(self, fact: Fact) -> None:
        """The first end recorded closes the spans of its subject; later ones are only kept."""
        kind = ENDS[family_of(fact.type)]
        if not fact.stream.startswith(f"{kind}/"):
            return
        subject = self._name(fact.stream)
        end = (fact.entry, fact.effective_at)
        if self._one("first_end", subject) is None:
            for entry, effective_at in self._all("spans_of_subject", subject):
                buckets = _buckets(entry, effective_at, end)
                self._connection.execute(self._sql["close_span"], (*buckets, entry))
        self._connection.execute(self._sql["add_end"], (subject, *end))
        if kind == "run":
            self._add_run_assets(subject, 1, "outputs", fact)

    def _add_run_assets(self, run: int, role: int, field: str, fact: Fact) -> None:
        for ref in words(fact.data.get(field)):
            self._later("add_run_asset", run, role, self._name(ref), fact.entry, fact.effective_at)

    # --- asset versions ------------------------------------------------------------------------

    def _record(self, fact: Fact) -> None:
        ref = recorded_ref(fact)
        if ref is None:
            return
        child = self._name(ref)
        self._later("add_asset", child, str(fact.data.get("digest")), fact.entry)
        for parent in words(fact.data.get("parents")):
            self._later("add_parent", child, self._name(parent), fact.entry, fact.effective_at)

    def _withdraw(self, fact: Fact) -> None:
        self._later("add_withdrawal", self._name(withdrawn_ref(fact)), fact.entry)

    # --- SQL -----------------------------------------------------------------------------------

    def _name(self, text: str) -> int:
        found = self._names.get(text)
        if found is None:
            row = self._one("name_id", text)
            found = self._insert("add_name", text) if row is None else int(row[0])
            self._names[text] = found
        return found

    def _later(self, name: str, *values: Any) -> None:
        self._pending.setdefault(name, []).append(values)

    def _one(self, name: str, *values: Any) -> Any:
        return self._connection.execute(self._sql[name], values).fetchone()

    def _all(self, name: str, *values: Any) -> list[Any]:
        return self._connection.execute(self._sql[name], values).fetchall()

    def _insert(self, name: str, *values: Any) -> int:
        added = self._connection.execute(self._sql[name], values).lastrowid
        if added is None:
            raise AssertionError("SQLite gives a row id for every insert into such a table")
        return added


def _buckets(entry: int, effective_at: int, end: Sequence[int]) -> tuple[int, int]:
    """How long a span lasted until its first end, on both axes."""
    return bucket_of(end[1] - effective_at), bucket_of(end[0] - entry)


def _lies_in_its_stream(fact: Fact) -> bool:
    pipeline, stage = fact.data.get("pipeline"), fact.data.get("stage")
    return fact.stream == f"pipeline/{pipeline}@{stage}"


def _refs_used(fact: Fact) -> list[str]:
    family = family_of(fact.type)
    if family == "traffic.changed":
        return list(shares_of(fact))
    return [str(fact.data.get("asset_version"))] if family == "binding.changed" else []
