"""Tags and notes: names for moments, words about things."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from ledger.events.event import Event
from ledger.events.fields import Digest, Index, Name, Names, Prose, Stage, misfit

__all__ = ["NoteAdded", "TagSet"]


class TagSet(Event):
    """A name for a position of the ledger or a state; `tag:NAME` finds it. The newest counts."""

    TYPE: ClassVar[str] = "tag.set/1"
    STREAM: ClassVar[str] = "tag/{tag}"
    EXAMPLE_STREAM: ClassVar[str] = "tag/release-7"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "tag": "release-7",
        "index": 1204,
        "state_digest": "sha256:" + "0d" * 32,
        "pipeline": "demand-forecast",
        "stage": "production",
    }

    tag: Name = Field(description="the tag's name")
    index: Index | None = Field(default=None, description="the last entry that belongs to it")
    state_digest: Digest | None = Field(default=None, description="digest of the state meant")
    pipeline: Name | None = Field(default=None, description="the pipeline of that state")
    stage: Stage | None = Field(default=None, description="its stage")

    @model_validator(mode="after")
    def _names_something(self) -> TagSet:
        if self.index is None and self.state_digest is None:
            raise misfit("a tag needs an index or a state_digest", "index")
        return self


class NoteAdded(Event):
    """Words that somebody adds to the record."""

    TYPE: ClassVar[str] = "note.added/1"
    STREAM: ClassVar[str] = "note/{topic}"
    EXAMPLE_STREAM: ClassVar[str] = "note/release"
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "text": "The change board agreed to release 7.",
        "about": ["model/forecaster@7", "tag/release-7"],
    }

    text: Prose = Field(description="the words")
    about: Names = Field(default=(), description="what they are about: references of any kind")
