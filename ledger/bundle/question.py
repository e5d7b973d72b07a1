"""The question "what held?", answered again from nothing but payloads.

::

    question = parse_question(answer)                     # its own words: pipeline, stage, at, …
    content = question.content(entries, payloads)         # what the state digest covers
    canonical_digest(content) == answer["state_digest"]

The rule is that of docs/spec/state.md: of the changes of a slot that are known and in effect, the
latest effective time holds, then the highest index; of the records of an asset version, the first.
The stand-alone verifier has a second implementation of the same rule, and projections a third,
which made the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ledger.canonical import JsonValue, parse_decimal, parse_json, parse_rfc3339, parse_time
from ledger.entry import Entry
from ledger.errors import IncompleteError, MalformedError

__all__ = ["ERASURE_TYPES", "Question", "erased_indexes", "parse_question", "recorded_asset"]

ERASURE_TYPES: Final = frozenset(("payload.redacted/1", "record.disposed/1", "subject.erased/1"))
"""The entries that may say that a payload is lawfully gone."""

_CHANGES: Final = frozenset(("binding.changed", "binding.removed", "traffic.changed"))
_Rank = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which pipeline and stage, in effect when, known when."""

    pipeline: str
    stage: str
    at: int
    known_index: int | None
    known_time: int | None

    @property
    def stream(self) -> str:
        """The stream in which the pipeline changes in this stage."""
        return f"pipeline/{self.pipeline}@{self.stage}"

    def knows(self, entry: Entry, tree_size: int) -> bool:
        """True for an entry of the basis that was recorded by the time of the question."""
        if entry.index >= tree_size:
            return False
        if self.known_index is not None and entry.index > self.known_index:
            return False
        return self.known_time is None or entry.recorded_at <= self.known_time

    def content(self, entries: Iterable[Entry], payloads: Mapping[int, bytes]) -> dict[str, Any]:
        """Bindings and traffic, from known entries in the order of their indexes.

        Raises IncompleteError where the payload of a change is not here, or cannot be understood.
        """
        known = list(entries)
        slots: dict[str, tuple[_Rank, str | None]] = {}
        traffic: tuple[_Rank, dict[str, JsonValue]] | None = None
        for entry in known:
            family = entry.type.rpartition("/")[0]
            if entry.stream != self.stream or family not in _CHANGES:
                continue
            data = _change(entry, payloads)
            rank = (_effective_at(data, entry), entry.index)
            if (data.get("pipeline"), data.get("stage")) != (self.pipeline, self.stage):
                continue
            if rank[0] > self.at:
                continue
            if family == "traffic.changed":
                if data.get("mode") != "shadow" and (traffic is None or rank > traffic[0]):
                    traffic = (rank, _shares(data, entry))
                continue
            slot = _text(data, "slot", entry)
            bound = _text(data, "asset_version", entry) if family == "binding.changed" else None
            if slot not in slots or rank > slots[slot][0]:
                slots[slot] = (rank, bound)
        digests = first_records(known, payloads)
        return {
            "bindings": {
                slot: {"asset_version": ref, "digest": digests.get(ref)}
                for slot, (_, ref) in slots.items()
                if ref is not None
            },
            "pipeline": self.pipeline,
            "stage": self.stage,
            "traffic": traffic[1] if traffic else {},
        }


def parse_question(answer: Mapping[str, Any]) -> Question:
    """The question that an answer says it answers. Raises MalformedError."""
    pipeline, stage = answer.get("pipeline"), answer.get("stage")
    at, known_at = answer.get("at"), answer.get("known_at")
    if not isinstance(pipeline, str) or not isinstance(stage, str) or not isinstance(at, str):
        raise MalformedError("a state names its pipeline, its stage and an instant")
    index = time = None
    if isinstance(known_at, str) and known_at.startswith("index:"):
        index = parse_decimal(known_at.removeprefix("index:"))
    elif isinstance(known_at, str):
        time = parse_time(known_at)
    elif known_at is not None:
        raise MalformedError("known_at is text or null")
    return Question(
        pipeline=pipeline, stage=stage, at=parse_time(at), known_index=index, known_time=time
    )


def erased_indexes(payload: bytes) -> tuple[int, ...]:
    """The entries that the payload of an erasure entry lists; none where it cannot be read."""
    try:
        data = parse_json(payload)
    except MalformedError:
        return ()
    indexes = data.get("indexes") if isinstance(data, dict) else None
    if not isinstance(indexes, list):
        return ()
    return tuple(i for i in indexes if isinstance(i, int) and not isinstance(i, bool))


def recorded_asset(type_name: str, payload: bytes | None) -> str | None:
    """The asset version that an entry records, or None."""
    found = _asset(type_name, payload)
    return None if found is None else found[0]


def first_records(entries: Iterable[Entry], payloads: Mapping[int, bytes]) -> dict[str, JsonValue]:
    """{asset version: digest} by the first entry, of these, that records it."""
    digests: dict[str, JsonValue] = {}
    for entry in entries:
        found = _asset(entry.type, payloads.get(entry.index))
        if found is not None:
            digests.setdefault(*found)
    return digests


def _asset(type_name: str, payload: bytes | None) -> tuple[str, JsonValue] | None:
    if type_name != "asset.version.recorded/1" or payload is None:
        return None
    try:
        data = parse_json(payload)
    except MalformedError:
        return None
    if not isinstance(data, dict):
        return None
    kind, name, version = (data.get(field) for field in ("kind", "name", "version"))
    return f"{kind}/{name}@{version}", data.get("digest")


def _change(entry: Entry, payloads: Mapping[int, bytes]) -> dict[str, JsonValue]:
    if entry.index not in payloads or not entry.type.endswith("/1"):
        raise IncompleteError(
            f"the state: the payload of entry {entry.index} is not here, or newer"
        )
    try:
        data = parse_json(payloads[entry.index])
    except MalformedError:
        data = None
    if not isinstance(data, dict):
        raise IncompleteError(f"the state: the payload of entry {entry.index} cannot be read")
    return data


def _effective_at(data: Mapping[str, JsonValue], entry: Entry) -> int:
    """A time that cannot be read counts as none given: then a fact holds since it was recorded."""
    text = data.get("effective_at")
    try:
        return parse_rfc3339(text) if isinstance(text, str) else entry.recorded_at
    except MalformedError:
        return entry.recorded_at


def _text(data: Mapping[str, JsonValue], name: str, entry: Entry) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise IncompleteError(f"the state: entry {entry.index} has no {name}")
    return value


def _shares(data: Mapping[str, JsonValue], entry: Entry) -> dict[str, JsonValue]:
    shares = data.get("shares")
    if not isinstance(shares, dict):
        raise IncompleteError(f"the state: entry {entry.index} has no shares")
    return shares
