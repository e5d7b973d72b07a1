"""Answers on the standard output, in the four forms of `-o`, and nothing else there.

A command hands over the answer once, as data, and says how it looks as a table::

    output.answer(state, lines=state_lines)              one object:  json, jsonl, csv of its rows
    output.records(entries, LOG_COLUMNS)                 many records, streamed with flat memory

json is for programs and is the documented form; jsonl is one record a line; csv has one row a
record, with the columns of the table; the table is for people and promises nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

from api.cli.terminal import Ink, cell, json_safe, plain, width

__all__ = ["Column", "Output", "named_once", "pairs", "table_lines"]

Record = Mapping[str, Any]

_PAGE = 500  # records whose widths are measured together when a long table is streamed


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in CSV, its value, its title and looks in a table ("" = CSV only)."""

    name: str
    value: Callable[[Record], object]
    title: str = ""
    show: Callable[[Record], str] | None = None
    right: bool = False

    def shown(self, record: Record) -> str:
        """The text of a table's cell, safe for a terminal."""
        if self.show is not None:
            return plain(self.show(record))
        value = self.value(record)
        return "" if value is None else plain(str(value))


class Output:
    """The standard output in one form. Raises BrokenPipeError when the reader has gone."""

    def __init__(self, form: str, stream: TextIO, ink: Ink) -> None:
        self.form = form
        self.ink = ink
        self._stream = stream

    @property
    def for_people(self) -> bool:
        return self.form == "table"

    def answer(
        self,
        data: Any,
        *,
        lines: Callable[[Ink], Iterable[str]],
        rows: Iterable[Record] | None = None,
        columns: Sequence[Column] = (),
    ) -> None:
        """Print one answer. `rows` and `columns` say what it is as CSV (its top level without
        them).
        """
        if self.form == "json":
            self._write(json_safe(json.dumps(data, ensure_ascii=False, indent=2)) + "\n")
        elif self.form == "jsonl":
            self._write(_json_line(data))
        elif self.form == "csv":
            self._csv([data] if rows is None else rows, columns or _columns_of(data))
        else:
            for line in lines(self.ink):
                self._write(line + "\n")
        self._stream.flush()

    def records(
        self,
        records: Iterable[Record],
        columns: Sequence[Column],
        *,
        empty: str = "",
        live: bool = False,
    ) -> int:
        """Print many records; return how many. `empty` is said to people if there are none.

        `live` records come slowly, and each is shown at once."""
        counted = _Counted(self._flushed(records) if live else records)
        if self.form == "json":
            self._json_array(counted)
        elif self.form == "jsonl":
            for record in counted:
                self._write(_json_line(record))
        elif self.form == "csv":
            self._csv(counted, columns)
        else:
            self._table(counted, columns, empty, 1 if live else _PAGE)
        self._stream.flush()
        return counted.count

    def text(self, text: str) -> None:
        """Print text that is the datum itself: a proof, a key. The same in every form."""
        self._write(text)
        self._stream.flush()

    def _write(self, text: str) -> None:
        self._stream.write(text)

    def _flushed(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each printed before the next is waited for."""
        for record in records:
            self._stream.flush()
            yield record
            self._stream.flush()

    def _json_array(self, records: Iterable[Record]) -> None:
        before = "[\n"
        for record in records:
            self._write(before + _json_line(record)[:-1])
            before = ",\n"
        self._write("[]\n" if before == "[\n" else "\n]\n")

    def _csv(self, records: Iterable[Record], columns: Sequence[Column]) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        for record in records:
            writer.writerow([cell(column.value(record)) for column in columns])
            self._write(buffer.getvalue())
            buffer.seek(0)
            buffer.truncate()
        self._write(buffer.getvalue())

    def _table(
        self, records: Iterable[Record], columns: Sequence[Column], empty: str, many: int
    ) -> None:
        shown = [column for column in columns if column.title]
        titles = [column.title for column in shown]
        right = [column.right for column in shown]
        widths = [width(title) for title in titles]
        source, first = iter(records), True
        while page := list(islice(source, many)):
            cells = [[column.shown(record) for column in shown] for record in page]
            widths = [max(w, *(width(row[i]) for row in cells)) for i, w in enumerate(widths)]
            if first:
                self._write(self.ink.bold(_line(titles, widths, right)) + "\n")
                first = False
            for row in cells:
                self._write(_line(row, widths, right) + "\n")
        if first and empty:
            self._write(empty + "\n")


class _Counted:
    """An iterable that remembers how many it gave."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.count += 1
            yield record


def table_lines(
    titles: Sequence[str], rows: Sequence[Sequence[str]], ink: Ink, *, right: Sequence[bool] = ()
) -> Iterator[str]:
    """Yield the lines of a small table; the cells are made safe here."""
    cells = [[plain(text) for text in row] for row in rows]
    widths = [
        max([width(title), *(width(row[i]) for row in cells)]) for i, title in enumerate(titles)
    ]
    sides = list(right) or [False] * len(titles)
    yield ink.bold(_line(titles, widths, sides))
    for row in cells:
        yield _line(row, widths, sides)


def pairs(rows: Sequence[tuple[str, str]], ink: Ink) -> Iterator[str]:
    """Yield `name  value` lines, names dimmed and aligned; the values are made safe here."""
    wide = max((width(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield f"{ink.dim(name.ljust(wide))}  {plain(value)}".rstrip()


def named_once(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The rows, a name written only where it begins."""
    before, found = "", []
    for name, text in rows:
        found.append(("" if name == before else name, text))
        before = name
    return found


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        " " * (wide - width(text)) + text if to_right else text + " " * (wide - width(text))
        for text, wide, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _json_line(data: Any) -> str:
    return json_safe(json.dumps(data, ensure_ascii=False, separators=(",", ":"))) + "\n"


def _columns_of(data: Any) -> list[Column]:
    return [Column(name, _getter(name)) for name, value in data.items() if not _nested(value)]


def _getter(name: str) -> Callable[[Record], object]:
    return lambda record: record.get(name)


def _nested(value: object) -> bool:
    return isinstance(value, (dict, list))
