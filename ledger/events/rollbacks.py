"""A rollback, decision by decision: `rollback/<id>` holds all that a resumed run needs to know.

::

    requested ─▶ planned ─▶ approved ─▶ (step.started ─▶ step.finished | parked)…
                                                             ─▶ completed | failed

Intent is an entry before each call, the outcome one after it: what lies between the two is the only
thing that a crash can leave unknown, and the step's class says what may be done about it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ledger.canonical import canonical_digest
from ledger.events.event import COMMON_FIELDS, Event, Part
from ledger.events.fields import (
    AssetRef,
    Count,
    Digest,
    Flag,
    Index,
    JsonObject,
    Name,
    Names,
    Percent,
    Prose,
    Root,
    Stage,
    Time,
    Word,
    misfit,
)

__all__ = [
    "Difference",
    "PlanStep",
    "RollbackApproved",
    "RollbackBasis",
    "RollbackCompleted",
    "RollbackFailed",
    "RollbackParked",
    "RollbackPlanned",
    "RollbackRequested",
    "RollbackStepFinished",
    "RollbackStepStarted",
    "RollbackTarget",
    "TrafficChange",
]

_STREAM = "rollback/{rollback}"
_SHA_A = "sha256:" + "a1" * 32
_SHA_B = "sha256:" + "b2" * 32
_SHA_C = "sha256:" + "c3" * 32


class RollbackTarget(Part):
    """The state to go back to."""

    index: Index | None = Field(
        default=None, description="the last entry that counts, where named so"
    )
    at: Time | None = Field(default=None, description="the instant, where named so")
    state_digest: Digest | None = Field(
        default=None,
        description="digest of the content of the state that the plan leads to; a narrowed plan "
        "leaves the other slots as they are",
    )


class RollbackBasis(Part):
    """What the plan stands on: the ledger when it was made."""

    tree_size: Count = Field(description="entries in the tree")
    root: Root = Field(description="root of the tree")


class PlanStep(Part):
    """One restore in one system."""

    id: Name = Field(description="the step's name inside the plan, also its idempotency key")
    order: Count = Field(description="place in the order of execution, from 0")
    slot: Name = Field(description="the slot whose content is restored")
    system: Word = Field(description="the connector that is called")
    from_: AssetRef | None = Field(
        default=None, alias="from", description="what the slot holds now"
    )
    to: AssetRef | None = Field(default=None, description="what it shall hold; null: nothing")
    from_digest: Digest | None = Field(default=None, description="digest that is expected before")
    to_digest: Digest | None = Field(
        default=None, description="digest that must be read back after"
    )
    call: Prose | None = Field(default=None, description="what will be called, in words")
    class_: Literal["keyed", "read_back", "blind"] = Field(
        alias="class", description="idempotent by key, observable, or neither"
    )
    restorable: Literal["available", "missing", "changed", "verify_only", "unknown"] = Field(
        description="whether the target can still be restored, as checked when planned"
    )
    risk: Prose | None = Field(default=None, description="what may go wrong, in words")


class TrafficChange(Part):
    """The shares that a plan sets, and those that it found. Declared only: no system is called."""

    from_: dict[AssetRef, Percent] = Field(alias="from", description="shares when planned")
    to: dict[AssetRef, Percent] = Field(description="shares afterwards; empty: none")
    mode: Literal["live", "canary", "shadow", "ab"] = Field(
        default="live", description="how they are shared afterwards"
    )


class RollbackRequested(Event):
    """Somebody asks to bring a pipeline and stage back to an earlier state."""

    TYPE: ClassVar[str] = "rollback.requested/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "target": {"index": 1204},
        "slots": ["model", "data/orders"],
        "reason": "The new imputation biases weekend forecasts.",
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    target: RollbackTarget = Field(description="where to")
    slots: Names = Field(default=(), description="only these slots; empty: all")


class RollbackPlanned(Event):
    """A plan was made: steps in order, each with what is called and what is expected.

    `plan_digest` covers all that an approver decides about (`content_digest`): a changed plan
    has another digest and needs other approvals. A step without `to` only takes the binding away;
    a step whose `restorable` is `verify_only` is checked and never called.
    """

    TYPE: ClassVar[str] = "rollback.planned/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "plan_digest": _SHA_C,
        "pipeline": "demand-forecast",
        "stage": "production",
        "target": {"index": 1204, "state_digest": _SHA_A},
        "from_state_digest": _SHA_B,
        "basis": {"tree_size": 1311, "root": _SHA_C},
        "steps": [
            {
                "id": "0-data/orders",
                "order": 0,
                "slot": "data/orders",
                "system": "files",
                "from": "dataset/orders@2026-11-20",
                "to": "dataset/orders@2026-11-13",
                "from_digest": _SHA_B,
                "to_digest": _SHA_A,
                "call": "write data/orders.csv from the object store",
                "class": "read_back",
                "restorable": "available",
                "risk": "overwrites a file of 18 MB",
            }
        ],
    }

    plan_digest: Digest = Field(description="digest of the plan, to which approvals bind")
    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    target: RollbackTarget = Field(description="where to")
    from_state_digest: Digest = Field(description="digest of the state when planned")
    basis: RollbackBasis | None = Field(default=None, description="the ledger when planned")
    steps: Annotated[tuple[PlanStep, ...], Field(strict=False)] = Field(description="in any order")
    slots: Names = Field(default=(), description="only these slots; empty: all")
    traffic: TrafficChange | None = Field(
        default=None, description="the shares that change; absent: they stay"
    )
    requires_approval: Flag = Field(
        default=True, description="false: whoever asks may run it without an approval"
    )
    separate_approver: Flag = Field(
        default=False, description="true: who asked for the rollback may not approve it"
    )

    def content_digest(self) -> str:
        """What `plan_digest` must be: over its own fields (RFC 8785), but that one and nulls."""
        content = self.model_dump(
            mode="json",
            by_alias=True,
            exclude_none=True,
            exclude={"plan_digest", *COMMON_FIELDS},
        )
        return canonical_digest(content)

    @model_validator(mode="after")
    def _steps_are_distinct(self) -> RollbackPlanned:
        if len({step.id for step in self.steps}) != len(self.steps):
            raise misfit("two steps have the same id", "steps")
        return self


class RollbackApproved(Event):
    """A person approves a plan, bound to its digest; who it is stands in the entry's actor.

    `self_approved` is true where that is who asked for the rollback: allowed by the plan, and said.
    """

    TYPE: ClassVar[str] = "rollback.approved/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "plan_digest": _SHA_C,
        "meaning": "authorised_rollback",
        "role": "release-manager",
        "expires_at": "2026-11-21T18:00:00Z",
    }

    plan_digest: Digest = Field(description="the plan that is approved, no other")
    meaning: Word | None = Field(default=None, description="what the approval means")
    role: Name | None = Field(default=None, description="the role in which it is given")
    approval: Name | None = Field(
        default=None, description="stream of the approval, where there is one"
    )
    expires_at: Time | None = Field(default=None, description="until when it may be used")
    self_approved: Flag | None = Field(
        default=None, description="true: given by who asked for the rollback"
    )


class RollbackStepStarted(Event):
    """Intent: the step is about to be called. Recorded, durably, before the call."""

    TYPE: ClassVar[str] = "rollback.step.started/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {"step": "0-data/orders", "attempt": 1}

    step: Name = Field(description="id of the step in the plan")
    attempt: Annotated[Count, Field(ge=1)] = Field(description="which attempt, from 1")


class RollbackStepFinished(Event):
    """Outcome: what the step did, and what was read back."""

    TYPE: ClassVar[str] = "rollback.step.finished/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "step": "0-data/orders",
        "attempt": 1,
        "outcome": "done",
        "observed_digest": _SHA_A,
    }

    step: Name = Field(description="id of the step in the plan")
    attempt: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="which attempt, from 1"
    )
    outcome: Literal["done", "already", "failed", "unknown", "refused"] = Field(
        description="restored now, found restored, failed, not known, or refused by the system"
    )
    observed_digest: Digest | None = Field(
        default=None, description="digest read back; null: not readable"
    )
    detail: Prose | None = Field(default=None, description="what the system said")


class RollbackParked(Event):
    """A step waits for a human: its outcome is unknown and it must not be called again."""

    TYPE: ClassVar[str] = "rollback.parked/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "step": "3-traffic",
        "why": "The call timed out and the gateway cannot be read.",
    }

    step: Name = Field(description="id of the step in the plan")
    why: Prose = Field(description="why it cannot be decided")


class RollbackCompleted(Event):
    """The target is reached: what was read back equals it, digest by digest."""

    TYPE: ClassVar[str] = "rollback.completed/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "plan_digest": _SHA_C,
        "from_state_digest": _SHA_B,
        "state_digest": _SHA_A,
        "observed": {"data/orders": _SHA_A},
    }

    plan_digest: Digest | None = Field(default=None, description="the plan that was run")
    from_state_digest: Digest | None = Field(default=None, description="digest of the state before")
    state_digest: Digest = Field(description="digest of the state now, equal to the target's")
    observed: dict[Name, Digest | None] | None = Field(
        default=None, description="slot to digest as read back"
    )


class Difference(Part):
    """One place where what is there is not what was meant."""

    slot: Name = Field(description="the slot")
    step: Name | None = Field(default=None, description="id of the step, where one is to blame")
    expected: Digest | None = Field(default=None, description="digest that was meant")
    observed: Digest | None = Field(
        default=None, description="digest read back; null: not readable"
    )
    detail: Prose | None = Field(default=None, description="what happened, in words")
    data: JsonObject | None = Field(default=None, description="what else is known")


class RollbackFailed(Event):
    """The target is not reached; the differences say where."""

    TYPE: ClassVar[str] = "rollback.failed/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = "rollback/2026-11-21-1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "plan_digest": _SHA_C,
        "why": "One slot does not hold what was meant.",
        "differences": [{"slot": "data/orders", "expected": _SHA_A, "observed": _SHA_B}],
    }

    plan_digest: Digest | None = Field(default=None, description="the plan that was run")
    why: Prose | None = Field(default=None, description="what went wrong, in words")
    differences: Annotated[tuple[Difference, ...], Field(strict=False)] = Field(
        default=(), description="slot by slot"
    )
