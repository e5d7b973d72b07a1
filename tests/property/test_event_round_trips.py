"""What passes the door is read back as it came, whatever it is: over every class of events."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.canonical import parse_json_object, parse_time
from ledger.errors import MalformedError
from ledger.events import (
    EVENT_TYPES,
    Event,
    draft,
    parse_drafts,
    parse_event,
    read_event,
    stream_of,
)
from tests.support.event_strategies import event_data, stream_for

NOW = parse_time("2026-11-21T05:00:00.000000Z")
ACTOR = "service:trainer-0"
some = settings(max_examples=12, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
@some
@given(data=st.data())
def test_an_event_is_read_back_as_it_came(event_class: type[Event], data: st.DataObject) -> None:
    given_data = data.draw(event_data(event_class))
    stream = stream_for(event_class, given_data)
    made = draft((event_class.TYPE, given_data), stream=stream, actor=ACTOR, now=NOW)

    kept = parse_json_object(made.payload)  # strict: what the door lets in, every reader takes
    assert kept == given_data
    assert made.stream == stream

    event = parse_event(event_class.TYPE, given_data)
    assert read_event(made.type, kept) == event
    assert draft(event, stream=stream, actor=ACTOR, now=NOW) == made
    assert stream_of(event) in (None, stream)

    line = json.dumps({"type": made.type, "stream": stream, "data": given_data})
    assert parse_drafts(line.encode(), ACTOR, NOW) == [made]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += _paths(value[key], (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            found += _paths(item, (*path, i))
    return found


def _put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 53,
    1.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\x00",
    "e\u0301",
    [],
    {},
    ["x"],
)
NASTY += ({"a": object()}, "x" * 600, {"\ud800": 1}, "\ud800", {1: 2}, "a@b", b"bytes")


@some
@given(data=st.data())
@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
def test_damaged_data_pass_unchanged_or_are_refused_with_a_place(
    event_class: type[Event], data: st.DataObject
) -> None:
    """Only MalformedError comes out, and what does pass is strict JSON that reads back equal."""
    damaged = json.loads(json.dumps(event_class.EXAMPLE))
    path = data.draw(st.sampled_from(_paths(damaged)))
    _put(damaged, path, data.draw(st.sampled_from(NASTY)))
    try:
        made = draft(
            (event_class.TYPE, damaged), stream=event_class.EXAMPLE_STREAM, actor=ACTOR, now=NOW
        )
    except MalformedError as error:
        assert error.where, str(error)
        assert "\n" not in str(error)
    else:
        assert parse_json_object(made.payload) == damaged
        assert orjson.loads(made.payload) == damaged
