"""Policies and access: who may do what, by which rule, and who looked."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import (
    ActorId,
    Count,
    Digest,
    Json,
    Name,
    Names,
    Prose,
    Time,
    Word,
)

__all__ = ["AccessGranted", "AccessRecorded", "AccessRevoked", "PolicyChanged"]


class PolicyChanged(Event):
    """A rule of the organisation is set, changed or, with `after` null, taken away."""

    TYPE: ClassVar[str] = "policy.changed/1"
    STREAM: ClassVar[str] = "policy/{policy}"
    EXAMPLE_STREAM: ClassVar[str] = "policy/two-person-release"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "before": {"approvals": 1},
        "after": {"approvals": 2, "roles": ["model-owner", "risk"]},
        "reason": "Second line of defence, as of November.",
    }

    before: Json = Field(default=None, description="the rule as it was; null: there was none")
    after: Json = Field(description="the rule as it is from now on; null: there is none")


class AccessGranted(Event):
    """A principal may do more than before."""

    TYPE: ClassVar[str] = "access.granted/1"
    STREAM: ClassVar[str] = "access/{access}"
    EXAMPLE_STREAM: ClassVar[str] = "access/user:81f3"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "principal": "user:81f3",
        "role": "approver",
        "scope": ["pipeline/demand-forecast@production"],
        "before": ["auditor"],
        "after": ["approver", "auditor"],
    }

    principal: ActorId = Field(description="who")
    role: Name | None = Field(default=None, description="the role that is given")
    scope: Names = Field(default=(), description="what for: prefixes of streams; empty: everything")
    before: Json = Field(default=None, description="the principal's rights before")
    after: Json = Field(default=None, description="the principal's rights from now on")
    expires_at: Time | None = Field(default=None, description="until when")
    token: Name | None = Field(default=None, description="the id of a token that is given")
    token_digest: Digest | None = Field(
        default=None, description="keyed digest of the token: hmac-sha256 with a key kept elsewhere"
    )
    roles: Names = Field(default=(), description="what the token may be used for, of what is held")


class AccessRevoked(Event):
    """A principal may do less than before."""

    TYPE: ClassVar[str] = "access.revoked/1"
    STREAM: ClassVar[str] = "access/{access}"
    EXAMPLE_STREAM: ClassVar[str] = "access/user:81f3"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "principal": "user:81f3",
        "role": "approver",
        "before": ["approver", "auditor"],
        "after": ["auditor"],
        "reason": "Left the team.",
    }

    principal: ActorId = Field(description="who")
    role: Name | None = Field(default=None, description="the role that is taken away")
    scope: Names = Field(default=(), description="what for: prefixes of streams; empty: everything")
    before: Json = Field(default=None, description="the principal's rights before")
    after: Json = Field(default=None, description="the principal's rights from now on")
    token: Name | None = Field(default=None, description="the id of a token that ends")


class AccessRecorded(Event):
    """Somebody read, exported or verified, or tried to: the audit of the audit. May be a sample."""

    TYPE: ClassVar[str] = "access.recorded/1"
    STREAM: ClassVar[str] = "access/{access}"
    EXAMPLE_STREAM: ClassVar[str] = "access/reads"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "principal": "user:9ac0",
        "action": "export",
        "outcome": "allowed",
        "scope": ["pipeline/demand-forecast@production"],
        "purpose": "External audit 2026.",
        "count": 1312,
    }

    principal: ActorId | None = Field(default=None, description="who; absent: unknown")
    action: Word = Field(description="read, export, verify, … (open)")
    outcome: Literal["allowed", "refused", "failed"] = Field(
        default="allowed", description="how it ended"
    )
    scope: Names = Field(default=(), description="what was asked for")
    purpose: Prose | None = Field(default=None, description="what for, in words")
    count: Count | None = Field(
        default=None, description="how many entries, or accesses in a batch"
    )
