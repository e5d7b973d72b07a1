"""What a pipeline and stage held: the answer to "what ran at T?", and the one place that words it.

::

    now = clock()
    at = parse_at("2026-10-14T09:30:00Z", reader=reader, now=now)
    answer = state(reader, index, "demand-forecast", "production", at=at, now=now)
    answer.bindings["model"].asset_version       # 'model/forecaster@7'
    answer.state_digest                          # the same for the same content
    answer.as_json()                             # rules: docs/spec/state.md

`state` finds the few entries that matter through the index; `replay.replayed` reads all of them.
Both give the facts to `state_of`, so they can differ only in which entries they found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import canonical_digest, format_time
from ledger.errors import NotFoundError
from projections.at import position
from projections.facts import Fact, family_of, parse_ref, rank, shares_of, subject_of
from projections.fold import Facts, Question, approval_at, bound_refs, folded, merged
from projections.html import html_table

if TYPE_CHECKING:
    from ledger.reader import Basis, Reader
    from projections.at import Moment, Position
    from projections.index import Index

__all__ = [
    "Binding",
    "Change",
    "Open",
    "Since",
    "State",
    "causes_named",
    "state",
    "state_digest_now",
    "state_of",
]

UNRECORDED: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """The entry from which something holds, on both axes."""

    index: int
    recorded_at: int
    effective_at: int

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "recorded_at": format_time(self.recorded_at),
            "effective_at": format_time(self.effective_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry that changed the pipeline: one of the two that bracket the asked instant."""

    index: int
    effective_at: int
    type: str

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "effective_at": format_time(self.effective_at),
            "type": self.type,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a slot holds. What the version's own record does not say, or no entry says, is None."""

    slot: str
    asset_version: str
    kind: str | None
    name: str | None
    version: str | None
    digest: str | None
    location: str | None
    source: Mapping[str, Any] | None
    restorable: str | None
    since: Since
    by: str
    reason: str | None
    approval: str | None
    record: Mapping[str, Any]
    recorded: int | None

    def as_json(self) -> dict[str, Any]:
        """The binding as in a state's JSON; the version's own record is left to `show`."""
        shown = (name for name in self.__slots__ if name not in ("slot", "record", "recorded"))
        plain = {name: getattr(self, name) for name in shown}
        return plain | {"since": self.since.as_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A run in progress, or an incident or approval that is open."""

    what: str
    id: str
    since: Since
    by: str
    data: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        told = {name: value for name, value in self.data.items() if name not in _SAID_BY_SINCE}
        return told | {self.what: self.id, "since": self.since.as_json(), "by": self.by}


_SAID_BY_SINCE: Final = ("effective_at",)


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything bound, running and served for a pipeline and stage, at a position on both axes."""

    pipeline: str
    stage: str
    mode: str
    at: int
    known_at: str | None
    bindings: Mapping[str, Binding]
    traffic: Mapping[str, Any]
    shadow: Mapping[str, Any]
    runs: tuple[Open, ...]
    incidents: tuple[Open, ...]
    approvals: tuple[Open, ...]
    missing: tuple[str, ...]
    before: Change | None
    after: Change | None
    basis: Basis
    warnings: tuple[str, ...]
    slots: tuple[Mapping[str, Any], ...]
    traffic_mode: str | None
    position: Position

    @cached_property
    def state_digest(self) -> str:
        """SHA-256 of the content's canonical JSON: what is bound and served, not since when or by
        whom.
        """
        return canonical_digest(self.content())

    def content(self) -> dict[str, Any]:
        """What the digest covers."""
        return {
            "bindings": {
                slot: {"asset_version": bound.asset_version, "digest": bound.digest}
                for slot, bound in self.bindings.items()
            },
            "pipeline": self.pipeline,
            "stage": self.stage,
            "traffic": dict(self.traffic),
        }

    def as_json(self) -> dict[str, Any]:
        """The answer as docs/spec/state.md describes it: unknown is None, nothing is left out."""
        return {
            "pipeline": self.pipeline,
            "stage": self.stage,
            "mode": self.mode,
            "at": format_time(self.at),
            "known_at": self.known_at,
            "bindings": {slot: bound.as_json() for slot, bound in self.bindings.items()},
            "traffic": dict(self.traffic),
            "shadow": dict(self.shadow),
            "runs": [item.as_json() for item in self.runs],
            "open": {
                "incidents": [item.as_json() for item in self.incidents],
                "approvals": [item.as_json() for item in self.approvals],
            },
            "missing": list(self.missing),
            "before": None if self.before is None else self.before.as_json(),
            "after": None if self.after is None else self.after.as_json(),
            "warnings": list(self.warnings),
            "basis": self.basis.as_json(),
            "state_digest": self.state_digest,
        }

    def summary(self) -> list[str]:
        """The answer in a few lines for people."""
        lines = [f"{self.pipeline} in {self.stage}, {self.mode}"]
        lines += [
            f"  {slot}: {bound.asset_version} since {format_time(bound.since.effective_at)}"
            f" (entry {bound.since.index}, by {bound.by})"
            for slot, bound in self.bindings.items()
        ]
        if not self.bindings:
            lines.append("  nothing was bound")
        lines += [f"  traffic: {percent} % to {ref}" for ref, percent in self.traffic.items()]
        lines += [f"  {item.what} {item.id} is open" for item in self._all_open()]
        lines += [f"  {slot}: missing, and it is required" for slot in self.missing]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return [*lines, f"  stands on {self.basis.tree_size} entries; {self.state_digest}"]

    def _all_open(self) -> tuple[Open, ...]:
        return self.runs + self.incidents + self.approvals

    def _repr_html_(self) -> str:
        rows = [
            (
                slot,
                bound.asset_version,
                bound.digest,
                format_time(bound.since.effective_at),
                bound.by,
            )
            for slot, bound in self.bindings.items()
        ]
        caption = f"{self.pipeline} in {self.stage}, {self.mode}"
        return html_table(caption, ("slot", "asset version", "digest", "since", "by"), rows)


# --- asking -----------------------------------------------------------------------------------


def state(
    reader: Reader,
    index: Index,
    pipeline: str,
    stage: str,
    *,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
) -> State:
    """The state, found through the index, which is brought up to the basis first.

    Costs a few b-tree probes a slot and reads the entries that they name, whatever the log's
    length. Raises NotFoundError where the ledger knows no such pipeline and stage, or not so many
    entries.
    """
    where = position(reader, at=at, known_at=known_at, basis=basis, now=now)
    return state_at(reader, index, pipeline, stage, where)


def state_at(reader: Reader, index: Index, pipeline: str, stage: str, where: Position) -> State:
    """`state` at a position that is already resolved."""
    question = Question(pipeline=pipeline, stage=stage, at=where.at)
    facts = _found(reader, index, question, where)
    if facts is None:
        raise unknown_pipeline(pipeline, stage, index.pipelines(where.basis))
    return state_of(facts, question, where, reader.basis(where.basis, head=where.head))


def _found(reader: Reader, index: Index, question: Question, where: Position) -> Facts | None:
    """The facts in the entries that the index names; other entries could not change any of them.
    None where it knows no such pipeline and stage.
    """
    build, entries = index.deciding(question, where.known, where.basis)
    if entries is None:
        return None
    facts = folded(question, reader.rows_at(entries), wanted=())
    refs = bound_refs(facts)
    same, records = index.records(refs, where.known)
    if same != build:  # another went live meanwhile, and an answer is of one
        return _found(reader, index, question, where)
    causes = causes_named(facts, where.known)
    rows = {row.index: row for row in reader.rows_at({*records, *causes})}
    recorded = folded(question, (rows[entry] for entry in records), wanted=refs)
    approvals = (approval_at(rows[entry]) for entry in causes)
    return reduce(merged, approvals, merged(facts, recorded))


def state_digest_now(
    reader: Reader, index: Index, pipeline: str, stage: str, *, now: int
) -> str | None:
    """What `run.started` states as `state_digest`; None where the pipeline is not known yet."""
    try:
        return state(reader, index, pipeline, stage, now=now).state_digest
    except NotFoundError:
        return None


def unknown_pipeline(
    pipeline: str, stage: str, known: Collection[tuple[str, str]]
) -> NotFoundError:
    """The error for a pipeline and stage of which there is no entry; it names some that there
    are.
    """
    some = ", ".join(f"{name} in {of}" for name, of in sorted(known)[:8]) or "none yet"
    return NotFoundError(
        f"no entry is about {pipeline!r} in stage {stage!r}; this ledger knows: {some}"
    )


def causes_named(facts: Facts, known: int) -> list[int]:
    """The known entries that the bindings in effect name as their causes, in order."""
    return sorted(
        {
            cause
            for (part, _), fact in facts.latest.items()
            if part == "slot"
            for cause in _causes(fact)
            if cause < known
        }
    )


def _causes(fact: Fact) -> list[int]:
    causes = fact.data.get("caused_by")
    if not isinstance(causes, list):
        return []
    return [cause for cause in causes if isinstance(cause, int) and cause >= 0]


# --- from facts to the answer -----------------------------------------------------------------


def state_of(facts: Facts, question: Question, where: Position, basis: Basis) -> State:
    """The state that these facts describe. Pure: the same for indexed and replayed facts."""
    bindings = {
        slot: _binding(facts, slot, fact)
        for (part, slot), fact in sorted(facts.latest.items())
        if part == "slot" and family_of(fact.type) == "binding.changed"
    }
    slots = _defined_slots(facts)
    return State(
        pipeline=question.pipeline,
        stage=question.stage,
        mode=where.mode,
        at=where.at,
        known_at=where.known_at,
        bindings=bindings,
        traffic=_shares(facts, "live"),
        shadow=_shares(facts, "shadow"),
        runs=_still_open(facts, "run"),
        incidents=_still_open(facts, "incident"),
        approvals=_still_open(facts, "approval"),
        missing=tuple(sorted(_required(slots) - bindings.keys())),
        before=_bracket(facts.latest.get(("change", ""))),
        after=_bracket(facts.earliest.get(("change", ""))),
        basis=basis,
        warnings=tuple(_warnings(facts, bindings)),
        slots=slots,
        traffic_mode=_traffic_mode(facts),
        position=where,
    )


def _since(fact: Fact) -> Since:
    return Since(index=fact.entry, recorded_at=fact.recorded_at, effective_at=fact.effective_at)


def _binding(facts: Facts, slot: str, fact: Fact) -> Binding:
    ref = str(fact.data.get("asset_version"))
    recorded = facts.first.get(("asset", ref))
    record = UNRECORDED if recorded is None else recorded.data
    parts = parse_ref(ref)
    return Binding(
        slot=slot,
        asset_version=ref,
        kind=None if parts is None else parts.kind,
        name=None if parts is None else parts.name,
        version=None if parts is None else parts.version,
        digest=record.get("digest"),
        location=record.get("location"),
        source=record.get("source"),
        restorable=record.get("restorable", None if recorded is None else "verify_only"),
        since=_since(fact),
        by=fact.actor,
        reason=fact.data.get("reason"),
        approval=_approval(facts, fact),
        record=record,
        recorded=None if recorded is None else recorded.entry,
    )


def _approval(facts: Facts, fact: Fact) -> str | None:
    """The approval that the entry names, or the last one among the entries that caused it."""
    named = fact.data.get("approval")
    if isinstance(named, str):
        return named
    approvals = [facts.first.get(("approval", str(cause))) for cause in sorted(_causes(fact))]
    found = [approval.stream for approval in approvals if approval is not None]
    return found[-1] if found else None


def _shares(facts: Facts, lane: str) -> Mapping[str, Any]:
    fact = facts.latest.get(("traffic", lane))
    return {} if fact is None else dict(sorted(shares_of(fact).items()))


def _traffic_mode(facts: Facts) -> str | None:
    fact = facts.latest.get(("traffic", "live"))
    return None if fact is None else str(fact.data.get("mode"))


def _still_open(facts: Facts, kind: str) -> tuple[Open, ...]:
    """What began by the asked instant and is not known to have ended by then; oldest first."""
    begun = [
        fact
        for (part, _), fact in facts.latest.items()
        if part == kind and fact.stream not in facts.ended
    ]
    return tuple(
        Open(what=kind, id=subject_of(fact), since=_since(fact), by=fact.actor, data=fact.data)
        for fact in sorted(begun, key=rank)
    )


def _defined_slots(facts: Facts) -> tuple[Mapping[str, Any], ...]:
    definition = facts.latest.get(("definition", ""))
    slots = None if definition is None else definition.data.get("slots")
    return (
        tuple(slot for slot in slots if isinstance(slot, dict)) if isinstance(slots, list) else ()
    )


def _required(slots: tuple[Mapping[str, Any], ...]) -> set[str]:
    """Required unless it says otherwise, as events have it."""
    return {str(slot.get("slot")) for slot in slots if slot.get("required") is not False}


def _bracket(fact: Fact | None) -> Change | None:
    if fact is None:
        return None
    return Change(index=fact.entry, effective_at=fact.effective_at, type=fact.type)


def _warnings(facts: Facts, bindings: Mapping[str, Binding]) -> list[str]:
    unread = sorted(int(name) for part, name in facts.first if part == "unreadable")
    told = [
        f"entry {index} is about this pipeline, but its payload is withheld, erased "
        "or of a newer schema"
        for index in unread
    ]
    others = _other_digests(facts)
    for ref in sorted({bound.asset_version for bound in bindings.values()}):
        told += _warnings_of(facts, ref, others.get(ref, ()))
    return told


def _other_digests(facts: Facts) -> dict[str, list[tuple[int, str]]]:
    """The other digests that were recorded for a version later: entry and digest, in order."""
    others: dict[str, list[tuple[int, str]]] = {}
    for (part, ref), fact in facts.first.items():
        if part.startswith("digest "):
            recorded = facts.first[("asset", ref)]
            if fact.entry != recorded.entry:
                others.setdefault(ref, []).append((fact.entry, part.removeprefix("digest ")))
    return {ref: sorted(digests) for ref, digests in others.items()}


def _warnings_of(facts: Facts, ref: str, others: Iterable[tuple[int, str]]) -> Iterator[str]:
    recorded = facts.first.get(("asset", ref))
    if recorded is None:
        yield f"{ref} is bound, but no entry records this version: its digest is not known"
    else:
        for index, digest in others:
            yield (
                f"entry {index} recorded {ref} again with another digest, {digest}; "
                f"the first record, entry {recorded.entry}, holds"
            )
    withdrawn = facts.earliest.get(("withdrawn", ref))
    if withdrawn is not None:
        yield f"{ref} was withdrawn by entry {withdrawn.entry}: {withdrawn.data.get('why')}"
