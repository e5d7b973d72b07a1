"""Files of events: JSON lines and CSV, as editors and spreadsheets write them."""

from __future__ import annotations

import io
import json
import tracemalloc
from hashlib import sha256
from typing import Any

import pytest

from api.event_files import CsvRows, EventFile, JsonLines
from ledger.canonical import parse_time
from ledger.errors import MalformedError
from ledger.events import MAX_LINE_BYTES, Draft, parse_drafts

NOW = parse_time("2026-11-21T05:00:00.000000Z")
GOOD = b'{"type":"note.added/1","stream":"note/x","data":{"text":"go"}}'
HEADER = b"type,stream,data.text\n"


def drafts(events: EventFile) -> list[Draft]:
    return [
        events.door(content, "user:7", NOW)
        for _, _, content in events.records()
        if content is not None
    ]


def rows(text: bytes) -> list[Draft]:
    return drafts(CsvRows(io.BytesIO(text)))


def note(text: str, **more: Any) -> Draft:
    event = {"type": "note.added/1", "stream": "note/x", "data": {"text": text, **more}}
    (made,) = parse_drafts(json.dumps(event).encode(), "user:7", NOW)
    return made


def refused(events: EventFile) -> list[tuple[int, bytes, str, str]]:
    """Line, bytes, place and reason of each record that makes no draft."""
    found = []
    for line, raw, content in events.records():
        try:
            if content is not None:
                events.door(content, "user:7", NOW)
        except MalformedError as error:
            found.append((line, raw, error.where, str(error)))
    return found


# -------------------------------------------------------------------------------------- JSON lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_the_same_events_however_the_file_was_saved(end: bytes, mark: bytes, last: bool) -> None:
    text = mark + GOOD + end + b"  " + end + GOOD + (end if last else b"")
    assert drafts(JsonLines(io.BytesIO(text))) == [note("go"), note("go")]


def test_a_mark_alone_is_an_empty_line() -> None:
    assert drafts(JsonLines(io.BytesIO(b"\xef\xbb\xbf\n" + GOOD))) == [note("go")]


@pytest.mark.parametrize("kind", [JsonLines, CsvRows])
def test_utf_16_is_told_at_once(kind: type[JsonLines] | type[CsvRows]) -> None:
    with pytest.raises(MalformedError, match="line 1: the file is in UTF-16: save it as UTF-8"):
        drafts(kind(io.BytesIO(GOOD.decode().encode("utf-16"))))


def test_the_digest_is_that_of_all_bytes_so_far() -> None:
    events = JsonLines(io.BytesIO(GOOD + b"\n\n" + GOOD))
    seen = [(raw, events.digest.hexdigest()) for _, raw, _ in events.records()]
    text = b""
    for raw, digest in seen:
        text += raw
        assert digest == sha256(text).hexdigest()


def test_a_line_without_end_is_refused_and_not_held() -> None:
    class Endless(io.RawIOBase):
        left = 10 * MAX_LINE_BYTES

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            buffer[:count] = b"x" * count
            if not self.left and count:
                buffer[count - 1 : count] = b"\n"
            return count

    class Then(Endless):
        rest = io.BytesIO(GOOD)

        def readinto(self, buffer: Any) -> int:
            return super().readinto(buffer) or self.rest.readinto(buffer)

    events = JsonLines(io.BufferedReader(Then(), 1 << 16))
    tracemalloc.start()
    try:
        found = refused(events)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ((line, raw, _, why),) = found
    assert (line, len(raw)) == (1, MAX_LINE_BYTES + 1)
    assert "at most 4194304 are accepted" in why
    assert peak < 6 * MAX_LINE_BYTES


def test_after_a_line_that_is_too_long_the_next_is_read() -> None:
    long = b"x" * (MAX_LINE_BYTES + 5)
    events = JsonLines(io.BytesIO(long + b"\n" + GOOD))
    lines = [(line, content) for line, _, content in events.records()]
    assert lines[1] == (2, GOOD)
    assert events.digest.digest() == sha256(long + b"\n" + GOOD).digest()


def test_a_line_of_exactly_the_limit_loses_nothing_behind_it() -> None:
    long = b" " * (MAX_LINE_BYTES - len(GOOD)) + GOOD + b"\n"
    assert len(long) == MAX_LINE_BYTES + 1
    assert [line for line, _, _ in JsonLines(io.BytesIO(long + GOOD)).records()] == [1, 2]


# --------------------------------------------------------------------------------------------- CSV


def test_a_row_says_what_a_line_would_say() -> None:
    text = (
        b"type,stream,effective_at,data.text,source.system,source.details:json,data.about:json\n"
        b'note.added/1,note/x,2024-05-01T09:00:00+02:00,go,jira,"{""id"":7}","[""model/m@7""]"\n'
    )
    expected = note(
        "go",
        effective_at="2024-05-01T09:00:00+02:00",
        source={"system": "jira", "details": {"id": 7}},
        about=["model/m@7"],
    )
    assert rows(text) == [expected]


