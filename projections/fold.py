"""The rule by which entries become the facts of a state: pure, in any order, in any parts.

::

    facts = folded(question, rows)                    # all at once
    facts = merged(folded(question, a), folded(question, b))      # or in parts, on two machines

Every fact goes to one of these tables and meets there at most one other fact about the same thing:

=========== ============================================ =======================================
table       keeps                                        of
=========== ============================================ =======================================
`latest`    the greatest by effective time, then index   what was in effect at the asked instant
`earliest`  the least by effective time, then index      withdrawals, the first change after
`first`     the least by index                           asset versions, which never change
`ended`     every stream, once                           runs, incidents, approvals that are over
=========== ============================================ =======================================

Greatest, least and union are associative, commutative and idempotent, so `merged` is too: a fold
may be split anywhere, run in parallel and be fed an entry twice. Memory grows with what the
question is about (its slots, its runs, what has ended), not with the log. Who calls sees to it that
only known entries come in; `folded` sees to it that only those in effect count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from projections.facts import (
    CHANGES,
    ENDS,
    STARTS,
    Fact,
    bare,
    concerns,
    fact_of,
    family_of,
    lane_of,
    pipeline_stream,
    rank,
    recorded_ref,
    shares_of,
    subject_of,
    withdrawn_ref,
)

if TYPE_CHECKING:
    from ledger.store import Row

__all__ = ["Facts", "Key", "Question", "apply", "approval_at", "bound_refs", "folded", "merged"]

Key = tuple[str, str]
"""What a fact is about: a table's part and a name, such as ("slot", "model") or ("run",
"train-42").
"""

Handler = Callable[["_Folder", "Row"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The part of a question that the fold needs: which pipeline and stage, in effect at what
    instant.
    """

    pipeline: str
    stage: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The tables. A value: nobody changes a `Facts` after it was returned."""

    latest: dict[Key, Fact] = field(default_factory=dict)
    earliest: dict[Key, Fact] = field(default_factory=dict)
    first: dict[Key, Fact] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


def folded(
    question: Question, rows: Iterable[Row], *, wanted: Collection[str] | None = None
) -> Facts:
    """The facts that these rows hold. `wanted` names the asset versions to keep; None keeps all."""
    folder = _Folder(question, wanted)
    folder.feed(rows)
    return folder.facts


def apply(facts: Facts, question: Question, row: Row) -> Facts:
    """The facts with one more row: the fold's single step, as a pure function."""
    return merged(facts, folded(question, (row,)))


def merged(left: Facts, right: Facts) -> Facts:
    """The facts of both. Associative and commutative; `Facts()` changes nothing."""
    return Facts(
        latest=_joined(left.latest, right.latest, _greater),
        earliest=_joined(left.earliest, right.earliest, _lesser),
        first=_joined(left.first, right.first, _first),
        ended=left.ended | right.ended,
    )


def _joined(
    left: dict[Key, Fact], right: dict[Key, Fact], choose: Callable[[Fact, Fact], Fact]
) -> dict[Key, Fact]:
    joined = dict(left)
    for key, fact in right.items():
        held = joined.get(key)
        joined[key] = fact if held is None else choose(held, fact)
    return joined


def _greater(one: Fact, other: Fact) -> Fact:
    return other if rank(other) > rank(one) else one


def _lesser(one: Fact, other: Fact) -> Fact:
    return other if rank(other) < rank(one) else one


def _first(one: Fact, other: Fact) -> Fact:
    return one if one.entry <= other.entry else other


def bound_refs(facts: Facts) -> set[str]:
    """The asset versions that the slots hold and the traffic names."""
    refs: set[str] = set()
    for (part, _), fact in facts.latest.items():
        if part == "slot" and family_of(fact.type) == "binding.changed":
            refs.add(str(fact.data.get("asset_version")))
        elif part == "traffic":
            refs.update(shares_of(fact))
    return refs


def approval_at(row: Row) -> Facts:
    """Which approval an entry belongs to: what a binding's `caused_by` may point at; else no
    facts.
    """
    family = family_of(row[4])
    fact = fact_of(row) if "approval" in (STARTS.get(family), ENDS.get(family)) else None
    if fact is None:
        return Facts()
    return Facts(first={("approval", str(fact.entry)): bare(fact)})


