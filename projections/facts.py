"""An entry read for its meaning: what it says, and since when it says so.

::

    >>> fact = fact_of(row)            # a stored row; None where its payload is withheld or erased
    >>> fact.effective_at, fact.entry, fact.data["slot"]
    (1792000000000000, 41, 'model')

Facts are ordered by effective time, then index: of two facts about the same thing the greater one
holds (docs/spec/projections.md, rule 2). Payloads are parsed here and only for the types that a
question asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from ledger.asset_ref import split_asset_ref
from ledger.canonical import parse_rfc3339
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ledger.asset_ref import AssetRefParts
    from ledger.store import Row

__all__ = [
    "CHANGES",
    "ENDS",
    "STARTS",
    "Fact",
    "bare",
    "concerns",
    "fact_of",
    "family_of",
    "lane_of",
    "parse_ref",
    "pipeline_stream",
    "rank",
    "recorded_ref",
    "shares_of",
    "subject_of",
    "withdrawn_ref",
    "words",
]

CHANGES: Final = ("pipeline.defined", "binding.changed", "binding.removed", "traffic.changed")
"""The families that change what a pipeline and stage hold: all of them lie in its own stream."""

STARTS: Final = {
    "run.started": "run",
    "incident.opened": "incident",
    "approval.requested": "approval",
}
ENDS: Final = {
    "run.finished": "run",
    "incident.closed": "incident",
    "approval.decided": "approval",
    "approval.expired": "approval",
    "approval.voided": "approval",
}
"""What begins and what ends: each lies in the stream `<word>/<id>`."""

VERSION: Final = "1"
"""The schema version that is understood here of every family; older ones are upcast, newer ones
refused.
"""


class Fact(NamedTuple):
    """One readable entry. `rank` orders facts: by effective time, then index (`entry`)."""

    effective_at: int
    entry: int
    recorded_at: int
    actor: str
    stream: str
    type: str
    data: dict[str, Any]


def bare(fact: Fact) -> Fact:
    """The same without what it says: where only its place and time matter."""
    return Fact(*fact[:6], {})


def rank(fact: Fact) -> tuple[int, int]:
    """What decides between two facts about the same thing: effective time, then index."""
    return fact[0], fact[1]


def family_of(type_name: str) -> str:
    """`binding.changed` of `binding.changed/1`."""
    return type_name.rpartition("/")[0]


def pipeline_stream(pipeline: str, stage: str) -> str:
    """The stream in which a pipeline and stage change."""
    return f"pipeline/{pipeline}@{stage}"


def subject_of(fact: Fact) -> str:
    """The id of a run, incident or approval: what follows the first `/` of its stream."""
    return fact.stream.partition("/")[2]


def fact_of(row: Row) -> Fact | None:
    """What a row says; None where nobody can read it: no payload, not JSON, a newer schema
    version.
    """
    data = _data_of(row[4], row[8])
    if data is None:
        return None
    recorded_at = row[1]
    text = data.get("effective_at")
    effective_at = recorded_at if text is None else _effective_at(text, recorded_at)
    return Fact(effective_at, row[0], recorded_at, row[2], row[3], row[4], data)


def _data_of(type_name: str, payload: bytes | None) -> dict[str, Any] | None:
    if payload is None:
        return None
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(data, dict):
        return None
    return data if type_name.endswith("/1") else _upcast(type_name, data)


def _upcast(type_name: str, data: dict[str, Any]) -> dict[str, Any] | None:
    """The data in the version that is understood here, where events know a way there."""
    from ledger.events import upcast  # pydantic comes with it: only for the rare other version

    try:
        newest, upcasted = upcast(type_name, data)
    except MalformedError:
        return None
    return dict(upcasted) if newest.rpartition("/")[2] == VERSION else None


def _effective_at(text: object, recorded_at: int) -> int:
    """A time that the door would have refused counts as none given."""
    try:
        return parse_rfc3339(text) if isinstance(text, str) else recorded_at
    except MalformedError:
        return recorded_at


def concerns(fact: Fact, pipeline: str, stage: str, *, strictly: bool) -> bool:
    """Whether the data name this pipeline and stage; no name is a match unless `strictly`."""
    named = fact.data.get("pipeline"), fact.data.get("stage")
    if named == (pipeline, stage):
        return True
    return not strictly and named[0] in (None, pipeline) and named[1] in (None, stage)


def parse_ref(ref: str) -> AssetRefParts | None:
    """The parts of a reference, or None where an old entry holds something else."""
    try:
        return split_asset_ref(ref)
    except MalformedError:
        return None


def lane_of(change: Fact) -> tuple[str, str]:
    """What a change of a pipeline is about: a slot, its traffic, its shadow traffic or its
    definition.
    """
    family = family_of(change.type)
    if family == "pipeline.defined":
        return ("definition", "")
    if family == "traffic.changed":
        return ("traffic", "shadow" if change.data.get("mode") == "shadow" else "live")
    return ("slot", str(change.data.get("slot")))


def recorded_ref(fact: Fact) -> str | None:
    """The asset version that an entry records; None where its data name another asset than its
    stream.
    """
    asset = f"{fact.data.get('kind')}/{fact.data.get('name')}"
    return f"{asset}@{fact.data.get('version')}" if fact.stream == f"asset/{asset}" else None


def withdrawn_ref(fact: Fact) -> str:
    """The asset version that an entry withdraws: the asset is named by the stream."""
    return f"{fact.stream.removeprefix('asset/')}@{fact.data.get('version')}"


def shares_of(fact: Fact) -> dict[str, Any]:
    """Asset version to percent; empty where the entry holds something else."""
    shares = fact.data.get("shares")
    return shares if isinstance(shares, dict) else {}


def words(value: object) -> Iterable[str]:
    """The strings of a stored list; what is no list of strings yields what strings it has."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
