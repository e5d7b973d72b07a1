"""The executor of a rollback: intent, call, outcome; stop at the first surprise; always resumable.

::

    saga = Saga(rollbacks=rollbacks, connectors=connector_for, actor="user:noah",
                clock=clock, claim=claim_in(folder))
    rollback = saga.run("7")
    rollback.status                      # "completed", "failed" or "parked"

What happens, in this order (docs/spec/rollback.md has the reasons and what a crash leaves):

1. Claim the plan; load it from its stream; refuse what its rules refuse.
2. Before the first effect, look at everything: each target still restorable, nothing changed since
   the plan, what can only be verified equal to its target.
3. For each step: look again → record the intent → call → look → record the outcome.
4. Look at every step once more and compare digest by digest.
5. If all are equal: `rollback.completed` and the bindings that follow from it, in one batch.

The stream's version is the fence: an executor that lost against another one learns it when it
records its intent, so before the effect. Nothing here asks which system a connector stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from connectors.claim import Claim
from connectors.connector import Connector, Outcome, RestoreStep, drift
from connectors.declared import asset_version, compensation, foreign_change, pipeline_stream
from connectors.verdicts import Verdict, judge
from ledger.errors import MalformedError, RefusedError
from ledger.events.rollbacks import Difference, PlanStep
from ledger.lifecycle.aggregate import Decision
from ledger.lifecycle.rollback import Rollback
from ledger.lifecycle.rollbacks import Rollbacks

__all__ = ["POINTS", "Saga"]

POINTS = (
    "before-intent",
    "after-intent",
    "after-effect",
    "after-outcome",
    "before-compensation",
    "after-compensation",
)
"""Where `point` is told that we are: a death at each leaves something else behind."""


def _unwatched(_point: str) -> None:
    """Nobody wants to know where we are."""


class _Stop(Exception):  # noqa: N818 - no error: the line stops, and the ledger says why
    """Nothing more is done in this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """Runs plans. `connectors` gives the connector of a system, and raises NotFoundError for none.

    `point` is called at each of `POINTS` with its name: for tests that must die there.
    """

    rollbacks: Rollbacks
    connectors: Callable[[str], Connector]
    actor: str
    clock: Callable[[], int]
    claim: Claim
    point: Callable[[str], None] = _unwatched

    def run(self, rollback_id: str) -> Rollback:
        """Runs the plan as far as it goes, from wherever it stands, and returns the rollback.

        One that is over is returned as it is. `completed`, `failed` and `parked` are answers, not
        exceptions.

        Raises:
            RefusedError: the plan may not be run (no approval, another digest). Nothing was done.
            ConflictError: another executor runs it, or decided in between. Nothing more was done.
            StoreError: a system or the ledger did not answer. Run it again: it goes on from there.
        """
        with self.claim(rollback_id):
            rollback = self.rollbacks.get(rollback_id)
            if not rollback.over:
                rollback.check_may_run(self.clock())
                with suppress(_Stop):
                    _Run(self, rollback).go()
            return rollback


