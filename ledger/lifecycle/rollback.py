"""A rollback's rules: what may be decided when, and by whom. The hands are in `connectors.saga`.

::

    requested ─▶ planned ─▶ approved ─▶ running ─▶ completed
                    │ ▲          │         │ ▲  └─▶ failed
                    └─┴──────────┘         ▼ │
               a new plan, approvals die   parked: a human decides

Every decision is an entry of `rollback/<id>`, so whoever loads the stream knows all that a resumed
run needs: which steps were begun, how often, and what came of them (docs/spec/rollback.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ledger.canonical import parse_rfc3339
from ledger.errors import RefusedError
from ledger.events.rollbacks import (
    Difference,
    PlanStep,
    RollbackApproved,
    RollbackCompleted,
    RollbackFailed,
    RollbackParked,
    RollbackPlanned,
    RollbackRequested,
    RollbackStepFinished,
    RollbackStepStarted,
    RollbackTarget,
)
from ledger.lifecycle.aggregate import Aggregate, applies, given

__all__ = ["STREAM", "Approval", "Progress", "Rollback", "Status"]

STREAM = "rollback/"

Status = Literal["requested", "planned", "approved", "running", "parked", "completed", "failed"]
StepOutcome = Literal["done", "already", "failed", "unknown", "refused"]
SETTLED = frozenset({"done", "already"})


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved which plan, and until when that may be used."""

    actor: str
    plan_digest: str
    expires_at: int | None
    self_approved: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is. `open`: begun, and its outcome is not recorded."""

    attempts: int = 0
    open: bool = False
    outcome: StepOutcome | None = None
    observed: str | None = None
    attested_by: str | None = None
    parked: str | None = None

    @property
    def settled(self) -> bool:
        """The step has done what it shall do; nothing of it is called again."""
        return self.outcome in SETTLED


class Rollback(Aggregate):
    """One rollback. Commands raise `RefusedError` with the reason; events are applied as such."""

    PREFIX = STREAM

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.status: Status = "requested"
        self.requester = ""
        self.request: RollbackRequested | None = None
        self.approval: Approval | None = None
        self.observed: Mapping[str, str | None] = {}
        self.differences: tuple[Difference, ...] = ()
        self.why = ""
        self._plan: RollbackPlanned | None = None
        self._progress: dict[str, Progress] = {}

    # ------------------------------------------------------------------------------- what is known

    @property
    def rollback_id(self) -> str:
        """The id, without the stream's prefix."""
        return self.id.removeprefix(STREAM)

    @property
    def over(self) -> bool:
        """Nothing will happen any more."""
        return self.status in ("completed", "failed")

    @property
    def begun(self) -> bool:
        """A step was begun, or found to be there: from here on the plan is fixed."""
        return any(step.attempts or step.outcome for step in self._progress.values())

    @property
    def plan(self) -> RollbackPlanned:
        """The plan in force. Raises `RefusedError` before there is one."""
        if self._plan is None:
            raise RefusedError(f"{self.id} has no plan yet: make one first")
        return self._plan

    @property
    def steps(self) -> Sequence[PlanStep]:
        """The steps of the plan, in the order in which they are run."""
        return sorted(self.plan.steps, key=lambda step: step.order)

    def step(self, step_id: str) -> PlanStep:
        """One step of the plan. Raises `RefusedError` where there is none of that id."""
        for step in self.plan.steps:
            if step.id == step_id:
                return step
        raise RefusedError(f"{self.id}: the plan has no step {step_id!r}")

    def progress(self, step_id: str) -> Progress:
        """How far a step is; nothing yet, where nothing is recorded."""
        return self._progress.get(step_id, Progress())

    @property
    def parked(self) -> Mapping[str, str]:
        """The steps that wait for a human, and why."""
        return {name: step.parked for name, step in self._progress.items() if step.parked}

    # ------------------------------------------------------------------------------------ decisions

    @classmethod
    def requested(
        cls,
        rollback_id: str,
        *,
        pipeline: str,
        stage: str,
        target: RollbackTarget,
        actor: str,
        slots: tuple[str, ...] = (),
        reason: str | None = None,
    ) -> Rollback:
        """A new rollback; saving it fails with `ConflictError` where the id is taken."""
        rollback = cls(f"{STREAM}{rollback_id}")
        event = RollbackRequested(
            pipeline=pipeline, stage=stage, target=target, slots=slots, **given(reason=reason)
        )
        rollback.record(event, actor)
        return rollback

    def propose(self, planned: RollbackPlanned, actor: str) -> None:
        """Takes a plan, or another before the first step; approvals of the old one die with it."""
        request = self._requested()
        if self.begun or self.over:
            raise RefusedError(f"{self.id} is {self.status}: its plan can no longer change")
        if (planned.pipeline, planned.stage) != (request.pipeline, request.stage):
            raise RefusedError(
                f"{self.id} was requested for {request.pipeline}@{request.stage}, "
                f"the plan is for {planned.pipeline}@{planned.stage}"
            )
        if any(step.to is not None and step.to_digest is None for step in planned.steps):
            raise RefusedError(f"{self.id}: a step without a digest could never be verified")
        if set(planned.slots) != set(request.slots):
            raise RefusedError(f"{self.id}: the plan is for other slots than those requested")
        if planned.plan_digest != planned.content_digest():
            raise RefusedError(
                f"{self.id}: the plan's content has the digest {planned.content_digest()}, "
                f"not {planned.plan_digest} as it says"
            )
        self.record(planned, actor)

    def approve(
        self,
        plan_digest: str,
        actor: str,
        *,
        role: str | None = None,
        expires_at: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Approves exactly the plan of that digest."""
        if self.status != "planned":
            raise RefusedError(
                f"{self.id} is {self.status}: only a planned rollback can be approved"
            )
        self._check_digest(plan_digest)
        own = actor == self.requester
        if own and self.plan.separate_approver:
            raise RefusedError(f"{self.id}: {actor} asked for it, somebody else must approve it")
        event = RollbackApproved(
            plan_digest=plan_digest,
            meaning="authorised_rollback",
            **given(
                role=role, expires_at=expires_at, reason=reason, self_approved=True if own else None
            ),
        )
        self.record(event, actor)

    def check_may_run(self, now: int) -> None:
        """Raises `RefusedError` unless a step may be begun at `now`: planned, approved, not over.

        An approval that runs out ends what was not begun; a begun rollback is brought to its end.
        """
        if self.over:
            raise RefusedError(f"{self.id} is {self.status}: make a new one")
        plan = self.plan
        if not plan.requires_approval:
            return
        if self.approval is None:
            raise RefusedError(
                f"{self.id}: the plan asks for an approval and has none: "
                f"approve {plan.plan_digest} first"
            )
        self._check_digest(self.approval.plan_digest)
        expires_at = self.approval.expires_at
        if expires_at is not None and now > expires_at and not self.begun:
            raise RefusedError(f"{self.id}: the approval by {self.approval.actor} has run out")

    def start_step(self, step_id: str, actor: str, *, now: int) -> int:
        """Intent: the step is about to be called. Returns the number of the attempt, from 1."""
        self.check_may_run(now)
        step, progress = self.step(step_id), self.progress(step_id)
        if step.restorable == "verify_only" or step.to is None:
            raise RefusedError(f"{self.id}: step {step_id} is checked, never called")
        if progress.outcome is not None:
            raise RefusedError(f"{self.id}: step {step_id} is finished: {progress.outcome}")
        if progress.attempts and step.class_ == "blind":
            raise RefusedError(
                f"{self.id}: step {step_id} was begun and its outcome is unknown; it cannot be "
                "called safely again, a human must decide"
            )
        if progress.parked:
            raise RefusedError(f"{self.id}: step {step_id} waits for a human: {progress.parked}")
        self._check_turn(step)
        attempt = progress.attempts + 1
        self.record(RollbackStepStarted(step=step_id, attempt=attempt), actor)
        return attempt

    def finish_step(
        self,
        step_id: str,
        outcome: StepOutcome,
        actor: str,
        *,
        observed: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Outcome of the attempt that is open. A step that reads back wrong cannot be `done`."""
        step, progress = self.step(step_id), self.progress(step_id)
        if not progress.open:
            raise RefusedError(f"{self.id}: step {step_id} was not begun, it cannot be finished")
        self._check_observed(step, outcome, observed)
        self._finish(step_id, progress.attempts, outcome, observed, detail, actor)

    def find_step(self, step_id: str, actor: str, *, observed: str | None, now: int) -> None:
        """The target is there without a call: nothing was begun, and nothing needs to be."""
        self.check_may_run(now)
        step, progress = self.step(step_id), self.progress(step_id)
        if progress.open or progress.outcome is not None:
            raise RefusedError(f"{self.id}: step {step_id} was begun, it is not merely found")
        self._check_turn(step)
        if observed != step.to_digest:
            raise RefusedError(f"{self.id}: step {step_id} shows {observed}, not {step.to_digest}")
        self._finish(step_id, None, "already", observed, None, actor)

    def park(self, step_id: str, why: str, actor: str) -> None:
        """Leaves a step to a human. The same reason twice is recorded once."""
        self.step(step_id)
        if self.over:
            raise RefusedError(f"{self.id} is {self.status}")
        if self.progress(step_id).parked != why:
            self.record(RollbackParked(step=step_id, why=why), actor)

    def resolve(
        self, step_id: str, outcome: Literal["done", "failed"], actor: str, *, detail: str
    ) -> None:
        """A human's word on a parked step that was begun: it was done, or it was not.

        The step is not called again on anybody's word. Where the system can be read, what is read
        decides in the end; where it cannot, the word stands in for it, under the human's name.
        """
        progress = self.progress(step_id)
        if not progress.parked:
            raise RefusedError(f"{self.id}: step {step_id} is not parked")
        if not progress.attempts:
            raise RefusedError(
                f"{self.id}: step {step_id} was never called; mend what it waits for and run again"
            )
        self._finish(step_id, progress.attempts, outcome, None, detail, actor)

    def complete(self, observed: Mapping[str, str | None], actor: str) -> None:
        """The target is reached: every slot shows its digest, or a human vouches for it."""
        self._check_running()
        for step in self.steps:
            if not self.progress(step.id).settled:
                raise RefusedError(f"{self.id}: step {step.id} is not finished")
            confirmed = self.progress(step.id).attested_by is not None
            if observed.get(step.slot) != step.to_digest and not confirmed:
                raise RefusedError(
                    f"{self.id}: {step.slot} shows {observed.get(step.slot)}, "
                    f"not {step.to_digest}: it is not completed"
                )
        plan = self.plan
        if plan.target.state_digest is None:
            raise RefusedError(f"{self.id}: the plan does not say which state it leads to")
        event = RollbackCompleted(
            plan_digest=plan.plan_digest,
            from_state_digest=plan.from_state_digest,
            state_digest=plan.target.state_digest,
            observed=dict(observed),
        )
        self.record(event, actor)

    def fail(self, why: str, differences: Sequence[Difference], actor: str) -> None:
        """The target is not reached, and this plan will not reach it."""
        self._check_running()
        event = RollbackFailed(
            plan_digest=self.plan.plan_digest, why=why, differences=tuple(differences)
        )
        self.record(event, actor)

    # ---------------------------------------------------------------------------------- small rules

    def _requested(self) -> RollbackRequested:
        if self.request is None:
            raise RefusedError(f"{self.id} was never requested")
        return self.request

    def _check_digest(self, digest: str) -> None:
        if digest != self.plan.plan_digest:
            raise RefusedError(
                f"{self.id}: the approval is for {digest}, the plan is {self.plan.plan_digest}: "
                "look at the plan again"
            )

    def _check_running(self) -> None:
        if self.over:
            raise RefusedError(f"{self.id} is {self.status} already")
        self.plan  # noqa: B018 - raises where there is none

    def _check_turn(self, step: PlanStep) -> None:
        for earlier in self.steps:
            if earlier.order < step.order and not self.progress(earlier.id).settled:
                raise RefusedError(
                    f"{self.id}: step {step.id} comes after {earlier.id}, which is not finished"
                )

    def _check_observed(self, step: PlanStep, outcome: StepOutcome, observed: str | None) -> None:
        blind = step.class_ == "blind" and observed is None
        if outcome in SETTLED and observed != step.to_digest and not blind:
            raise RefusedError(
                f"{self.id}: step {step.id} reads back {observed}, not {step.to_digest}: "
                f"it is not {outcome}"
            )

    def _finish(
        self,
        step_id: str,
        attempt: int | None,
        outcome: StepOutcome,
        observed: str | None,
        detail: str | None,
        actor: str,
    ) -> None:
        event = RollbackStepFinished(
            step=step_id,
            outcome=outcome,
            observed_digest=observed,
            **given(attempt=attempt, detail=detail or None),
        )
        self.record(event, actor)

    # --------------------------------------------------------------------- what events leave behind

    @applies(RollbackRequested)
    def _was_requested(self, event: RollbackRequested, actor: str) -> None:
        self.request, self.requester = event, actor

    @applies(RollbackPlanned)
    def _was_planned(self, event: RollbackPlanned, actor: str) -> None:
        self._plan, self.approval, self.status = event, None, "planned"
        self._progress = {}

    @applies(RollbackApproved)
    def _was_approved(self, event: RollbackApproved, actor: str) -> None:
        expires_at = None if event.expires_at is None else parse_rfc3339(event.expires_at)
        own = actor == self.requester
        self.approval, self.status = Approval(actor, event.plan_digest, expires_at, own), "approved"

    @applies(RollbackStepStarted)
    def _was_started(self, event: RollbackStepStarted, actor: str) -> None:
        before = self.progress(event.step)
        self._progress[event.step] = replace(before, attempts=event.attempt, open=True)
        self.status = "running"

    @applies(RollbackStepFinished)
    def _was_finished(self, event: RollbackStepFinished, actor: str) -> None:
        before, blind = self.progress(event.step), self.step(event.step).class_ == "blind"
        attested = blind and before.parked is not None and event.outcome == "done"
        self._progress[event.step] = replace(
            before,
            open=False,
            outcome=event.outcome,
            observed=event.observed_digest,
            attested_by=actor if attested else None,
            parked=None,
        )
        self.status = "parked" if self.parked else "running"

    @applies(RollbackParked)
    def _was_parked(self, event: RollbackParked, actor: str) -> None:
        self._progress[event.step] = replace(self.progress(event.step), parked=event.why)
        self.status = "parked"

    @applies(RollbackCompleted)
    def _was_completed(self, event: RollbackCompleted, actor: str) -> None:
        self.status, self.observed = "completed", event.observed or {}

    @applies(RollbackFailed)
    def _has_failed(self, event: RollbackFailed, actor: str) -> None:
        self.status, self.why, self.differences = "failed", event.why or "", event.differences
