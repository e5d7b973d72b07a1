"""What all events have in common.

::

    NoteAdded(text="Approved by the change board.", effective_at="2026-11-21T06:00:00+01:00")

An event is frozen, strict (no text for a number) and closed (no field that it does not know). Its
class names the type that is stored, never a Python path, and where it lies: `STREAM` is a template
whose places in braces are fields of the event, or, where it has no such field, left to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ledger.events.fields import (
    Flag,
    Indexes,
    JsonObject,
    Name,
    PersonalName,
    Prose,
    Time,
    Word,
)

__all__ = ["COMMON_FIELDS", "Event", "Part", "Source", "UnknownEvent"]


class Part(BaseModel):
    """A piece of an event: frozen, strict and closed as the event itself.

    Its validator is made when it is first used: a command uses one event or two of half a hundred.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class Source(Part):
    """A place in a foreign system: enough to find it again there, for an asset to restore it."""

    system: Word = Field(description="the system: git, files, mlflow, …")
    ref: Prose | None = Field(
        default=None, description="its native reference: a commit, a run, a URL"
    )
    claimed_actor: PersonalName | None = Field(
        default=None, description="who it was, as the system says; not verified by the ledger"
    )
    authenticated_by: Word | None = Field(
        default=None, description="how the system knew the actor: oidc, ssh_key, none, …"
    )
    details: JsonObject | None = Field(
        default=None, description="what else the system's connector needs or was told"
    )


class Event(Part):
    """The fields that every event may carry. What is not given stays absent in the payload."""

    TYPE: ClassVar[str]
    STREAM: ClassVar[str]
    EXAMPLE: ClassVar[Mapping[str, Any]]
    EXAMPLE_STREAM: ClassVar[str]

    effective_at: Time | None = Field(
        default=None,
        description="when it took effect, RFC 3339 with offset; absent: when it is recorded",
    )
    reason: Prose | None = Field(default=None, description="why, in words")
    change_id: Name | None = Field(
        default=None, description="the change, ticket or request it belongs to"
    )
    caused_by: Indexes | None = Field(default=None, description="the entries that led to it")
    source: Source | None = Field(default=None, description="where the fact comes from")
    inferred: Flag | None = Field(
        default=None, description="true: concluded from what was seen, not reported by who did it"
    )


COMMON_FIELDS = frozenset(Event.model_fields)


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An entry whose data this program cannot read as an event, kept as it is.

    A newer program wrote it, or an older one whose type is gone. It verifies as any other entry
    does: what is hashed is its bytes.
    """

    type: str
    data: Mapping[str, Any]
    why: str
