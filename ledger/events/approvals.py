"""Approvals: a person says yes or no to something with a digest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import Digest, Name, Stage, Time, Word

__all__ = ["ApprovalDecided", "ApprovalRequested"]


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