class _Run:
    """One run of one plan: the rules are the rollback's, the hands the connectors'."""

    def __init__(self, saga: Saga, rollback: Rollback) -> None:
        self._saga = saga
        self._rollback = rollback
        self._restores = {step.id: self._restore_of(step) for step in rollback.steps if step.to}

    def go(self) -> None:
        if not self._rollback.begun:
            self._look_at_everything()
        for step in self._rollback.steps:
            self._reach(step)
        self._conclude()

    # ------------------------------------------------------------------- 2. before the first effect

    def _look_at_everything(self) -> None:
        """Fails the plan, or parks it, while nothing has happened yet."""
        self._check_declared()
        for step in self._rollback.steps:
            if step.restorable == "verify_only":
                self._verified(step)
            elif step.to is not None:
                self._check_can_restore(step)

    def _check_declared(self) -> None:
        """Stops where the ledger itself has moved on from what the plan was made from."""
        saga = self._saga
        change = foreign_change(saga.rollbacks.reader, self._rollback.plan, saga.clock())
        if change is not None:
            self._fail(f"the plan is stale: {change.slot}, {change.detail}", change)

    def _check_can_restore(self, step: PlanStep) -> str | None:
        """What the step shows. Stops unless that is the target, or can be brought to it.

        Once steps were run, a keyed system is asked by the call itself whether it was changed: it
        can tell our own steps on the same place (a file, then the tree that holds it) from others'.
        """
        restore, found = self._restores[step.id], self._found(step)
        if found == step.to_digest:
            return found
        comparable = step.class_ == "read_back" or not self._rollback.begun
        if comparable and step.class_ != "blind" and (changed := drift(restore, found)):
            self._fail(changed, _difference(step, found, changed))
        availability = self._connector(step).available(restore.target)
        if availability.status != "available":
            why = f"{step.to} cannot be restored: {availability.status} {availability.detail}"
            self._fail(why.strip(), _difference(step, found, why.strip()))
        return found

    # --------------------------------------------------------------------------------- 3. each step

    def _reach(self, step: PlanStep) -> None:
        """Brings one step to its end, whatever was done of it before."""
        progress = self._rollback.progress(step.id)
        if progress.settled:
            return
        if progress.outcome is not None:
            why = f"step {step.id} {progress.outcome}"
            self._fail(why, _difference(step, progress.observed, why))
        if step.to is None:
            self._find(step, None)
        elif step.restorable == "verify_only":
            self._find(step, self._verified(step))
        elif progress.parked and progress.attempts:
            self._look_again(step)
        elif progress.open:
            self._resume(step)
        else:
            self._begin(step)

    def _begin(self, step: PlanStep) -> None:
        """A step that was never called: look, then call."""
        self._saga.point("before-intent")
        found = self._check_can_restore(step)
        if found == step.to_digest:
            self._find(step, found)
        else:
            self._call(step)

    def _resume(self, step: PlanStep) -> None:
        """A step that was called, or nearly, when somebody died: read back before acting."""
        found, attempts = self._found(step), self._rollback.progress(step.id).attempts
        self._carry_out(step, judge(self._restores[step.id], None, found, attempts), found)

    def _look_again(self, step: PlanStep) -> None:
        """A step that waits for a human: the world may have been mended, nothing is called."""
        found = self._found(step)
        if found != step.to_digest:
            raise _Stop
        self._finish(step, Verdict("already", "found in order after it was parked"), found)

    def _call(self, step: PlanStep) -> None:
        """Intent, durably; the call; what is there now. `_resume` mends a death in here."""
        saga, rollback = self._saga, self._rollback
        attempt = rollback.start_step(step.id, saga.actor, now=saga.clock())
        saga.rollbacks.store(rollback)
        saga.point("after-intent")
        outcome = _restored(self._connector(step), self._restores[step.id])
        saga.point("after-effect")
        found = self._found(step)
        self._carry_out(step, judge(self._restores[step.id], outcome, found, attempt), found)

    def _carry_out(self, step: PlanStep, verdict: Verdict, found: str | None) -> None:
        if verdict.what == "again":
            self._call(step)
        elif verdict.what == "park":
            self._park(step, verdict.why)
        elif verdict.what == "failed":
            self._rollback.finish_step(
                step.id, "failed", self._saga.actor, observed=found, detail=verdict.why
            )
            self._fail(f"step {step.id}: {verdict.why}", _difference(step, found, verdict.why))
        else:
            self._finish(step, verdict, found)

    def _finish(self, step: PlanStep, verdict: Verdict, found: str | None) -> None:
        self._rollback.finish_step(
            step.id,
            "already" if verdict.what == "already" else "done",
            self._saga.actor,
            observed=found,
            detail=verdict.why,
        )
        self._saga.rollbacks.store(self._rollback)
        self._saga.point("after-outcome")

    def _find(self, step: PlanStep, found: str | None) -> None:
        """The step needs no call: its target is there, or is nothing but a binding to take away."""
        saga = self._saga
        self._rollback.find_step(step.id, saga.actor, observed=found, now=saga.clock())
        saga.rollbacks.store(self._rollback)
        saga.point("after-outcome")

    def _verified(self, step: PlanStep) -> str | None:
        """What a step shows that can only be verified; parked unless it is the target."""
        found = self._found(step)
        if found != step.to_digest:
            self._park(
                step,
                f"{step.slot} cannot be restored, only verified: expected {step.to_digest}, "
                f"found {found or 'nothing'}; restore it by hand and run again, "
                "or make a plan without it",
            )
        return found

    # -------------------------------------------------------------------------- 4. and 5., the end

    def _conclude(self) -> None:
        """Compares digest by digest; completes, fails, or asks a human for what nobody can read."""
        observed = {step.slot: self._found(step) for step in self._rollback.steps}
        for step in self._rollback.steps:
            if self._must_be_confirmed(step, observed[step.slot]):
                self._park(step, "it cannot be read back: a human must confirm it")
        differences = [
            _difference(step, observed[step.slot], "it shows something else than it was brought to")
            for step in self._rollback.steps
            if observed[step.slot] != step.to_digest and not self._is_confirmed(step)
        ]
        if differences:
            self._fail("what is there now is not what was meant", *differences)
        self._complete(observed)

    def _must_be_confirmed(self, step: PlanStep, found: str | None) -> bool:
        return step.class_ == "blind" and found is None and not self._is_confirmed(step)

    def _is_confirmed(self, step: PlanStep) -> bool:
        return self._rollback.progress(step.id).attested_by is not None

    def _complete(self, observed: dict[str, str | None]) -> None:
        """One batch: completed, and the declared state equal to the target's; never one alone.

        The pipeline's version is read before its entries are: what comes in between is a conflict.
        """
        saga, rollback = self._saga, self._rollback
        stream = pipeline_stream(rollback.plan)
        version = saga.rollbacks.reader.stream_version(stream)
        self._check_declared()
        saga.point("before-compensation")
        rollback.complete(observed, saga.actor)
        events = enumerate(compensation(rollback.plan, rollback.id), start=version + 1)
        saga.rollbacks.store(
            rollback,
            *(Decision(stream, number, event, saga.actor) for number, event in events),
            idempotency_key=f"{rollback.id}/completed",
        )
        saga.point("after-compensation")

    # ---------------------------------------------------------------------------- stopping the line

    def _park(self, step: PlanStep, why: str) -> NoReturn:
        self._rollback.park(step.id, why, self._saga.actor)
        self._saga.rollbacks.store(self._rollback)
        raise _Stop

    def _fail(self, why: str, *differences: Difference) -> NoReturn:
        self._rollback.fail(why, differences, self._saga.actor)
        self._saga.rollbacks.store(self._rollback)
        raise _Stop

    # -------------------------------------------------------------------------- plan and connectors

    def _connector(self, step: PlanStep) -> Connector:
        return self._saga.connectors(step.system)

    def _found(self, step: PlanStep) -> str | None:
        """The digest of what the step's system shows now; nothing, where it restores nothing."""
        if step.to is None:
            return None
        return self._connector(step).read_back(self._restores[step.id]).digest

    def _restore_of(self, step: PlanStep) -> RestoreStep:
        """The step as its connector takes it; the key is unique over all rollbacks."""
        reader = self._saga.rollbacks.reader
        try:
            target = asset_version(reader, step.to or "")
        except MalformedError as error:
            raise RefusedError(
                f"step {step.id}: no system can restore {step.to}: {error}; make a plan without it"
            ) from error
        if target.digest != step.to_digest:
            raise RefusedError(
                f"step {step.id} is planned for {step.to_digest}, but {step.to} is recorded with "
                f"{target.digest}: make a new plan"
            )
        return RestoreStep(
            id=f"{self._rollback.id}/{step.id}",
            slot=step.slot,
            target=target,
            expected_digest_now=step.from_digest,
            idempotency=step.class_,
        )


def _restored(connector: Connector, restore: RestoreStep) -> Outcome:
    """The call. Where it raises, what it did is not known: only looking tells."""
    try:
        return connector.restore(restore)
    except Exception as error:
        return Outcome(status="unknown", detail=f"{type(error).__name__}: {error}")


def _difference(step: PlanStep, found: str | None, detail: str) -> Difference:
    return Difference(
        slot=step.slot, step=step.id, expected=step.to_digest, observed=found, detail=detail
    )
