"""A release, decision by decision: what is to be bound in a pipeline, who agreed, and that it was.

::

    proposed ─▶ approved ─▶ completed ─▶ withdrawn

`release.completed` and the bindings that it makes lie in one batch, as a rollback's do.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ledger.canonical import MAX_SAFE_INTEGER, canonical_digest
from ledger.events.event import COMMON_FIELDS, Event, Part
from ledger.events.fields import AssetRef, Digest, Name, Prose, Stage, Time, Words, misfit

__all__ = [
    "ReleaseApproved",
    "ReleaseChange",
    "ReleaseCompleted",
    "ReleaseProposed",
    "ReleaseWithdrawn",
]

_STREAM = "release/{release}"
_EXAMPLE_STREAM = "release/2026-47"
_DIGEST = "sha256:" + "7c" * 32

Approvers = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER), Words("integer, 1 or more")]
SomeNames = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]


class ReleaseChange(Part):
    """One slot and what it shall hold, bound to the version's bytes."""

    slot: Name = Field(description="the slot")
    asset_version: AssetRef = Field(description="what it shall hold")
    digest: Digest = Field(description="digest of that version, as recorded")
    previous: AssetRef | None = Field(default=None, description="what it holds before")


SomeChanges = Annotated[tuple[ReleaseChange, ...], Field(strict=False, min_length=1)]


class ReleaseProposed(Event):
    """Somebody proposes these changes, or other ones: the newest proposal is the one in force.

    `release_digest` covers all that an approver decides about (`content_digest`), the number of
    approvers among it: a changed proposal has another digest and needs other approvals.
    """

    TYPE: ClassVar[str] = "release.proposed/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _EXAMPLE_STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pipeline": "demand-forecast",
        "stage": "production",
        "changes": [
            {
                "slot": "model",
                "asset_version": "model/forecaster@7",
                "digest": "sha256:" + "b2" * 32,
                "previous": "model/forecaster@6",
            }
        ],
        "approvers": 2,
        "release_digest": _DIGEST,
    }

    pipeline: Name = Field(description="the pipeline")
    stage: Stage = Field(description="its stage")
    changes: SomeChanges = Field(description="the slots that change")
    approvers: Approvers = Field(description="how many people must approve it")
    release_digest: Digest = Field(description="digest of the proposal: what approvals bind to")

    def content_digest(self, stream: str) -> str:
        """What `release_digest` must be: over the stream and the proposal (RFC 8785), no nulls."""
        content = self.model_dump(
            mode="json", exclude_none=True, exclude={"release_digest", *COMMON_FIELDS}
        )
        return canonical_digest({"release": stream, **content})

    @model_validator(mode="after")
    def _slots_are_distinct(self) -> ReleaseProposed:
        if len({change.slot for change in self.changes}) != len(self.changes):
            raise misfit("two changes are for the same slot", "changes")
        return self


class ReleaseApproved(Event):
    """As many people as the proposal asks for approved exactly it."""

    TYPE: ClassVar[str] = "release.approved/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _EXAMPLE_STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "release_digest": _DIGEST,
        "approvals": ["approval/CHG-4211", "approval/CHG-4214"],
        "expires_at": "2026-11-28T00:00:00Z",
    }

    release_digest: Digest = Field(description="digest of the proposal")
    approvals: SomeNames = Field(description="streams of the approvals")
    expires_at: Time | None = Field(
        default=None, description="when the first of them runs out; absent: never"
    )


class ReleaseCompleted(Event):
    """The bindings of the proposal were made; they lie in the same batch."""

    TYPE: ClassVar[str] = "release.completed/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _EXAMPLE_STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "release_digest": _DIGEST,
        "approvals": ["approval/CHG-4211", "approval/CHG-4214"],
    }

    release_digest: Digest = Field(description="digest of the proposal")
    approvals: SomeNames = Field(description="streams of the approvals")


class ReleaseWithdrawn(Event):
    """It shall not happen, or not stand. No binding changes with it: that is a rollback's work."""

    TYPE: ClassVar[str] = "release.withdrawn/1"
    STREAM: ClassVar[str] = _STREAM
    EXAMPLE_STREAM: ClassVar[str] = _EXAMPLE_STREAM
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "release_digest": _DIGEST,
        "why": "Weekend forecasts are a third too low.",
    }

    release_digest: Digest = Field(description="digest of the proposal")
    why: Prose = Field(description="why, in words")
