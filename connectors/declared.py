"""The ledger's side of a rollback: what the pipeline's stream says, and what it must say after it.

::

    foreign_change(reader, plan, now)      # somebody bound a slot of the plan since it was made
    compensation(plan, "rollback/7")       # binding.changed, binding.removed, traffic.changed

The state that `compensation` leads to is the plan's target: nothing else is declared by a rollback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from connectors.connector import AssetVersion
from ledger.asset_ref import split_asset_ref
from ledger.canonical import format_time
from ledger.errors import NotFoundError
from ledger.events import Event
from ledger.events.bindings import BindingChanged, BindingRemoved
from ledger.events.rollbacks import Difference, PlanStep, RollbackPlanned
from ledger.events.traffic import TrafficChanged
from ledger.reader import Reader
from ledger.record import Record

__all__ = ["asset_version", "compensation", "foreign_change", "pipeline_stream"]


def pipeline_stream(plan: RollbackPlanned) -> str:
    """The stream of the pipeline and stage that the plan is for."""
    return f"pipeline/{plan.pipeline}@{plan.stage}"


def foreign_change(reader: Reader, plan: RollbackPlanned, now: int) -> Difference | None:
    """The first entry that makes the plan stale, as a difference: what it was made from has moved.

    That is an entry after the plan's basis that touches a slot of the plan or, where the plan sets
    it, the traffic; and one before it that takes effect later than `now`.
    """
    basis = plan.basis.tree_size if plan.basis else 0
    for record in reader.stream(pipeline_stream(plan)):
        if record.index >= basis:
            detail = f"entry {record.index} by {record.actor} changed it since the plan was made"
        elif record.effective_at > now:
            detail = f"entry {record.index} changes it at {format_time(record.effective_at)}"
        else:
            continue
        slot = _touched(record, plan)
        if slot is not None:
            return Difference(slot=slot, detail=detail)
    return None


def _touched(record: Record, plan: RollbackPlanned) -> str | None:
    """The slot of the plan that an entry changes; the traffic counts as one."""
    if record.type.startswith("traffic."):
        return "traffic" if plan.traffic is not None else None
    if not record.type.startswith("binding."):
        return None
    slot = (record.data or {}).get("slot")
    return slot if any(step.slot == slot for step in plan.steps) else None


def compensation(plan: RollbackPlanned, rollback: str) -> Iterator[Event]:
    """The events of the pipeline's stream that make the declared state the plan's target."""
    common = {
        "pipeline": plan.pipeline,
        "stage": plan.stage,
        "change_id": rollback,
        "reason": f"{rollback} completed",
    }
    for step in sorted(plan.steps, key=lambda step: step.order):
        if step.to != step.from_:
            yield _rebound(step, common)
    if plan.traffic is not None:
        yield TrafficChanged.model_validate(
            {**common, "shares": plan.traffic.to, "mode": plan.traffic.mode}
        )


def _rebound(step: PlanStep, common: dict[str, str]) -> Event:
    fields: dict[str, Any] = {**common, "slot": step.slot}
    if step.from_ is not None:
        fields["previous"] = step.from_
    if step.to is None:
        return BindingRemoved.model_validate(fields)
    return BindingChanged.model_validate({**fields, "asset_version": step.to})


def asset_version(reader: Reader, ref: str) -> AssetVersion:
    """The asset version as it was recorded last. Raises: NotFoundError."""
    parts = split_asset_ref(ref)
    found: AssetVersion | None = None
    for record in reader.stream(f"asset/{parts.kind}/{parts.name}"):
        data = record.data or {}
        recorded = record.type.startswith("asset.version.recorded/")
        if recorded and data.get("version") == parts.version:
            found = AssetVersion.from_event_data(data)
    if found is None:
        raise NotFoundError(f"{ref} is not recorded in this ledger, or was erased")
    return found
