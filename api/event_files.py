"""Files of events from elsewhere: JSON lines, or CSV with a header that says where each cell goes.

::

    with path.open("rb") as file:
        events = JsonLines(file)
        for line, raw, content in events.records():
            events.door(content, "service:backfill", now)      a Draft, or MalformedError

JSON lines are those of `asof record`. A CSV file has one event a row; the name of a column is the
path of a member of such a line, its steps joined by dots::

    type,stream,effective_at,data.text,source.system,data.about:json
    note.added/1,note/release,2024-05-01T09:00:00+02:00,go,jira,"[""model/m@7""]"

A cell is text, with `:json` behind the column's name it is JSON, and an empty cell says nothing:
the member is left out. A byte order mark and Windows line endings do no harm; `,`, `;` or a tab
parts the cells, whichever follows the first name. docs/importing.md.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias

from ledger.canonical import parse_json
from ledger.errors import MalformedError
from ledger.events import MAX_LINE_BYTES, Draft, draft_of, parse_line

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FORMATS", "CsvRows", "Door", "EventFile", "JsonLines", "Record"]

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS: Final = ",;\t"
_AS_JSON: Final = ":json"
_INTEGER: Final = "expected_version"
_TEXTS: Final = ("type", "stream", "effective_at")


Record: TypeAlias = tuple[int, bytes, Any]
"""One event of a file: the number of its (first) line, its bytes, and what the door takes: None for
a line that counts but says nothing."""

Door: TypeAlias = Callable[[Any, str, int], Draft]
"""The draft of a record's content, for an actor and a present time; MalformedError with the place.
It can be sent to another process, as the content can."""


class EventFile(Protocol):
    """A file that is read once, from its beginning to its end, one record in memory at a time."""

    @property
    def header(self) -> bytes:
        """What a file of some of its records begins with."""

    @property
    def digest(self) -> _Hash:
        """SHA-256 of all bytes up to the end of the record that was given last."""

    @property
    def door(self) -> Door:
        """What makes a draft of a record's content."""

    def records(self) -> Iterator[Record]:
        """The records in order. Raises: MalformedError where nothing after it could be read."""


class JsonLines:
    """One event a line."""

    header = b""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self.door: Door = parse_line

    def records(self) -> Iterator[Record]:
        """A line that is longer than it may be is kept to its limit, and is refused by the door."""
        number, most = 0, MAX_LINE_BYTES
        read, take = self._file.readline, self.digest.update
        while raw := read(most + 1):
            number += 1
            take(raw)
            if len(raw) > most:
                _skip_line(self._file, raw, take)
            text = raw if number > 1 else _unmarked(raw)
            yield number, raw, text if text.strip() else None


def _skip_line(file: BinaryIO, raw: bytes, take: Callable[[bytes], None]) -> None:
    """Read on from `raw`, the beginning of a line that is too long, to the line's end."""
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(MAX_LINE_BYTES)
        take(raw)


def _unmarked(first: bytes) -> bytes:
    """The first line without a byte order mark. Raises: MalformedError for UTF-16."""
    if first.startswith(_UTF16_MARKS):
        raise MalformedError("the file is in UTF-16: save it as UTF-8", where="line 1")
    return first.removeprefix(_UTF8_MARK)


# --------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a cell goes: the steps of a path, and how its text becomes a value."""

    title: str
    path: tuple[str, ...]
    read: Callable[[str], Any]

    @property
    def pointer(self) -> str:
        return "/" + "/".join(self.path)


class CsvRows:
    """One event a row below a header. Raises: MalformedError for a header that cannot be used."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self._number = 0
        self._raw: list[bytes] = []
        first = file.readline(MAX_LINE_BYTES + 1)
        self.digest.update(first)
        self._number = 1
        self.header = _unmarked(first)
        text = _decoded(self.header, 1)
        self._delimiter = next((char for char in text if char in _DELIMITERS), ",")
        self.door: Door = partial(_draft_of_row, _columns(_titles(text, self._delimiter)))

    def records(self) -> Iterator[Record]:
        """A row may go over several lines: quoted cells may hold line breaks."""
        csv.field_size_limit(MAX_LINE_BYTES)
        rows = self._reader()
        while True:
            self._raw = []
            line = self._number + 1
            content: list[str] | MalformedError | None
            try:
                content = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                content = MalformedError(f"not CSV: {error}")
            except MalformedError as error:
                content, rows = error, self._reader()
            else:
                content = content if any(content) else None
            yield line, b"".join(self._raw), content

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._lines(), delimiter=self._delimiter, strict=True)

    def _lines(self) -> Iterator[str]:
        """The next lines as text, each taken into the digest and into the bytes of the row."""
        while raw := self._file.readline(MAX_LINE_BYTES + 1):
            self._number += 1
            self.digest.update(raw)
            self._raw.append(raw)
            if len(raw) > MAX_LINE_BYTES:
                _skip_line(self._file, raw, self.digest.update)
            yield _decoded(raw, self._number)


def _draft_of_row(
    columns: list[_Column], content: list[str] | MalformedError, actor: str, now: int
) -> Draft:
    if isinstance(content, MalformedError):
        raise content
    return draft_of(_envelope(columns, content), actor, now, read=True)


def _envelope(columns: list[_Column], cells: list[str]) -> dict[str, Any]:
    """What the line of JSON would say. Raises: MalformedError with the pointer to the member."""
    if len(cells) != len(columns):
        raise MalformedError(f"{len(cells)} cells in a row, but the header has {len(columns)}")
    envelope: dict[str, Any] = {"data": {}}
    for column, cell in zip(columns, cells, strict=True):
        if not cell:
            continue
        place = envelope
        for step in column.path[:-1]:
            place = place.setdefault(step, {})
        try:
            place[column.path[-1]] = column.read(cell)
        except MalformedError as error:
            raise MalformedError(str(error), where=column.pointer) from None
    return envelope


def _titles(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise MalformedError(f"the header is not CSV: {error}", where="line 1") from None


def _columns(titles: list[str]) -> list[_Column]:
    columns = [_column(title.strip()) for title in titles]
    paths = [column.path for column in columns]
    if ("type",) not in paths:
        raise MalformedError(
            "the header has no column `type`; its names are those of a line's members, such as"
            " type,stream,effective_at,data.text",
            where="line 1",
        )
    for column in columns:
        others = list(paths)
        others.remove(column.path)
        if any(column.path == other[: len(column.path)] for other in others):
            raise MalformedError(
                f"the column {column.title!r} stands twice, or another one lies within it",
                where="line 1",
            )
    return columns


def _column(title: str) -> _Column:
    name = title.removesuffix(_AS_JSON)
    path = tuple(name.split("."))
    as_json = name != title
    if title in _TEXTS:
        return _Column(title, path, str)
    if path == (_INTEGER,):
        return _Column(title, path, _json_cell)
    if path[0] in ("data", "source") and all(path) and (as_json or len(path) > 1):
        return _Column(title, path, _json_cell if as_json else str)
    raise MalformedError(
        f"the column {title!r} is none of {', '.join(_TEXTS)}, {_INTEGER}, data.<field>,"
        " source.<field>, each of the last two with :json for what is no text",
        where="line 1",
    )


def _json_cell(cell: str) -> Any:
    return parse_json(cell, max_bytes=MAX_LINE_BYTES)


def _decoded(raw: bytes, number: int) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise MalformedError(f"line {number} is longer than {MAX_LINE_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"not valid UTF-8 at byte {error.start} of line {number}") from None


FORMATS: Final[dict[str, Callable[[BinaryIO], EventFile]]] = {"jsonl": JsonLines, "csv": CsvRows}
