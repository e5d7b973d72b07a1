"""A rollback in words for programs: what `asof rollback status -o json` and HTTP give.

::

    {"rollback": "7", "status": "parked", "steps": [{"id": "0-model", "outcome": None, …}], …}

Unknown is None, never left out.
"""

from __future__ import annotations

from typing import Any

from ledger.canonical import format_time
from ledger.events.rollbacks import Difference, PlanStep
from ledger.lifecycle.rollback import Approval, Rollback

__all__ = ["rollback_json"]


def rollback_json(rollback: Rollback) -> dict[str, Any]:
    """All that the stream of a rollback says, in one object."""
    request, plan = rollback.request, rollback.plan_or_none
    steps = rollback.steps if plan is not None else ()
    return {
        "rollback": rollback.rollback_id,
        "status": rollback.status,
        "version": rollback.version,
        "pipeline": None if request is None else request.pipeline,
        "stage": None if request is None else request.stage,
        "requested_by": rollback.requester,
        "reason": None if request is None else request.reason,
        "target": None if plan is None else plan.target.model_dump(),
        "slots": [] if request is None else list(request.slots),
        "plan_digest": None if plan is None else plan.plan_digest,
        "requires_approval": None if plan is None else plan.requires_approval,
        "approval": _approval_json(rollback.approval),
        "steps": [_step_json(rollback, step) for step in steps],
        "traffic": None
        if plan is None or plan.traffic is None
        else plan.traffic.model_dump(by_alias=True),
        "why": rollback.why or None,
        "differences": [_difference_json(difference) for difference in rollback.differences],
    }


def _approval_json(approval: Approval | None) -> dict[str, Any] | None:
    if approval is None:
        return None
    expires_at = approval.expires_at
    return {
        "by": approval.actor,
        "plan_digest": approval.plan_digest,
        "expires_at": None if expires_at is None else format_time(expires_at),
        "self_approved": approval.self_approved,
    }


def _step_json(rollback: Rollback, step: PlanStep) -> dict[str, Any]:
    progress = rollback.progress(step.id)
    return {
        **step.model_dump(by_alias=True),
        "attempts": progress.attempts,
        "outcome": progress.outcome,
        "observed_digest": progress.observed,
        "attested_by": progress.attested_by,
        "parked": progress.parked,
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return difference.model_dump()
