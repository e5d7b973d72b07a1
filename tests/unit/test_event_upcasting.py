"""Old schemas are read as the newest one, step by step: proved with versions invented here."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import Field

from ledger.canonical import parse_time
from ledger.errors import UnknownEventError
from ledger.events import (
    EVENT_TYPES,
    REGISTRY,
    Event,
    UnknownEvent,
    Upcast,
    draft,
    event_class,
    read_event,
    upcast,
)
from ledger.events.fields import Name, Names, Prose

NOW = parse_time("2026-11-21T05:00:00.000000Z")


class NoteAdded2(Event):
    """An invented next version: `about` is called `subjects`, and there is a language."""

    TYPE: ClassVar[str] = "note.added/2"
    STREAM: ClassVar[str] = "note/{topic}"
    EXAMPLE_STREAM: ClassVar[str] = "note/x"
    EXAMPLE: ClassVar[dict[str, Any]] = {"text": "x", "language": "en"}

    text: Prose = Field(description="the words")
    subjects: Names = Field(default=(), description="what they are about")
    language: Name = Field(description="their language")


class NoteAdded3(NoteAdded2):
    """One more: the text is called `words`."""

    TYPE: ClassVar[str] = "note.added/3"
    EXAMPLE: ClassVar[dict[str, Any]] = {"text": "x", "language": "en", "words": "x"}

    words: Prose = Field(description="the words once more")


def one_to_two(data: dict[str, Any]) -> dict[str, Any]:
    data["subjects"] = data.pop("about", [])
    return {**data, "language": "und"}


def two_to_three(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "words": data["text"].upper()}


STEPS = {
    "note.added/1": Upcast("note.added/2", one_to_two),
    "note.added/2": Upcast("note.added/3", two_to_three),
}
NEWER = REGISTRY.extended([NoteAdded2, NoteAdded3], STEPS)


def test_a_stored_event_is_read_in_the_newest_schema() -> None:
    stored = {"text": "go", "about": ["tag/a"]}
    read = read_event("note.added/1", stored, registry=NEWER)
    assert read == NoteAdded3(text="go", subjects=("tag/a",), language="und", words="GO")
    assert stored == {"text": "go", "about": ["tag/a"]}  # what was given is left alone


def test_steps_are_chained() -> None:
    newest, data = upcast("note.added/2", {"text": "a", "language": "en"}, registry=NEWER)
    assert (newest, data["words"]) == ("note.added/3", "A")
    assert upcast("note.added/3", {"text": "a"}, registry=NEWER) == ("note.added/3", {"text": "a"})


def test_the_door_takes_every_version_whose_class_is_there() -> None:
    for name, data in (("note.added/1", {"text": "x"}), ("note.added/2", NoteAdded2.EXAMPLE)):
        made = draft((name, data), stream="note/x", actor="user:7", now=NOW, registry=NEWER)
        assert made.type == name


def test_a_version_whose_class_is_gone_is_read_but_not_written() -> None:
    classes = [cls for cls in EVENT_TYPES.values() if cls.TYPE != "note.added/1"]
    later = type(REGISTRY)([*classes, NoteAdded2, NoteAdded3], STEPS)
    assert isinstance(read_event("note.added/1", {"text": "x"}, registry=later), NoteAdded3)
    with pytest.raises(UnknownEventError, match=r"write note\.added/3"):
        draft(
            ("note.added/1", {"text": "x"}),
            stream="note/x",
            actor="user:7",
            now=NOW,
            registry=later,
        )


def test_an_older_program_reads_a_newer_event_as_unknown() -> None:
    read = read_event("note.added/2", {"text": "x", "language": "en"})
    assert isinstance(read, UnknownEvent)
    assert "knows note.added/1" in read.why


def test_the_registry_of_the_program_has_not_changed() -> None:
    assert "note.added/2" not in EVENT_TYPES
    assert not REGISTRY.upcasts
    assert upcast("note.added/1", {"text": "x"}) == ("note.added/1", {"text": "x"})
    with pytest.raises(UnknownEventError):
        event_class("note.added/2")
    with pytest.raises(TypeError):
        EVENT_TYPES["note.added/2"] = NoteAdded2  # type: ignore[index]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("note.added/1", "note.added/9"),
        ("note.added/2", "note.added/1"),
        ("note.added/1", "note.added/1"),
        ("note.added/1", "tag.set/2"),
    ],
)
def test_a_step_that_leads_nowhere_is_our_own_mistake(begin: str, end: str) -> None:
    with pytest.raises(AssertionError, match="an upcast leads from"):
        REGISTRY.extended([NoteAdded2], {begin: Upcast(end, one_to_two)})
