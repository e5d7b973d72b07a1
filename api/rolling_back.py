"""Going back: the plan from two states, the approval of exactly that plan, and the run.

The rules are the aggregate's (`ledger.lifecycle.rollback`), the hands are the executor's
(`connectors.saga`, given by `api.main`); here they are only put one after the other, so that every
door to the house does the same. docs/spec/rollback.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from api.hints import hinted
from ledger.errors import ConflictError, NotFoundError
from ledger.lifecycle.rollback import Rollback
from projections.plan import Plan, plan

if TYPE_CHECKING:
    from api.main import Rooms

__all__ = ["approve", "every", "find", "make_plan", "propose", "resolve", "run"]

MOST_A_DAY = 10_000


def make_plan(
    rooms: Rooms, pipeline: str, stage: str, *, to: str, slots: Sequence[str], now: int
) -> Plan:
    """The plan, with what each system says about its target, looked at now. Nothing is recorded.

    Raises NotFoundError for a place or slot that is not there, MalformedError for no time at all.
    """
    made = plan(
        rooms.state(pipeline, stage, now=now),
        rooms.state(pipeline, stage, at=rooms.moment(to, now=now), now=now),
        slots=slots,
    )
    asked = [step for step in made.steps if step.restorable == "unknown" and step.to is not None]
    return made.with_availability(
        {step.slot: rooms.availability(step.system, step.to) for step in asked if step.to},
        {step.slot: rooms.idempotency(step.system, step.class_) for step in asked},
    )


def propose(
    rooms: Rooms,
    made: Plan,
    *,
    rollback_id: str | None,
    actor: str,
    reason: str | None,
    now: int,
    requires_approval: bool,
    separate_approver: bool,
) -> Rollback:
    """Record the plan under an id: the one given, or the day's next free one.

    Raises ConflictError for an id that is taken.
    """
    planned = made.as_event(
        requires_approval=requires_approval, separate_approver=separate_approver
    )
    rollbacks = rooms.rollbacks(actor)
    for name in [rollback_id] if rollback_id else _free_ids(rooms, now):
        rollback = Rollback.requested(
            name,
            pipeline=planned.pipeline,
            stage=planned.stage,
            target=planned.target,
            actor=actor,
            slots=planned.slots,
            reason=reason,
        )
        rollback.propose(planned, actor)
        rollbacks.store(rollback)
        return rollback
    raise ConflictError("no free id is left for today: give one with --id")


def _free_ids(rooms: Rooms, now: int) -> Iterator[str]:
    """`2026-11-21-1` and on, without those that are taken."""
    day = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m-%d")
    for number in range(1, MOST_A_DAY):
        if rooms.reader.stream_version(f"rollback/{day}-{number}") == 0:
            yield f"{day}-{number}"


def find(rooms: Rooms, rollback_id: str, *, actor: str) -> Rollback:
    """A rollback as its stream tells it. Raises NotFoundError."""
    try:
        return rooms.rollbacks(actor).get(rollback_id)
    except NotFoundError as error:
        raise hinted(error, "asof rollback list") from None


def every(rooms: Rooms, *, actor: str) -> Iterator[Rollback]:
    """All rollbacks, in the order of their ids."""
    rollbacks = rooms.rollbacks(actor)
    for rollback_id in rollbacks.ids():
        yield rollbacks.get(rollback_id)


def approve(
    rooms: Rooms, rollback: Rollback, *, digest: str, actor: str, reason: str | None
) -> Rollback:
    """Approve the plan of that digest. Raises RefusedError for another one, or by the rules."""
    rollback.approve(digest, actor, reason=reason)
    rooms.rollbacks(actor).store(rollback)
    return rollback


def resolve(
    rooms: Rooms,
    rollback: Rollback,
    step: str,
    outcome: Literal["done", "failed"],
    *,
    detail: str,
    actor: str,
) -> Rollback:
    """A human's word on a step that was called and whose outcome nobody could read."""
    rollback.resolve(step, outcome, actor, detail=detail)
    rooms.rollbacks(actor).store(rollback)
    return rollback


def run(rooms: Rooms, rollback_id: str, *, actor: str, settled: Callable[[int], None]) -> Rollback:
    """Run a plan from wherever it stands; `settled` is told how many steps came to their end.

    Raises what `connectors.saga.Saga.run` raises; a plan that failed or waits is an answer.
    """
    count = 0

    def point(name: str) -> None:
        nonlocal count
        if name == "after-outcome":
            count += 1
            settled(count)

    return rooms.saga(actor, point).run(rollback_id)
