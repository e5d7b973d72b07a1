"""What `asof record` reads: one event or JSON lines; errors name the line and the place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.canonical import parse_time
from ledger.errors import MalformedError, UnknownEventError
from ledger.events import draft_of, parse_drafts, parse_line

NOW = parse_time("2026-11-21T05:00:00.000000Z")


def line(**more: Any) -> bytes:
    event = {"type": "note.added/1", "stream": "note/x", "data": {"text": "go"}, **more}
    return json.dumps({k: v for k, v in event.items() if v is not ...}).encode()


def test_one_event() -> None:
    (made,) = parse_drafts(line(expected_version=0), "user:7", NOW)
    assert (made.type, made.stream, made.actor) == ("note.added/1", "note/x", "user:7")
    assert (made.payload, made.expected_version) == (b'{"text":"go"}', 0)


def test_lines_are_one_batch_and_blank_ones_do_not_count() -> None:
    text = b"\n" + line() + b"\r\n\n  \n" + line(stream="note/y") + b"\n"
    assert [made.stream for made in parse_drafts(text, "user:7", NOW)] == ["note/x", "note/y"]


def test_one_event_may_be_spread_over_lines() -> None:
    spread = json.dumps(json.loads(line()), indent=2).encode()
    assert parse_drafts(spread, "user:7", NOW) == parse_drafts(line(), "user:7", NOW)


@pytest.mark.parametrize("at", ["2026-11-21T04:00:00Z", "2026-11-21T05:00:00+01:00"])
def test_effective_at_becomes_part_of_the_data_as_it_is_spelled(at: str) -> None:
    (beside,) = parse_drafts(line(effective_at=at), "user:7", NOW)
    (inside,) = parse_drafts(line(data={"text": "go", "effective_at": at}), "user:7", NOW)
    both = line(effective_at=at, data={"text": "go", "effective_at": at})
    assert [beside] == [inside] == parse_drafts(both, "user:7", NOW)
    assert at.encode() in beside.payload


def test_a_source_beside_the_data_becomes_part_of_it() -> None:
    source = {"system": "jira", "ref": "ML-17"}
    (beside,) = parse_drafts(line(source=source), "user:7", NOW)
    (inside,) = parse_drafts(line(data={"text": "go", "source": source}), "user:7", NOW)
    assert beside == inside
    assert b'"source":{"ref":"ML-17","system":"jira"}' in beside.payload


def test_one_line_is_what_a_batch_of_one_is() -> None:
    text = line(expected_version=3)
    assert [parse_line(text + b"\r\n", "user:7", NOW)] == parse_drafts(text, "user:7", NOW)
    assert parse_line(text, "user:7", NOW) == draft_of(json.loads(text), "user:7", NOW)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (b'{"type":}', "column 9", "not JSON"),
        (line(data={"text": 7}), "/data/text", "must be a string"),
        (line(source={"system": "a b"}), "/source/system", "must be a word"),
        (line(source={"system": "a"}, data={"text": "x", "source": {"system": "b"}}), "/source",
         "give one"),
        (line(data={"text": "x", "source": {"system": "a b"}}), "/data/source/system", "a word"),
        (line() + b"\n" + line(), "line 2 column 1", "not JSON"),
    ],
)  # fmt: skip
def test_errors_of_one_line_name_the_place_in_it(text: bytes, where: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        parse_line(text, "user:7", NOW)
    assert caught.value.where == where


def test_a_null_beside_the_data_is_none() -> None:
    given = line(effective_at=None, expected_version=None)
    assert parse_drafts(given, "user:7", NOW) == parse_drafts(line(), "user:7", NOW)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (b"", "", "no event"),
        (b" \n\t\n", "", "no event"),
        (b"[]", "", "expected a JSON object"),
        (b"{}", "", '"type" is missing'),
        (line(data=...), "/data", "must be an object"),
        (line(data="x"), "/data", "must be an object"),
        (line(stream=...), "/stream", "name it note/<topic>"),
        (line(reason="x"), "/reason", 'belongs into "data"'),
        (line(expectedversion=1), "/expectedversion", 'did you mean "expected_version"'),
        (line(zzz=1), "/zzz", 'own fields belong into "data"'),
        (line(data={"text": 7}), "/data/text", "must be a string"),
        (line(data={}), "/data/text", "is missing"),
        (line(expected_version="1"), "/expected_version", "0 for a new stream"),
        (line(effective_at="2027-01-01T00:00:00Z"), "/effective_at", "in the future"),
        (line(effective_at="yesterday"), "/effective_at", "RFC 3339"),
        (line(effective_at=7), "/effective_at", "string"),
        (
            line(data={"text": "x", "effective_at": "2027-01-01T00:00:00Z"}),
            "/data/effective_at",
            "future",
        ),
        (
            line(
                effective_at="2025-01-01T00:00:00Z",
                data={"text": "x", "effective_at": "2025-01-01T00:00:01Z"},
            ),
            "/effective_at",
            "give one",
        ),
        (
            line(type="tag.set/1", stream="tag/a", data={"tag": "a"}),
            "/data/index",
            "needs an index",
        ),
        (
            b'{"type":"note.added/1","stream":"note/x","data":{"text":"a","text":"b"}}',
            "/data/text",
            "twice",
        ),
        (b'{"type":"note.added/1","stream":"note/x","data":{"text":NaN}}', "/data/text", "NaN"),
        (line() + b"\n" + line(data={"txt": "x"}), "line 2 /data/text", "is missing"),
        (line() + b"\n\n[1]", "line 3", "expected a JSON object"),
        (line() + b'\n{"type":}', "line 2 column 9", "not JSON"),
        (b'{"type":\n"note.added/1"]', "line 1 column 9", "not JSON"),
        (line() + line(), "", "not JSON"),
        (line(data={"text": "x" * (4 << 20)}), "", "bytes of JSON"),
    ],
)
def test_errors_name_the_line_and_the_place(text: bytes, where: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        parse_drafts(text, "user:7", NOW)
    assert where in caught.value.where


def test_the_actor_is_not_a_place_in_the_text() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_drafts(line(), "nobody", NOW)
    assert caught.value.where == "actor"


def test_an_unknown_type_keeps_its_class_of_error() -> None:
    with pytest.raises(UnknownEventError) as caught:
        parse_drafts(line() + b"\n" + line(type="note.aded/1"), "user:7", NOW)
    assert caught.value.where == "line 2 /type"
    assert str(caught.value).count("line 2") == 1


def test_text_that_nests_without_end_is_refused() -> None:
    with pytest.raises(MalformedError):
        parse_drafts(b"[" * 100_000 + b"\n" + b"[" * 100_000, "user:7", NOW)
