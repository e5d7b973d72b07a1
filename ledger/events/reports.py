"""Reports: that one was made, of what, standing on which tree."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ledger.events.event import Event
from ledger.events.fields import Count, Digest, Indexes, JsonObject, Name, Names, Prose, Root, Word

__all__ = ["ReportGenerated"]


class ReportGenerated(Event):
    """A report was generated; the same parameters and the same tree give the same bytes."""

    TYPE: ClassVar[str] = "report.generated/1"
    STREAM: ClassVar[str] = "report/{report}"
    EXAMPLE_STREAM: ClassVar[str] = "report/2026-11-21-r1"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "kind": "state-as-of",
        "digest": "sha256:" + "2f" * 32,
        "parameters": {"pipeline": "demand-forecast", "at": "2026-11-20T12:00:00Z"},
        "tree_size": 1312,
        "root": "sha256:" + "3b" * 32,
        "ground": "External audit 2026",
    }

    kind: Word = Field(description="which report")
    digest: Digest | None = Field(default=None, description="digest of the file")
    parameters: JsonObject = Field(default_factory=dict, description="what was asked")
    tree_size: Count | None = Field(default=None, description="entries in the tree it stands on")
    root: Root | None = Field(default=None, description="root of that tree")
    template: Name | None = Field(default=None, description="the template, with version")
    indexes: Indexes = Field(default=(), description="the entries that it cites")
    ground: Prose | None = Field(default=None, description="what it was made for")
    approvals: Names = Field(default=(), description="streams of its signatures and approvals")
    evidence: JsonObject = Field(default_factory=dict, description="seals, time stamps, counts")
