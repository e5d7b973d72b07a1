"""The state by the letter of docs/spec/state.md, as slowly as one likes: the properties' oracle.

It shares nothing with `projections`: it looks at all records again for every single question.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.canonical import canonical_digest, format_time
from ledger.record import Record

PIPELINE_TYPES = (
    "pipeline.defined/1",
    "binding.changed/1",
    "binding.removed/1",
    "traffic.changed/1",
)


def naive_state(
    records: Iterable[Record], pipeline: str, stage: str, at: int, known: int
) -> dict[str, Any]:
    """The members of a state's JSON that do not depend on how the question was put."""
    past = [record for record in records if record.index < known]
    own = [
        record
        for record in past
        if record.type in PIPELINE_TYPES
        and record.data is not None
        and (record.data["pipeline"], record.data["stage"]) == (pipeline, stage)
    ]
    now = sorted(
        (record for record in own if record.effective_at <= at),
        key=lambda record: (record.effective_at, record.index),
    )
    later = sorted(
        (record for record in own if record.effective_at > at),
        key=lambda record: (record.effective_at, record.index),
    )
    bindings = _bindings(now, past)
    traffic = _traffic(now, shadow=False)
    content = {
        "bindings": {
            slot: {"asset_version": bound["asset_version"], "digest": bound["digest"]}
            for slot, bound in bindings.items()
        },
        "pipeline": pipeline,
        "stage": stage,
        "traffic": traffic,
    }
    return {
        "bindings": bindings,
        "traffic": traffic,
        "shadow": _traffic(now, shadow=True),
        "runs": _open(past, at, "run", "run.started/1", "run.finished/1", _of(pipeline, stage)),
        "incidents": _open(
            past, at, "incident", "incident.opened/1", "incident.closed/1", _about(pipeline, stage)
        ),
        "approvals": _open(
            past,
            at,
            "approval",
            "approval.requested/1",
            "approval.decided/1 approval.expired/1 approval.voided/1",
            _about(pipeline, stage),
        ),
        "missing": _missing(now, bindings),
        "before": _change(now[-1]) if now else None,
        "after": _change(later[0]) if later else None,
        "state_digest": canonical_digest(content),
    }


def _change(record: Record) -> dict[str, Any]:
    return {
        "index": record.index,
        "effective_at": format_time(record.effective_at),
        "type": record.type,
    }


def _bindings(now: list[Record], past: list[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in now:  # in the order in which they took effect: the last one stands
        data = record.data or {}
        if record.type == "binding.removed/1":
            found.pop(data["slot"], None)
        elif record.type == "binding.changed/1":
            found[data["slot"]] = _binding(record, past)
    return found


def _binding(record: Record, past: list[Record]) -> dict[str, Any]:
    data = record.data or {}
    ref = data["asset_version"]
    asset: dict[str, Any] = next(
        (
            other.data
            for other in past
            if other.type == "asset.version.recorded/1"
            and other.data is not None
            and f"{other.data['kind']}/{other.data['name']}@{other.data['version']}" == ref
        ),
        {},
    )
    causes = [
        other.stream
        for other in past
        if other.type.startswith("approval.")
        and other.data is not None
        and other.index in data.get("caused_by", ())
    ]
    return {
        "asset_version": ref,
        "kind": ref.split("/")[0],
        "name": ref.split("/", 1)[1].split("@")[0],
        "version": ref.split("@")[1],
        "digest": asset.get("digest"),
        "location": None,
        "source": None,
        "restorable": "verify_only" if asset else None,
        "since": {
            "index": record.index,
            "recorded_at": format_time(record.recorded_at),
            "effective_at": format_time(record.effective_at),
        },
        "by": record.actor,
        "reason": data.get("reason"),
        "approval": data.get("approval", causes[-1] if causes else None),
    }


def _traffic(now: list[Record], *, shadow: bool) -> dict[str, Any]:
    shares: dict[str, Any] = {}
    for record in now:
        data = record.data or {}
        if record.type == "traffic.changed/1" and (data["mode"] == "shadow") is shadow:
            shares = data["shares"]
    return shares


def _missing(now: list[Record], bindings: dict[str, Any]) -> list[str]:
    slots: list[dict[str, Any]] = []
    for record in now:
        if record.type == "pipeline.defined/1":
            slots = (record.data or {})["slots"]
    wanted = {slot["slot"] for slot in slots if slot.get("required", True)}
    return sorted(wanted - set(bindings))


def _of(pipeline: str, stage: str) -> Any:
    return lambda data: (data["pipeline"], data["stage"]) == (pipeline, stage)


def _about(pipeline: str, stage: str) -> Any:
    return lambda data: (
        data.get("pipeline", pipeline) == pipeline and data.get("stage", stage) == stage
    )


def _open(
    past: list[Record], at: int, word: str, begins: str, ends: str, concerns: Any
) -> list[tuple[str, int]]:
    """(id, index of the beginning), by when they began."""
    over = {
        record.stream
        for record in past
        if record.type in ends.split() and record.data is not None and record.effective_at <= at
    }
    begun: dict[str, Record] = {}
    for record in sorted(past, key=lambda record: (record.effective_at, record.index)):
        if record.type == begins and record.data is not None and record.effective_at <= at:
            if concerns(record.data):
                begun[record.stream] = record
    return [
        (record.stream.removeprefix(f"{word}/"), record.index)
        for record in sorted(begun.values(), key=lambda record: (record.effective_at, record.index))
        if record.stream not in over
    ]
