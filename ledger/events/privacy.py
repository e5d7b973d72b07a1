"""Erasure, holds and disposal: what is taken away, on what ground, and the evidence for it.

An entry whose payload is gone verifies only if one of `payload.redacted/1`, `subject.erased/1` or
`record.disposed/1` names its index: a silent deletion is a finding.

An erasure is decided step by step before it is carried out::

    requested ─▶ granted ─▶ started ─▶ (payload.redacted | subject.erased)… ─▶ closed
                    └─▶ blocked by a hold ─┘
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ledger.canonical import canonical_digest
from ledger.events.event import Event
from ledger.events.fields import (
    Count,
    Digest,
    Index,
    Indexes,
    JsonObject,
    Name,
    Names,
    Personal,
    Prose,
    Time,
    Word,
)

__all__ = [
    "ErasureBlocked",
    "ErasureClosed",
    "ErasureGranted",
    "ErasureRequested",
    "ErasureStarted",
    "HoldLifted",
    "HoldPlaced",
    "PayloadRedacted",
    "RecordDisposed",
    "SubjectErased",
]

SomeIndexes = Annotated[tuple[Index, ...], Field(strict=False, min_length=1)]
SomeNames = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]


class ErasureRequested(Event):
    """Somebody asks that data be erased, or asks otherwise: the newest request is the one in force.

    `request_digest` covers the case, the number of the request in it, the subject and the indexes
    (`content_digest`), so a changed request needs other approvals. The ground is not in it: what is
    hashed in the open could be guessed back.
    """

    TYPE: ClassVar[str] = "erasure.requested/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-015"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "number": 1,
        "subject": "c41f6d1a7f0b4b0e",
        "indexes": [12, 88, 1102],
        "ground": "GDPR Art. 17(1)(b), consent withdrawn",
        "received_at": "2026-11-19T08:30:00Z",
        "request_digest": "sha256:" + "5e" * 32,
    }

    number: Count = Field(description="1 for the first request of the case, then one more each")
    subject: Annotated[Name, Personal] | None = Field(
        default=None, description="the random id of the person's key; absent: single payloads"
    )
    indexes: SomeIndexes = Field(description="the entries that hold the data")
    ground: Prose = Field(description="the legal ground")
    received_at: Time | None = Field(default=None, description="when the person asked for it")
    request_digest: Digest = Field(description="digest of the request: what approvals bind to")

    def content_digest(self, stream: str) -> str:
        """What `request_digest` must be: over case, number, subject and indexes (RFC 8785)."""
        return canonical_digest(
            {
                "case": stream,
                "number": self.number,
                "subject": self.subject,
                "indexes": list(self.indexes),
            }
        )


class ErasureGranted(Event):
    """Two people, neither of whom asked for it, approved exactly this request."""

    TYPE: ClassVar[str] = "erasure.granted/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-015"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "request_digest": "sha256:" + "5e" * 32,
        "approvals": ["approval/privacy-2026-015-a", "approval/privacy-2026-015-b"],
    }

    request_digest: Digest = Field(description="digest of the request")
    approvals: SomeNames = Field(description="streams of the approvals")
    expires_at: Time | None = Field(
        default=None, description="when the first of them runs out; absent: never"
    )


class ErasureBlocked(Event):
    """Holds in force cover some of the entries: nothing is erased until they are lifted."""

    TYPE: ClassVar[str] = "erasure.blocked/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-015"
    EXAMPLE: ClassVar[dict[str, Any]] = {"holds": ["hold/litigation-2026-2"], "indexes": [88]}

    holds: SomeNames = Field(description="streams of the holds")
    indexes: SomeIndexes = Field(description="the entries that they hold")


class ErasureStarted(Event):
    """Intent: from here on the data may be gone. What was done follows as entries of its own."""

    TYPE: ClassVar[str] = "erasure.started/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-015"
    EXAMPLE: ClassVar[dict[str, Any]] = {"request_digest": "sha256:" + "5e" * 32}

    request_digest: Digest = Field(description="digest of the request")


class ErasureClosed(Event):
    """The case is over: everything that was asked for is erased, or nothing is."""

    TYPE: ClassVar[str] = "erasure.closed/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-016"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "outcome": "refused",
        "why": "GDPR Art. 17(3)(b): the records must be kept until 2031.",
    }

    outcome: Literal["erased", "refused", "withdrawn"] = Field(description="how it ended")
    why: Prose | None = Field(default=None, description="why, in words")


class PayloadRedacted(Event):
    """The payloads of these entries are gone, or parts of them; the entries stay."""

    TYPE: ClassVar[str] = "payload.redacted/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-014"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "indexes": [417],
        "ground": "A customer's name had been pasted into a note.",
        "approvals": ["approval/privacy-2026-014"],
        "evidence": {"payloads_deleted": 1, "backups_expire_on": "2026-12-21"},
    }

    indexes: SomeIndexes = Field(description="the entries whose payload is gone")
    ground: Prose = Field(description="why it was right to do so")
    approvals: Names = Field(default=(), description="streams of the approvals")
    evidence: JsonObject = Field(default_factory=dict, description="what was done, with counts")


class SubjectErased(Event):
    """The personal data of one person is gone: key destroyed, ciphertext deleted."""

    TYPE: ClassVar[str] = "subject.erased/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/2026-015"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "subject": "c41f6d1a7f0b4b0e",
        "indexes": [12, 88, 1102],
        "ground": "GDPR Art. 17(1)(b), consent withdrawn",
        "approvals": ["approval/privacy-2026-015"],
        "evidence": {"decrypt_attempts_failed": 3, "decrypt_attempts": 3},
    }

    subject: Annotated[Name, Personal] = Field(description="the random id of the person's key")
    indexes: Indexes = Field(description="the entries that held the data")
    ground: Prose = Field(description="the legal ground")
    approvals: Names = Field(default=(), description="streams of the approvals")
    evidence: JsonObject = Field(default_factory=dict, description="what was done, with counts")


class HoldPlaced(Event):
    """These records must not be erased or disposed of, whatever their retention says."""

    TYPE: ClassVar[str] = "hold.placed/1"
    STREAM: ClassVar[str] = "hold/{hold}"
    EXAMPLE_STREAM: ClassVar[str] = "hold/litigation-2026-2"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "ground": "Litigation, file 2026-2",
        "streams": ["pipeline/demand-forecast@production"],
        "approvals": ["approval/hold-2026-2"],
    }

    ground: Prose = Field(description="why")
    indexes: Indexes = Field(default=(), description="the entries that are held")
    streams: Names = Field(
        default=(), description="the streams that are held, whole; prefixes end in /"
    )
    until: Time | None = Field(default=None, description="when it ends by itself; absent: never")
    role: Name | None = Field(default=None, description="the role in which it is placed")
    approvals: Names = Field(default=(), description="streams of the approvals")
    evidence: JsonObject = Field(default_factory=dict, description="the order, by digest")


class HoldLifted(Event):
    """The hold of this stream is over."""

    TYPE: ClassVar[str] = "hold.lifted/1"
    STREAM: ClassVar[str] = "hold/{hold}"
    EXAMPLE_STREAM: ClassVar[str] = "hold/litigation-2026-2"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "ground": "The case is settled.",
        "approvals": ["approval/hold-2026-2-end"],
    }

    ground: Prose = Field(description="why")
    indexes: Indexes = Field(default=(), description="the entries that are free again; empty: all")
    role: Name | None = Field(default=None, description="the role in which it is lifted")
    approvals: Names = Field(default=(), description="streams of the approvals")
    evidence: JsonObject = Field(default_factory=dict, description="the order, by digest")


class RecordDisposed(Event):
    """The retention of these records is over and their payloads are gone."""

    TYPE: ClassVar[str] = "record.disposed/1"
    STREAM: ClassVar[str] = "privacy/{case}"
    EXAMPLE_STREAM: ClassVar[str] = "privacy/disposal-2026-q4"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "indexes": [3, 4, 5],
        "ground": "Retention of 24 months is over.",
        "retention_class": "soc2",
        "approvals": ["approval/disposal-2026-q4"],
        "evidence": {"payloads_deleted": 3},
    }

    indexes: SomeIndexes = Field(description="the entries whose payload is gone")
    ground: Prose = Field(description="why it was right to do so")
    retention_class: Word | None = Field(default=None, description="the class whose time is over")
    approvals: Names = Field(default=(), description="streams of the approvals")
    evidence: JsonObject = Field(default_factory=dict, description="what was done, with counts")
