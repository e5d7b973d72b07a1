"""Erasure, holds and disposal: what is taken away, on what ground, and the evidence for it.

An entry whose payload is gone verifies only if one of `payload.redacted/1`, `subject.erased/1` or
`record.disposed/1` names its index: a silent deletion is a finding.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import (
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

__all__ = ["HoldLifted", "HoldPlaced", "PayloadRedacted", "RecordDisposed", "SubjectErased"]

SomeIndexes = Annotated[tuple[Index, ...], Field(strict=False, min_length=1)]


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
