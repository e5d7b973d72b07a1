"""A look at a payload: what is not known of a schema is never seen to fit."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AliasChoices, ConfigDict, Field, StringConstraints, field_validator

from ledger.canonical import format_json
from ledger.events import EVENT_TYPES, Event, parse_event
from ledger.events.event import Part
from ledger.events.fields import Count, Json, JsonObject, Name, Names, Number, Percent, Prose, Word
from ledger.events.one_look import Look, one_look, payload_pattern
from ledger.events.registry import REGISTRY


def sees(look: Look, data: dict[str, Any]) -> bool:
    return look(format_json(data).decode(), data)


def event_of(field: Any, **config: Any) -> type[Event]:
    """A class of events whose one own field, which must be given, is this."""

    class Tried(Event):
        model_config = ConfigDict(**config)
        TYPE: ClassVar[str] = "tried/1"
        STREAM: ClassVar[str] = "tried/{topic}"
        x: field

    Tried.model_rebuild(_types_namespace={"field": field})
    return Tried


class Loose(Part):
    model_config = ConfigDict(extra="ignore")
    a: Word


class Checked(Part):
    a: Word

    @field_validator("a")
    @classmethod
    def _odd(cls, given: str) -> str:
        raise ValueError("never")


@pytest.mark.parametrize(
    "field",
    [
        Percent,
        Loose,
        Checked,
        str,
        int,
        Annotated[int, Field(ge=1, le=2**53 - 1)],
        Annotated[int, Field(ge=0, le=2**53 - 1, multiple_of=2)],
        Annotated[str, StringConstraints(max_length=5)],
        Annotated[str, StringConstraints(pattern=r"\S", max_length=5)],
        Annotated[str, StringConstraints(pattern="^.$", max_length=512)],
        Annotated[str, StringConstraints(pattern="^[a-z]", max_length=512)],
        Annotated[Names, Field(min_length=2)],
        Annotated[Names, Field(max_length=2)],
        Annotated[dict[Name, Number], Field(max_length=2)],
        tuple[Word, Word],
        list[Word],
        Literal["a", 1],
        Literal['a"b'],
        Annotated[Word, Field(validation_alias=AliasChoices("x", "y"))],
        Word | Count,
    ],
)
def test_rules_that_no_pattern_says_are_never_seen_to_fit(field: Any) -> None:
    tried = event_of(field)
    assert payload_pattern(tried) is None
    assert not sees(one_look(tried), {"x": "a"})


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Word, ["a"], ["a b", "", 'a"', "ä", 1, None]),
        (Name, ["a b", "x" * 512], [" a", "x" * 513, "a\\", 'a"b', "a\n"]),
        (Prose, ["ä b", " x", "x" * 9_000], ["", " ", "\u00a0", '"', "x" * 600 + "\n"]),
        (Count, [0, 7, 2**53 - 1], [-1, 1.5, True, "1"]),
        (Number, [0, -7, 1.5, -0.25], [1e300, 1e-9, "1", True]),
        (bool, [True, False], [0, 1, "true", None]),
        (Names, [[], ["a"], ["a", "b c"]], [["a", 1], "a", [["a"]], [None]]),
        (Annotated[Names, Field(min_length=1)], [["a"]], [[]]),
        (dict[Name, Number], [{}, {"a b": 1, "c": 2.5}], [{"a": "1"}, {" a": 1}, []]),
        (Literal["a", "b.c"], ["a", "b.c"], ["b", "bxc", 1]),
        (Word | None, ["a", None], [1, "null "]),
        (JsonObject, [{}, {"a": [1, {"b": [None]}]}], [[], 1, {"a": 1e300}, {"a": [[[[1]]]]}]),
        (Json, [None, 1, "a", [1], {"a": [{}]}], [1e300, '"']),
    ],
)
def test_what_is_seen_to_fit(field: Any, good: list[Any], bad: list[Any]) -> None:
    """Good ones are seen; bad ones are not, be they wrong or only left to the validator."""
    fits = one_look(event_of(field))
    assert [value for value in good if not sees(fits, {"x": value})] == []
    assert [value for value in bad if sees(fits, {"x": value})] == []
    assert not sees(fits, {}) and not sees(fits, {"w": 1, "x": good[0]})


def test_a_field_that_can_be_left_out_is_left_out() -> None:
    class Tried(Event):
        TYPE: ClassVar[str] = "tried/1"
        STREAM: ClassVar[str] = "tried/{topic}"
        x: Word
        y: Percent | None = None

    Tried.model_rebuild()
    fits = one_look(Tried)
    assert sees(fits, {"x": "a"}) and sees(fits, {"inferred": True, "x": "a"})
    assert not sees(fits, {"x": "a", "y": 7})


def test_long_text_may_stand_where_text_of_any_length_may() -> None:
    fits, long = REGISTRY["binding.changed/1"].fits, "x" * 600
    binding = {"asset_version": "m/m@7", "pipeline": "p", "slot": "s", "stage": "t"}
    assert sees(fits, {**binding, "reason": long})
    assert not sees(fits, {**binding, "slot": long})
    assert not sees(fits, {**binding, "reason": long, "slot": long})
    assert not sees(fits, {**binding, "reason": long, "source": {"system": "git", "ref": long}})


def test_a_class_with_other_settings_is_never_seen_to_fit() -> None:
    assert payload_pattern(event_of(Word)) is not None
    assert payload_pattern(event_of(Word, str_to_lower=True)) is None


@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
def test_a_member_more_or_less_is_never_seen_to_fit(event_class: type[Event]) -> None:
    fits = REGISTRY[event_class.TYPE].fits
    example = dict(event_class.EXAMPLE)
    assert not sees(fits, {**example, "no_such_field": 1})
    for name in example:
        less = {other: value for other, value in example.items() if other != name}
        if sees(fits, less):
            parse_event(event_class.TYPE, less)
