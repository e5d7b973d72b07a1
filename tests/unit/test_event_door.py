"""The door: each rule of docs/spec/payload.md, what it says, and where."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from ledger.canonical import parse_time
from ledger.draft import Draft, as_draft
from ledger.errors import MalformedError, UnknownEventError
from ledger.events import (
    MAX_PAYLOAD_BYTES,
    UnknownEvent,
    draft,
    event_class,
    parse_event,
    read_event,
    stream_of,
)
from ledger.events.explaining import FAST, NUMBER, SLOW

NOW = parse_time("2026-11-21T05:00:00.000000Z")
BINDING = "binding.changed/1"
GOOD: dict[str, Any] = {
    "pipeline": "forecast",
    "stage": "production",
    "slot": "model",
    "asset_version": "model/forecaster@7",
}


def note(**more: Any) -> tuple[str, dict[str, Any]]:
    return "note.added/1", {"text": "go", **more}


def test_a_draft_holds_the_bytes_that_were_given_sorted() -> None:
    made = draft((BINDING, {**GOOD, "reason": None}), actor="user:7", expected_version=3, now=NOW)
    assert made == Draft(
        type=BINDING,
        stream="pipeline/forecast@production",
        actor="user:7",
        payload=b'{"asset_version":"model/forecaster@7","pipeline":"forecast","reason":null,'
        b'"slot":"model","stage":"production"}',
        expected_version=3,
    )


def test_the_quick_way_to_a_draft_makes_the_same() -> None:
    quick = as_draft(("t/1", "s", "user:7", b"{}", None))
    assert type(quick) is Draft
    assert quick == Draft(type="t/1", stream="s", actor="user:7", payload=b"{}")
    assert hash(quick) == hash(Draft(type="t/1", stream="s", actor="user:7", payload=b"{}"))


def test_a_model_and_its_data_make_the_same_draft() -> None:
    data = {**GOOD, "source": {"system": "git", "details": {"a": [1, {"b": None}]}}}
    by_data = draft((BINDING, data), actor="user:7", now=NOW)
    assert draft(parse_event(BINDING, data), actor="user:7", now=NOW) == by_data


def test_any_mapping_is_taken_for_an_object() -> None:
    data = MappingProxyType(GOOD)
    assert draft((BINDING, data), actor="user:7", now=NOW) == draft(
        (BINDING, GOOD), actor="user:7", now=NOW
    )
    assert parse_event(BINDING, data) == read_event(BINDING, data) == parse_event(BINDING, GOOD)


# 1. the type


@pytest.mark.parametrize(
    ("type_name", "words"),
    [
        ("binding.chnged/1", "nearest: binding.changed/1"),
        ("binding.changed/2", "knows binding.changed/1"),
        ("binding.changed", "knows binding.changed/1"),
        ("entirely-other", "docs/events.md"),
        (7, "must be a string"),
        (["binding.changed/1"], "must be a string"),
    ],
)
def test_1_unknown_types_name_the_nearest(type_name: Any, words: str) -> None:
    with pytest.raises(UnknownEventError, match=words) as caught:
        draft((type_name, GOOD), actor="user:7", now=NOW)
    assert caught.value.where == "type"


# 2. the schema


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        ({"slots": "x"}, "/slots", 'did you mean "slot"'),
        ({"colour": "x"}, "/colour", "there are: approval, asset_version"),
        ({"slot": 7}, "/slot", "must be a string"),
        ({"slot": "a\x00b"}, "/slot", "control character"),
        ({"slot": "e\u0301"}, "/slot", "NFC"),
        ({"slot": ""}, "/slot", "1 to 512 bytes"),
        ({"slot": "ü" * 257}, "/slot", "1 to 512 bytes"),
        ({"slot": " a"}, "/slot", "space"),
        ({"stage": "a@b"}, "/stage", '"@"'),
        ({"asset_version": "forecaster"}, "/asset_version", "<kind>/<name>@<version>"),
        ({"asset_version": "Model/a@1"}, "/asset_version", "kind of asset"),
        ({"reason": "  "}, "/reason", "blank"),
        ({"reason": "\ud800"}, "/reason", "surrogate"),
        ({"effective_at": "2026-11-21T05:00:00"}, "/effective_at", "offset"),
        ({"effective_at": "2026-02-30T05:00:00Z"}, "/effective_at", "no such time"),
        ({"caused_by": [1 << 53]}, "/caused_by/0", "9007199254740991"),
        ({"caused_by": "x"}, "/caused_by", "list"),
        ({"inferred": 1}, "/inferred", "true or false"),
        ({"source": "git"}, "/source", "object"),
        ({"source": {"system": "git", "reff": "x"}}, "/source/reff", 'did you mean "ref"'),
        (
            {"source": {"system": "g", "details": {"a/b": [float("nan")]}}},
            "/source/details/a~1b/0",
            "nan",
        ),
        (
            {"source": {"system": "g", "details": {"a": {"b": [1]}, "c": -float("inf")}}},
            "/source/details/c",
            "inf",
        ),
        (
            {"source": {"system": "g", "details": {"a": 1 << 53}}},
            "/source/details/a",
            "send it as a string",
        ),
        ({"source": {"system": "g", "details": {"a": {1: 2}}}}, "/source/details/a", "not text"),
        ({"source": {"system": "g", "details": {"\ud800": 2}}}, "/source/details", "not text"),
        ({"source": {"system": "g", "details": {"a": "\ud800"}}}, "/source/details/a", "surrogate"),
        ({"source": {"system": "g", "details": {"a": {2}}}}, "/source/details/a", "Python set"),
    ],
)
def test_2_data_that_do_not_fit_are_refused(change: Any, where: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        draft((BINDING, {**GOOD, **change}), actor="user:7", now=NOW)
    assert caught.value.where == where


def test_2_several_problems_are_named_at_once() -> None:
    with pytest.raises(MalformedError) as caught:
        draft((BINDING, {"slots": "x"}), actor="user:7", now=NOW)
    assert str(caught.value) == (
        '/pipeline: the field "pipeline" is missing; /stage: the field "stage" is missing;'
        ' /slot: the field "slot" is missing; and 2 more'
    )


def test_2_a_wrong_key_of_a_mapping_is_shown() -> None:
    data = {**event_class("traffic.changed/1").EXAMPLE, "shares": {"a": 100}}
    with pytest.raises(MalformedError, match="the key 'a' is not an asset version") as caught:
        draft(("traffic.changed/1", data), actor="user:7", now=NOW)
    assert caught.value.where == "/shares/a"


@pytest.mark.parametrize("number", [True, "7", float("inf"), float("nan"), None])
def test_2_numbers_are_finite_numbers(number: Any) -> None:
    data = {**event_class("drift.detected/1").EXAMPLE, "value": number}
    with pytest.raises(MalformedError, match="/value: must be a finite number"):
        parse_event("drift.detected/1", data)


@pytest.mark.parametrize("number", [1 << 53, -(1 << 53)])
def test_2_integers_fit_a_double(number: int) -> None:
    data = {**event_class("drift.detected/1").EXAMPLE, "value": number}
    with pytest.raises(MalformedError, match=r"/value: must be .* equal to -?9007199254740991"):
        parse_event("drift.detected/1", data)


@pytest.mark.parametrize("data", [None, "x", [1], 7])
def test_2_data_that_are_no_object(data: Any) -> None:
    with pytest.raises(MalformedError, match="must be an object"):
        draft(("note.added/1", data), stream="note/x", actor="user:7", now=NOW)


@pytest.mark.parametrize("name", ["", "\0", "\0x", FAST, SLOW, NUMBER, "~/", "[key]"])
def test_whatever_an_unknown_field_is_called(name: str) -> None:
    for type_name in ("note.added/1", "traffic.changed/1", "pipeline.defined/1"):
        with pytest.raises(MalformedError, match=r"unknown field|is missing"):
            draft((type_name, {name: 1}), actor="user:7", now=NOW)
        inside = {"text": "x", "change_id": {name: {name: 1}}, "about": [{name: 1}], name: [1]}
        with pytest.raises(MalformedError):
            draft((type_name, inside), actor="user:7", now=NOW)


def test_2_an_unknown_field_inside_a_list_names_its_neighbours() -> None:
    data = {**event_class("pipeline.defined/1").EXAMPLE, "slots": [{"slot": "a", "kimd": "model"}]}
    with pytest.raises(
        MalformedError, match='/slots/0/kimd: unknown field "kimd"; did you mean "kind"'
    ):
        parse_event("pipeline.defined/1", data)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_2_free_json_nests_as_deep_as_readers_accept() -> None:
    fits = {"system": "g", "details": nested(60)}
    draft((BINDING, {**GOOD, "source": fits}), actor="user:7", now=NOW)
    with pytest.raises(MalformedError, match="nested deeper than 60"):
        draft(
            (BINDING, {**GOOD, "source": {**fits, "details": nested(61)}}), actor="user:7", now=NOW
        )


# 3. and 4. the payload


def test_4_one_mebibyte_is_the_most() -> None:
    room = MAX_PAYLOAD_BYTES - len(b'{"text":""}')
    made = draft(note(text="x" * room), stream="note/x", actor="user:7", now=NOW)
    assert len(made.payload) == MAX_PAYLOAD_BYTES
    with pytest.raises(MalformedError, match=r"1048577 bytes of payload.*digest and location"):
        draft(note(text="x" * (room + 1)), stream="note/x", actor="user:7", now=NOW)


# 5. secrets


def test_5_a_secret_is_refused_with_its_place() -> None:
    data = {**GOOD, "source": {"system": "g", "details": {"env": {"DB_PASSWORD": "hunter2!"}}}}
    with pytest.raises(MalformedError, match="looks like a password") as caught:
        draft((BINDING, data), actor="user:7", now=NOW)
    assert caught.value.where == "/source/details/env/DB_PASSWORD"


def test_5_what_only_sounds_like_one_passes() -> None:
    draft(note(text="the token_count was 7"), stream="note/x", actor="user:7", now=NOW)


# 6. the actor


@pytest.mark.parametrize(
    "actor", ["bob", "user:", "robot:7", "user:a b", "user:anna@example.com", ""]
)
def test_6_actors_are_ids(actor: str) -> None:
    with pytest.raises(MalformedError) as caught:
        draft(note(), stream="note/x", actor=actor, now=NOW)
    assert caught.value.where == "actor"


# 7. the stream


@pytest.mark.parametrize(
    ("event", "stream", "words"),
    [
        (note(), None, "name it note/<topic>"),
        (note(), "notes/x", "name it note/<topic>"),
        (note(), "note/", "name it note/<topic>"),
        (note(), "note/ x", "name it note/<topic>"),
        (note(), 7, "must be a string"),
        (note(), "note/a\nb", "control character"),
        (note(), "note/e\u0301", "NFC"),
        (note(), "note/" + "x" * 508, "1 to 512 bytes"),
        ((BINDING, GOOD), "pipeline/other@production", "belongs to the stream 'pipeline/forecast@"),
        (("run.finished/1", {"status": "ok"}), None, "name it run/<run>"),
        (("run.finished/1", {"status": "ok", "run": "7"}), "run/8", "belongs to"),
        (("run.finished/1", {"status": "ok", "run": None}), None, "name it run/<run>"),
        (
            ("asset.version.withdrawn/1", {"version": "1", "why": "x"}),
            "asset/Model/a",
            "name it asset",
        ),
        (
            ("asset.version.withdrawn/1", {"version": "1", "why": "x", "kind": "code"}),
            "asset/model/a",
            "the stream says kind 'model', the data 'code'",
        ),
        (("ledger.opened/1", event_class("ledger.opened/1").EXAMPLE), "note/x", "belongs to"),
    ],
)
def test_7_the_stream_is_the_events(event: Any, stream: Any, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        draft(event, stream=stream, actor="user:7", now=NOW)
    assert caught.value.where == "stream"


@pytest.mark.parametrize(
    ("event", "stream"),
    [
        (note(), "note/a/b c/Ü"),
        (("run.finished/1", {"status": "ok"}), "run/8"),
        (("asset.version.withdrawn/1", {"version": "1", "why": "x"}), "asset/model/eu/a"),
        (
            ("asset.version.withdrawn/1", {"version": "1", "why": "x", "name": "a/b"}),
            "asset/model/a/b",
        ),
    ],
)
def test_7_the_stream_carries_what_the_data_leave_out(event: Any, stream: str) -> None:
    assert draft(event, stream=stream, actor="user:7", now=NOW).stream == stream
    assert stream_of(parse_event(*event)) is None


def test_7_the_stream_may_be_left_out_where_the_data_say_it() -> None:
    event = event_class("observation.recorded/1").EXAMPLE
    made = draft(("observation.recorded/1", event), actor="user:7", now=NOW)
    assert made.stream == "observed/git/forecast.git"
    opened = event_class("ledger.opened/1").EXAMPLE
    assert draft(("ledger.opened/1", opened), actor="user:7", now=NOW).stream == "ledger"


# 8. time


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("2026-11-21T05:04:59Z", True),
        ("2026-11-21T05:05:00Z", True),
        ("2026-11-21T05:05:00.000001Z", False),
        ("2026-11-21T06:05:00+01:00", True),
        ("2026-11-21T06:05:01+01:00", False),
        ("2026-11-21T04:05:01-01:00", False),
        ("2026-11-21 05:04:59Z", True),
        ("2026-11-21 05:06:00Z", False),
        ("2026-11-21t05:06:00z", False),
        ("1999-12-31T23:59:59Z", True),
        ("2027-01-01T00:00:00Z", False),
    ],
)
def test_8_effective_at_lies_at_most_five_minutes_ahead(text: str, accepted: bool) -> None:
    if accepted:
        draft(note(effective_at=text), stream="note/x", actor="user:7", now=NOW)
        return
    with pytest.raises(MalformedError, match="in the future") as caught:
        draft(note(effective_at=text), stream="note/x", actor="user:7", now=NOW)
    assert caught.value.where == "/effective_at"


# 9. the expected version


@pytest.mark.parametrize("version", [-1, True, 1.0, "1", 1 << 53])
def test_9_the_expected_version_is_one(version: Any) -> None:
    with pytest.raises(MalformedError, match="0 for a new stream"):
        draft(note(), stream="note/x", actor="user:7", expected_version=version, now=NOW)


# reading


def test_an_unknown_type_stays_readable() -> None:
    data = {"anything": [1, None]}
    read = read_event("quantum.entangled/9", data)
    assert isinstance(read, UnknownEvent)
    assert (read.type, read.data) == ("quantum.entangled/9", data)
    assert "unknown" in read.why


def test_data_that_no_schema_fits_stay_readable() -> None:
    read = read_event("note.added/1", {"words": "x"})
    assert isinstance(read, UnknownEvent)
    assert '"text" is missing' in read.why
