"""A rollback for programs: what `asof rollback status -o json` gives, and every other door will.

::

    {"rollback": "2026-11-21-1", "status": "parked", "steps": [{"id": "0-model", "outcome": null,
    …}], …}

Unknown is None, never left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.canonical import format_time

if TYPE_CHECKING:
    from ledger.events.rollbacks import PlanStep
    from ledger.lifecycle.rollback import Approval, Rollback

__all__ = ["rollback_json"]


def rollback_json(rollback: Rollback) -> dict[str, Any]:
    """The plan in force, and how far each step of it is."""
    request, plan = rollback.request, rollback.plan
    return {
        "rollback": rollback.rollback_id,
        "status": rollback.status,
        "pipeline": plan.pipeline,
        "stage": plan.stage,
        "target": plan.target.model_dump(mode="json"),
        "slots": list(plan.slots),
        "requested_by": rollback.requester,
        "reason": None if request is None else request.reason,
        "plan_digest": plan.plan_digest,
        "from_state_digest": plan.from_state_digest,
        "requires_approval": plan.requires_approval,
        "approval": _approval_json(rollback.approval),
        "steps": [_step_json(rollback, step) for step in rollback.steps],
        "traffic": None if plan.traffic is None else plan.traffic.model_dump(by_alias=True),
        "why": rollback.why or None,
        "differences": [item.model_dump() for item in rollback.differences],
    }


def _approval_json(approval: Approval | None) -> dict[str, Any] | None:
    if approval is None:
        return None
    until = approval.expires_at
    return {
        "by": approval.actor,
        "plan_digest": approval.plan_digest,
        "self_approved": approval.self_approved,
        "expires_at": None if until is None else format_time(until),
    }


def _step_json(rollback: Rollback, step: PlanStep) -> dict[str, Any]:
    progress = rollback.progress(step.id)
    return step.model_dump(by_alias=True) | {
        "attempts": progress.attempts,
        "outcome": progress.outcome,
        "observed_digest": progress.observed,
        "attested_by": progress.attested_by,
        "parked": progress.parked,
    }
