"""Approvals: a person says yes or no to something with a digest.

::

    requested ─▶ decided (approved) ─▶ used
                 decided (rejected)
                 expired | voided

One stream is one question to one person. What needs several people asks several questions.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import Digest, Name, Names, Stage, Time, Word

__all__ = [
    "ApprovalDecided",
    "ApprovalExpired",
    "ApprovalRequested",
    "ApprovalUsed",
    "ApprovalVoided",
]


class ApprovalRequested(Event):
    """Somebody asks for a decision on exactly this: what has the digest, nothing else."""

    TYPE: ClassVar[str] = "approval.requested/1"
    STREAM: ClassVar[str] = "approval/{approval}"
    EXAMPLE_STREAM: ClassVar[str] = "approval/CHG-4211"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject_digest": "sha256:" + "7c" * 32,
        "meaning": "authorised_deployment",
        "policy": "two-person-release",
        "subject": "model/forecaster@7",
        "pipeline": "demand-forecast",
        "stage": "production",
    }

    subject_digest: Digest = Field(description="digest of what is to be approved")
    meaning: Word = Field(description="what a yes means: reviewed, authorised_deployment, … (open)")
    policy: Name | None = Field(default=None, description="the policy that asks for it")
    subject: Name | None = Field(default=None, description="what it is, as a reference")
    pipeline: Name | None = Field(default=None, description="the pipeline that it concerns")
    stage: Stage | None = Field(default=None, description="its stage")
    roles: Names = Field(
        default=(), description="the roles in one of which it may be decided; empty: any"
    )
    expires_at: Time | None = Field(default=None, description="until when a decision is of use")


class ApprovalDecided(Event):
    """A person decides; who it is stands in the entry's actor."""

    TYPE: ClassVar[str] = "approval.decided/1"
    STREAM: ClassVar[str] = "approval/{approval}"
    EXAMPLE_STREAM: ClassVar[str] = "approval/CHG-4211"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "decision": "approved",
        "meaning": "authorised_deployment",
        "role": "model-owner",
        "subject_digest": "sha256:" + "7c" * 32,
    }

    decision: Literal["approved", "rejected"] = Field(description="yes or no")
    meaning: Word = Field(description="what it means, as asked")
    role: Name | None = Field(default=None, description="the role in which it is given")
    subject_digest: Digest | None = Field(
        default=None, description="digest of what was decided on, as the person saw it"
    )


class ApprovalExpired(Event):
    """Its time ran out before it was of use: from here on it is none."""

    TYPE: ClassVar[str] = "approval.expired/1"
    STREAM: ClassVar[str] = "approval/{approval}"
    EXAMPLE_STREAM: ClassVar[str] = "approval/CHG-4212"
    EXAMPLE: ClassVar[dict[str, Any]] = {"subject_digest": "sha256:" + "7c" * 32}

    subject_digest: Digest = Field(description="digest of what was to be approved")


class ApprovalVoided(Event):
    """What was to be approved has changed: a yes to the old one is no yes to the new one."""

    TYPE: ClassVar[str] = "approval.voided/1"
    STREAM: ClassVar[str] = "approval/{approval}"
    EXAMPLE_STREAM: ClassVar[str] = "approval/CHG-4213"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject_digest": "sha256:" + "7c" * 32,
        "digest_now": "sha256:" + "8d" * 32,
        "reason": "The container was built again.",
    }

    subject_digest: Digest = Field(description="digest of what was to be approved")
    digest_now: Digest | None = Field(
        default=None, description="digest of the same thing as it is now; absent: there is none"
    )


class ApprovalUsed(Event):
    """A decision stood on this approval; it stands for no second one."""

    TYPE: ClassVar[str] = "approval.used/1"
    STREAM: ClassVar[str] = "approval/{approval}"
    EXAMPLE_STREAM: ClassVar[str] = "approval/CHG-4211"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject_digest": "sha256:" + "7c" * 32,
        "by": "release/2026-47",
    }

    subject_digest: Digest = Field(description="digest of what was approved")
    by: Name = Field(description="the stream of the decision that stands on it")