def test_an_empty_cell_says_nothing() -> None:
    text = b"type,stream,expected_version,data.text,source.system\nnote.added/1,note/x,3,go,\n"
    (made,) = rows(text)
    assert (made.payload, made.expected_version) == (note("go").payload, 3)


def test_data_in_one_cell() -> None:
    assert rows(b'type,stream,data:json\nnote.added/1,note/x,"{""text"":""go""}"\n') == [note("go")]


@pytest.mark.parametrize(
    "text",
    [
        b"type,stream,data.text\r\nnote.added/1,note/x,go\r\n",
        b"\xef\xbb\xbftype;stream;data.text\r\nnote.added/1;note/x;go\r\n;;\r\n",
        b"type\tstream\tdata.text\nnote.added/1\tnote/x\tgo",
        b' type , stream ,"data.text"\nnote.added/1,note/x,"go"\n\n',
    ],
)
def test_as_spreadsheets_write_it(text: bytes) -> None:
    assert rows(text) == [note("go")]


def test_a_quoted_cell_may_hold_anything_and_lines_are_counted() -> None:
    text = HEADER + b'note.added/1,note/x,"two\r\nlines, ""quoted"""\nnote.added/1,note/x,\n'
    events = CsvRows(io.BytesIO(text))
    found = refused(events)
    assert [(line, where) for line, _, where, _ in found] == [(4, "/data/text")]
    assert rows(text[: text.rindex(b"note.")]) == [note('two\r\nlines, "quoted"')]
    assert events.digest.digest() == sha256(text).digest()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "has no column `type`"),
        (b"stream,data.text\n", "has no column `type`"),
        (b"type,text\n", "the column 'text' is none of type, stream"),
        (b"type,data\n", "the column 'data' is none of"),
        (b"type,data..x\n", "the column 'data..x' is none of"),
        (b"type:json\n", "the column 'type:json' is none of"),
        (b"type,type\n", "'type' stands twice"),
        (b"type,data.a,data.a.b\n", "'data.a' stands twice, or another one lies within it"),
        (b"type,data:json,data.a\n", "'data:json' stands twice, or another"),
        (b"type,data.a,data.a:json\n", "stands twice"),
        (b'type,"data.a\n', "line 1: the header is not CSV"),
        (b"type,data.\xff\n", "not valid UTF-8 at byte 10 of line 1"),
    ],
)
def test_a_header_that_cannot_be_used(header: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        CsvRows(io.BytesIO(header))


@pytest.mark.parametrize(
    ("row", "where", "words"),
    [
        (b"note.added/1,note/x\n", "", "2 cells in a row, but the header has 3"),
        (b"note.added/1,note/x,a,b\n", "", "4 cells in a row"),
        (b"note.added/1,note/x,\xff\n", "", "not valid UTF-8 at byte 20 of line 2"),
        (b'note.added/1,note/x,"a"b\n', "", "not CSV"),
        (b"note.aded/1,note/x,a\n", "/type", "nearest: note.added/1"),
        (b",note/x,a\n", "", '"type" is missing'),
        (b"note.added/1,nota/x,a\n", "/stream", "name it note/<topic>"),
    ],
)
def test_a_bad_row_is_named_and_the_next_is_read(row: bytes, where: str, words: str) -> None:
    events = CsvRows(io.BytesIO(HEADER + row + b"note.added/1,note/x,go\n"))
    found = refused(events)
    assert [(line, raw) for line, raw, _, _ in found] == [(2, row)]
    assert found[0][2] == where
    assert words in found[0][3]
    assert len(rows(HEADER + b"note.added/1,note/x,go\n")) == 1


@pytest.mark.parametrize("cell", ["{", '"[1,1e999]"', "9007199254740993", '"{""a"":1,""a"":2}"'])
def test_json_in_a_cell_is_read_as_strictly(cell: str) -> None:
    text = f"type,stream,data.text,data.about:json\nnote.added/1,note/x,a,{cell}\n".encode()
    (found,) = refused(CsvRows(io.BytesIO(text)))
    assert found[2] == "/data/about"


def test_a_quote_that_is_never_closed_does_not_swallow_the_memory() -> None:
    line = b"x" * 4_000 + b"\n"
    text = HEADER + b'note.added/1,note/x,"' + line * 2_000
    assert len(text) > MAX_LINE_BYTES
    found = refused(CsvRows(io.BytesIO(text)))
    assert "field larger than field limit" in found[0][3]


def test_a_line_of_csv_that_is_too_long_is_refused_to_its_end() -> None:
    long = b"note.added/1,note/x," + b"y" * MAX_LINE_BYTES + b",note.added/1,note/x,z\n"
    events = CsvRows(io.BytesIO(HEADER + long + b"note.added/1,note/x,go\n"))
    (found,) = refused(events)
    assert "line 2 is longer than" in found[3]
    assert events.digest.digest() == sha256(HEADER + long + b"note.added/1,note/x,go\n").digest()