class _Types(dict[str, "Handler | None"]):
    """From a type to what is done with it, learned once per type: most entries cost one look-up.

    Functions, not methods: a folder that held methods of its own would be a circle, and the facts
    of each question would wait for the collector.
    """

    def __missing__(self, type_name: str) -> Handler | None:
        self[type_name] = _FAMILIES.get(family_of(type_name))
        return self[type_name]


class _Folder:
    """The hot loop's hands: tables that grow while rows pass by. Lives no longer than one
    `folded`.
    """

    def __init__(self, question: Question, wanted: Collection[str] | None) -> None:
        self.facts = Facts()
        self._question = question
        self._scope: Final = pipeline_stream(question.pipeline, question.stage)
        self._wanted = wanted
        self._wanted_streams = None if wanted is None else {_asset_stream(ref) for ref in wanted}
        self._handlers = _Types()

    def feed(self, rows: Iterable[Row]) -> None:
        handlers = self._handlers
        for row in rows:
            handle = handlers[row[4]]
            if handle is not None:
                handle(self, row)

    # 1. changes of the pipeline itself

    def _change(self, row: Row) -> None:
        if row[3] != self._scope:
            return
        fact = fact_of(row)
        if fact is None:
            self._keep_first(("unreadable", str(row[0])), _unread(row))
        elif not concerns(fact, self._question.pipeline, self._question.stage, strictly=True):
            return
        elif fact.effective_at > self._question.at:
            self._keep_earliest(("change", ""), fact)
        else:
            self._keep_latest(("change", ""), fact)
            self._keep_latest(lane_of(fact), fact)

    # 2. what begins and ends

    def _start(self, row: Row) -> None:
        kind = STARTS[family_of(row[4])]
        fact = self._in_effect(row, kind)
        question = self._question
        if fact is not None and concerns(
            fact, question.pipeline, question.stage, strictly=kind == "run"
        ):
            self._keep_latest((kind, subject_of(fact)), fact)

    def _end(self, row: Row) -> None:
        kind = ENDS[family_of(row[4])]
        fact = self._in_effect(row, kind)
        if fact is not None:
            self.facts.ended.add(fact.stream)

    def _in_effect(self, row: Row, kind: str) -> Fact | None:
        fact = fact_of(row) if row[3].startswith(f"{kind}/") else None
        if fact is None:
            return None
        if kind == "approval":  # a binding may name it as its cause, in effect or not
            self._keep_first(("approval", str(fact.entry)), bare(fact))
        return fact if fact.effective_at <= self._question.at else None

    # 3. asset versions

    def _asset(self, row: Row) -> None:
        """The first record of a version holds, whenever it took effect; another digest is kept
        beside it.
        """
        fact = self._wanted_fact(row)
        if fact is not None:
            ref = recorded_ref(fact)
            if ref is not None and (self._wanted is None or ref in self._wanted):
                self._keep_first(("asset", ref), fact)
                self._keep_first((f"digest {fact.data.get('digest')}", ref), bare(fact))

    def _withdrawal(self, row: Row) -> None:
        fact = self._wanted_fact(row)
        if fact is not None and fact.effective_at <= self._question.at:
            self._keep_earliest(("withdrawn", withdrawn_ref(fact)), fact)

    def _wanted_fact(self, row: Row) -> Fact | None:
        wanted = self._wanted_streams
        return fact_of(row) if wanted is None or row[3] in wanted else None

    # the tables

    def _keep_latest(self, key: Key, fact: Fact) -> None:
        held = self.facts.latest.get(key)
        if held is None or rank(fact) > rank(held):
            self.facts.latest[key] = fact

    def _keep_earliest(self, key: Key, fact: Fact) -> None:
        held = self.facts.earliest.get(key)
        if held is None or rank(fact) < rank(held):
            self.facts.earliest[key] = fact

    def _keep_first(self, key: Key, fact: Fact) -> None:
        held = self.facts.first.get(key)
        if held is None or fact.entry < held.entry:
            self.facts.first[key] = fact


_FAMILIES: Final[dict[str, Handler]] = {
    **dict.fromkeys(CHANGES, _Folder._change),
    **dict.fromkeys(STARTS, _Folder._start),
    **dict.fromkeys(ENDS, _Folder._end),
    "asset.version.recorded": _Folder._asset,
    "asset.version.withdrawn": _Folder._withdrawal,
}


def _asset_stream(ref: str) -> str:
    return f"asset/{ref.rpartition('@')[0]}"


def _unread(row: Row) -> Fact:
    return Fact(row[1], row[0], row[1], row[2], row[3], row[4], {})
