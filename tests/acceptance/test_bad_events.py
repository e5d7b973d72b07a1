"""Bad events as they come in from outside, against a real ledger: refused whole, with a place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.audit import verify
from ledger.canonical import format_json, parse_time
from ledger.draft import Draft
from ledger.errors import AsofError, MalformedError, UnknownEventError
from ledger.events import EVENT_TYPES, Event, UnknownEvent, draft, parse_drafts, read_event
from ledger.opening import Ledger, create_ledger

NOW = parse_time("2026-11-22T00:00:00.000000Z")
ACTOR = "user:7"
GOOD = b'{"type":"note.added/1","stream":"note/x","data":{"text":"good"}}\n'


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder: Path = tmp_path_factory.mktemp("bad-events")
    with create_ledger(f"sqlite:///{folder / 'asof.db'}", clock=lambda: NOW) as opened:
        yield opened


def record(ledger: Ledger, text: bytes) -> None:
    """What `asof record` does, without the command line."""
    ledger.writer.append(parse_drafts(text, ACTOR, NOW))


def event(data: object, **envelope: object) -> bytes:
    whole = {"type": "note.added/1", "stream": "note/x", "data": data, **envelope}
    return json.dumps(whole).encode()


def raw(text: str) -> bytes:
    """An event whose text is written as it stands: what json.dumps would not write."""
    return b'{"type":"note.added/1","stream":"note/x","data":' + text.encode() + b"}"


DEEP = '{"text":"x","source":{"system":"s","details":' + '{"a":' * 64 + "1" + "}" * 64 + "}}"
BAD = {
    "unknown type": (event({}, type="note.aded/1"), "/type", "nearest: note.added/1"),
    "unknown version": (event({"text": "x"}, type="note.added/2"), "/type", "knows note.added/1"),
    "missing field": (event({}), "/data/text", 'the field "text" is missing'),
    "extra field": (event({"text": "x", "abuot": []}), "/data/abuot", 'did you mean "about"'),
    "wrong kind of value": (event({"text": 7}), "/data/text", "must be a string"),
    "duplicate key": (raw('{"text":"a","text":"b"}'), "/data/text", "twice"),
    "escaped duplicate key": (raw('{"text":"a","\\u0074ext":"b"}'), "/data/text", "twice"),
    "NaN": (raw('{"text":NaN}'), "/data/text", "NaN"),
    "Infinity": (raw('{"text":"x","caused_by":[Infinity]}'), "/data/caused_by/0", "Infinity"),
    "1e999": (raw('{"text":"x","caused_by":[1e999]}'), "/data/caused_by/0", "overflows"),
    "beyond 2^53": (
        raw('{"text":"x","caused_by":[9007199254740992]}'),
        "/data/caused_by/0",
        "2^53",
    ),
    "lone surrogate": (raw('{"text":"\\ud800"}'), "/data/text", "surrogate"),
    "too deep": (raw(DEEP), "/data/source/details", "deep"),
    "payload too long": (event({"text": "x" * (1 << 20)}), "/data", "1 MiB"),
    "control character in a name": (
        event({"text": "x", "about": ["a\u0000"]}),
        "/data/about/0",
        "control",
    ),
    "control character in a stream": (
        event({"text": "x"}, stream="note/a\n"),
        "/stream",
        "note/<topic>",
    ),
    "not NFC": (event({"text": "x", "about": ["e\u0301"]}), "/data/about/0", "NFC"),
    "time without offset": (
        event({"text": "x"}, effective_at="2026-11-21T05:00:00"),
        "/effective_at",
        "offset",
    ),
    "in the future": (
        event({"text": "x"}, effective_at="2026-11-22T00:05:01Z"),
        "/effective_at",
        "future",
    ),
    "wrong stream": (event({"tag": "a", "index": 0}, type="tag.set/1"), "/stream", "belongs to"),
    "secret": (event({"text": "DB_PASSWORD=hunter2!"}), "/data/text", "reference"),
    "invalid UTF-8": (b'{"type":"\xff"}', "byte 9", "UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "byte 0", "byte order mark"),
    "not JSON": (b"note.added/1", "line 1", "not JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_event_is_refused_with_what_and_where(ledger: Ledger, case: str) -> None:
    text, where, words = BAD[case]
    before = ledger.reader.size()
    with pytest.raises(MalformedError) as caught:
        record(ledger, text)
    assert caught.value.where.startswith(where)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2
    assert ledger.reader.size() == before


@pytest.mark.parametrize("case", [case for case in BAD if case != "byte order mark"])
def test_a_bad_line_keeps_the_whole_batch_out(ledger: Ledger, case: str) -> None:
    before = ledger.reader.size()
    with pytest.raises(MalformedError) as caught:
        record(ledger, GOOD + BAD[case][0] + b"\n" + GOOD)
    assert caught.value.where.startswith("line 2")
    assert ledger.reader.size() == before


def test_a_wrong_expected_version_is_a_conflict(ledger: Ledger) -> None:
    before = ledger.reader.size()
    with pytest.raises(AsofError) as caught:
        record(ledger, GOOD + event({"text": "x"}, expected_version=99))
    assert caught.value.exit_code == 5
    assert ledger.reader.size() == before


def test_text_of_any_kind_survives_unchanged(ledger: Ledger) -> None:
    words = 'Übung 🚀👩‍👩‍👧 שלום مرحبا <script>alert(1)</script> \u202e \t\n\\" 预测'
    record(ledger, event({"text": words}, stream="note/Grüße 🚀"))
    kept = ledger.reader.entry(ledger.reader.size() - 1)
    assert kept.stream == "note/Grüße 🚀"
    assert kept.data == {"text": words}


def test_every_example_is_recorded_read_and_verified(ledger: Ledger) -> None:
    begin = ledger.reader.size()
    drafts = [
        draft((name, cls.EXAMPLE), stream=cls.EXAMPLE_STREAM, actor=ACTOR, now=NOW)
        for name, cls in EVENT_TYPES.items()
    ]
    ledger.writer.append(drafts)
    for kept, cls in zip(ledger.reader.entries(begin), EVENT_TYPES.values(), strict=True):
        assert kept.data == cls.EXAMPLE
        assert isinstance(read_event(kept.type, kept.data), Event)


def test_an_unknown_type_of_an_old_ledger_is_readable_and_verifies(ledger: Ledger) -> None:
    """Another program wrote it: the door does not know the type, the chain needs not to."""
    data = {"colour": "blue", "n": [1, 2.5]}
    stranger = Draft(type="paint.mixed/4", stream="x", actor=ACTOR, payload=format_json(data))
    ledger.writer.append([stranger])
    kept = ledger.reader.entry(ledger.reader.size() - 1)
    read = read_event(kept.type, kept.data or {})
    assert isinstance(read, UnknownEvent)
    assert read.data == data
    with pytest.raises(UnknownEventError):
        draft(("paint.mixed/4", data), stream="x", actor=ACTOR, now=NOW)
    assert verify(ledger.store, vkey=ledger.vkey, guard=ledger.guard).result == "VALID"
