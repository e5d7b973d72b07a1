"""The quick way through the door says what the plain way says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger.canonical import parse_json_object, parse_time
from ledger.draft import Draft
from ledger.errors import MalformedError
from ledger.events import EVENT_TYPES, Event, draft_of, parse_line
from ledger.events.one_look import one_look, payload_pattern
from ledger.events.quick import quick_draft, quick_draft_of
from ledger.events.registry import REGISTRY
from tests.support.event_strategies import event_data, stream_for

NOW = parse_time("2026-11-21T05:00:00.000000Z")
ACTOR = "service:trainer-0"
some = settings(max_examples=5, suppress_health_check=list(HealthCheck), deadline=None)
many = settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)

# Classes with a rule that no pattern can say: between fields, of a number's limits, of a choice.
NEVER_QUICK = {
    "pipeline.defined/1",
    "binding.removed/1",
    "traffic.changed/1",
    "evaluation.recorded/1",
    "monitoring.observed/1",
    "release.proposed/1",
    "incident.updated/1",
    "rollback.planned/1",
    "rollback.step.started/1",
    "tag.set/1",
    "epoch.started/1",
}
BINDING: dict[str, Any] = {
    "pipeline": "p",
    "stage": "production",
    "slot": "model",
    "asset_version": "model/m@7",
    "reason": "because",
}
RUN: dict[str, Any] = {
    "run": "r",
    "kind": "training",
    "pipeline": "p",
    "stage": "s",
    "params": {"a": 1, "b": [1, {"c": None}]},
}


def plain(text: bytes) -> Draft | MalformedError:
    """What the plain way alone says of a line."""
    try:
        return draft_of(parse_json_object(text, max_bytes=4 << 20), ACTOR, NOW)
    except MalformedError as error:
        return error


def agree(text: bytes) -> Draft | None:
    """The quick way's answer, which is the plain way's where it is one."""
    quick, careful = quick_draft(text, ACTOR, NOW), plain(text)
    if quick is not None:
        assert quick == careful
    try:
        through = parse_line(text, ACTOR, NOW)
    except MalformedError as error:
        assert isinstance(careful, MalformedError) and type(error) is type(careful)
        assert str(error).endswith(str(careful).removeprefix(f"{careful.where}: "))
    else:
        assert through == careful
    return quick


def line(type_name: str, data: dict[str, Any], **beside: Any) -> bytes:
    return json.dumps({"type": type_name, "data": data, **beside}).encode()


# ------------------------------------------------------------------------------- what is accepted


@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
def test_classes_that_are_never_quick(event_class: type[Event]) -> None:
    """So that a change which sends a class the long way is seen."""
    stream = event_class.EXAMPLE_STREAM
    REGISTRY[event_class.TYPE]
    assert (payload_pattern(event_class) is None) == (event_class.TYPE in NEVER_QUICK)
    agree(line(event_class.TYPE, dict(event_class.EXAMPLE), stream=stream))


def test_most_examples_are_quick() -> None:
    quick = [
        name
        for name, cls in EVENT_TYPES.items()
        if quick_draft(line(name, dict(cls.EXAMPLE), stream=cls.EXAMPLE_STREAM), ACTOR, NOW)
    ]
    assert len(quick) >= 40
    assert {"binding.changed/1", "run.started/1", "note.added/1"} <= set(quick)


@some
@given(data=st.data())
@pytest.mark.parametrize("event_class", EVENT_TYPES.values(), ids=lambda cls: cls.TYPE)
def test_any_valid_event(event_class: type[Event], data: st.DataObject) -> None:
    given_data = data.draw(event_data(event_class))
    beside = {"stream": stream_for(event_class, given_data)}
    for name in data.draw(st.sets(st.sampled_from(["effective_at", "source"]))):
        if name in given_data:
            beside[name] = given_data.pop(name)
    text = line(event_class.TYPE, given_data, **beside)
    agree(text)
    read = quick_draft_of(json.loads(text), ACTOR, NOW)
    assert read is None or read == plain(text)


def test_what_stands_beside_the_data() -> None:
    source = {"system": "git", "ref": "a:b", "details": {"x:y": [1.5, -2]}}
    at = "2026-11-20T09:00:00Z"
    for text in (
        line("binding.changed/1", BINDING, effective_at=at, source=source),
        line("binding.changed/1", {**BINDING, "effective_at": at}, source=source),
        line("binding.changed/1", BINDING, stream="pipeline/p@production", expected_version=0),
        line("binding.changed/1", BINDING, stream=None, expected_version=None),
        line("note.added/1", {"text": "\u00e4 \u2028 :"}, stream="note/a:b"),
        line("run.started/1", RUN) + b" \r\n",
    ):
        assert agree(text) is not None, text
    for text in (
        line("binding.changed/1", {**BINDING, "effective_at": at}, effective_at=at),
        line("binding.changed/1", BINDING, effective_at=None),
    ):
        assert agree(text) is None and isinstance(plain(text), Draft)


# ------------------------------------------------------------------------- what must not slip by

NASTY = st.sampled_from(
    [
        '"pipeline":"q",',
        '"pipeline": "p" ,',
        '"p\\u0069peline":"q",',
        '"reason":"\\u003a","reason":"x",',
        '"reason":":","reason":"",',
        '"reason":"a\\":\\"b",',
        '"reason":"\\ud800",',
        '"reason":"\\ud83d\\ude00",',
        '"reason":" ",',
        '"reason":"\\u00a0",',
        '"reason":7,',
        '"reason":"' + "x" * 600 + '",',
        '"change_id":"a\\"b",',
        '"change_id":" a",',
        '"change_id":"' + "x" * 513 + '",',
        '"change_id":"' + "x" * 512 + '",',
        '"change_id":"e\\u0301",',
        '"change_id":null,',
        '"caused_by":[1,2],',
        '"caused_by":[18446744073709551616],',
        '"caused_by":[9007199254740992],',
        '"caused_by":[9007199254740991],',
        '"caused_by":[-0],',
        '"caused_by":[1.0],',
        '"caused_by":[1e2],',
        '"caused_by":[true],',
        '"inferred":true,',
        '"inferred":1,',
        '"effective_at":"2026-11-20T09:00:00Z",',
        '"effective_at":"2026-11-31T09:00:00Z",',
        '"effective_at":"2999-11-20T09:00:00Z",',
        '"effective_at":"2026-11-20T09:00:00.1234567Z",',
        '"source":{"system":"git","details":{"a":1e400}},',
        '"source":{"system":"git","details":{"a":1e5,"b":-0.0,"c":1E-7}},',
        '"source":{"system":"git","details":{"a":123456789012345678901234567890}},',
        '"source":{"system":"git","details":{"a":-9223372036854775809}},',
        '"source":{"system":"git","details":{"a":0.12345678901234567890123}},',
        '"source":{"system":"git","details":{"a":9007199254740993}},',
        '"source":{"system":"git","details":{"a":NaN}},',
        '"source":{"system":"git","details":{"a":1,"a":2}},',
        '"source":{"system":"git","details":' + "[" * 3 + "]" * 3 + "},",
        '"source":{"system":"git","details":{"a":' + "[" * 70 + "]" * 70 + "}},",
        '"source":{"system":"git","details":{"a":' + "[" * 58 + "]" * 58 + "}},",
        '"source":{"system":"git","details":{"password":"hunter2!x"}},',
        '"source":{"system":"git","details":{"token_count":7}},',
        '"source":{"system":"git","system":"x"},',
        '"source":{"system":"a b"},',
        '"source":{},',
        '"unknown":1,',
        '"":1,',
        '"\\u0000":1,',
        '"slot":"x","x":"y",',
        '"slot":"x\\",\\"stage\\":\\"y",',
        "\x00",
        "\ufeff",
        "}",
        ",",
    ]
)
ENDINGS = st.sampled_from(
    ["", "", "", " ", "\n", "\r\n", "x", ",", "{}", "\x00", "\ufeff", "\n{}", "\u00a0"]
)
BESIDE = st.sampled_from(
    [
        "",
        "",
        '"stream":"pipeline/p@production",',
        '"stream":"pipeline/q@production",',
        '"stream":"pipeline/p@production","stream":null,',
        '"stream":7,',
        '"stream":["pipeline/p@production"],',
        '"expected_version":0,',
        '"expected_version":-0,',
        '"expected_version":true,',
        '"expected_version":1.0,',
        '"expected_version":18446744073709551616,',
        '"expected_version":9007199254740992,',
        '"effective_at":null,',
        '"effective_at":"2026-11-20T09:00:00Z",',
        '"effective_at":7,',
        '"effective_at":"2026-11-20T09:00:00Z","effective_at":"2026-11-20T09:00:00Z",',
        '"source":{"system":"git"},',
        '"source":[{"system":"git"}],',
        '"type":"note.added/1",',
        '"type":":",',
        '"data":{},',
        '"data":{"a:b":":"},',
        '"typ":1,',
        '"reason":"x",',
    ]
)


@many
@given(st.lists(NASTY, max_size=3), BESIDE, ENDINGS, st.sampled_from(["", "\ufeff", " "]))
@example([], '"type":":",', "", "")
@example([], '"data":{"a:b":":"},', "", "")
@example(['"reason":":","reason":"",'], "", "", "")
@example(['"source":{"system":"git","details":{"a":123456789012345678901234567890}},'], "", "", "")
def test_lines_with_traps(nasty: list[str], beside: str, ending: str, mark: str) -> None:
    inner = "".join(nasty) + json.dumps(BINDING)[1:]
    text = f'{mark}{{{beside}"type":"binding.changed/1","data":{{{inner}}}{ending}'
    agree(text.encode("utf-8", "surrogatepass"))


@many
@given(
    st.sampled_from([line("binding.changed/1", BINDING), line("run.started/1", RUN)]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_lines_with_changed_bytes(text: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(text)
    for place, byte in changes:
        changed[place % len(changed)] = byte
    agree(bytes(changed))


FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["password=hunter2!x", '"', "\\", ":", "\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@many
@given(st.dictionaries(st.text(max_size=6), FREE, max_size=4), st.booleans())
def test_free_json(params: dict[str, Any], ascii_only: bool) -> None:
    event = {"type": "run.started/1", "data": {**RUN, "params": params}}
    text = json.dumps(event, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    agree(text)


def test_equal_keys_wherever_they_stand() -> None:
    for text in (
        b'{"type":"note.added/1","stream":"note/x","data":{"text":"a","text":"b"}}',
        b'{"type":"note.added/1","stream":"note/x","stream":"note/x","data":{"text":"a"}}',
        b'{"type":"note.added/1","stream":"note/x","data":{"text":"\\u003a\\u003a","text":"b"}}',
        b'{"type":"note.added/1","stream":"note/x","data":{"text":"x"},"data":{"text":"b"}}',
    ):
        assert agree(text) is None
        assert isinstance(plain(text), MalformedError)


def test_too_long_is_left_to_the_plain_way() -> None:
    for size in (1 << 20, (4 << 20) + 1):
        assert agree(line("note.added/1", {"text": "x" * size}, stream="note/x")) is None


# --------------------------------------------------------------------------------------- controls


def test_control_a_look_alone_does_not_see_equal_keys() -> None:
    """The count of colons is needed: what orjson kept looks well."""
    text = b'{"type":"note.added/1","stream":"note/x","data":{"text":"a","text":"b"}}'
    kept = orjson.dumps(orjson.loads(text)["data"]).decode()
    assert one_look(EVENT_TYPES["note.added/1"])(kept, {"text": "b"})


def test_control_a_number_that_lost_digits_has_an_exponent() -> None:
    for number in (2**64, 2**80, -(2**63) - 1, 10**300):
        assert b"e" in orjson.dumps(orjson.loads(str(number)))


def test_control_the_plain_way_would_find_a_wrong_look(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = line("binding.changed/1", {**BINDING, "slot": 7})
    assert agree(wrong) is None
    monkeypatch.setitem(vars(REGISTRY["binding.changed/1"]), "fits", lambda payload, data: True)
    with pytest.raises(AssertionError):
        agree(wrong)
