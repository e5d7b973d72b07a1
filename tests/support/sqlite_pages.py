"""What each byte of a SQLite file is for, as its format says (sqlite.org/fileformat2.html)."""

from __future__ import annotations

from enum import StrEnum


class Place(StrEnum):
    """FREE holds nothing; COUNTER is SQLite's own bookkeeping; all else is content."""

    CONTENT = "content"
    COUNTER = "a counter of SQLite"
    FREE = "free space"


COUNTERS = (
    range(18, 20),  # read and write version: which journal the file is opened with
    range(24, 28),  # file change counter
    range(28, 32),  # size in pages, used only where it fits the change counter
    range(40, 44),  # schema cookie: a number that other connections compare
    range(48, 52),  # default cache size
    range(60, 64),  # user version is checked at opening; its place is here for completeness
    range(72, 92),  # reserved for expansion
    range(92, 100),  # version-valid-for and the version of SQLite that wrote last
)
INTERIOR, LEAVES = (2, 5), (10, 13)
TABLE_LEAF = 13


def places(data: bytes) -> list[Place]:
    """The place of each byte."""
    size = int.from_bytes(data[16:18], "big")
    found = [Place.CONTENT] * len(data)
    for span in COUNTERS:
        for position in span:
            found[position] = Place.COUNTER
    for start in range(0, len(data), size):
        _mark_row_numbers(data, start, found)
        _mark_free(data, start, size, found)
    return found


def _mark_row_numbers(data: bytes, start: int, found: list[Place]) -> None:
    """What a row holds beside its values: nothing refers to the number of a schema row, and where a
    column is the row's number, the row itself holds an empty placeholder for it."""
    at = 100 if start == 0 else start
    if data[at] != TABLE_LEAF:
        return
    for cell in range(int.from_bytes(data[at + 3 : at + 5], "big")):
        pointer = at + 8 + 2 * cell
        number = _after_varint(data, start + int.from_bytes(data[pointer : pointer + 2], "big"))
        header = _after_varint(data, number)
        for position in range(number, header) if start == 0 else ():
            found[position] = Place.COUNTER
        first = _after_varint(data, header)
        if data[first] == 0:
            found[first] = Place.COUNTER


def _after_varint(data: bytes, position: int) -> int:
    while data[position] & 0x80:
        position += 1
    return position + 1


def _mark_free(data: bytes, start: int, size: int, found: list[Place]) -> None:
    """The gap between the cell pointers and the cells of a b-tree page, and its free blocks."""
    at = start + 100 if start == 0 else start
    kind = data[at]
    if kind not in INTERIOR + LEAVES:
        _mark_overflow_tail(data, start, size, found)
        return
    cells = int.from_bytes(data[at + 3 : at + 5], "big")
    content = int.from_bytes(data[at + 5 : at + 7], "big") or 65536
    header = 12 if kind in INTERIOR else 8
    for position in range(at + header + 2 * cells, start + content):
        found[position] = Place.FREE
    block = int.from_bytes(data[at + 1 : at + 3], "big")
    while block:
        length = int.from_bytes(data[start + block + 2 : start + block + 4], "big")
        for position in range(start + block + 4, start + block + length):
            found[position] = Place.FREE
        block = int.from_bytes(data[start + block : start + block + 2], "big")


def _mark_overflow_tail(data: bytes, start: int, size: int, found: list[Place]) -> None:
    """The last page of a chain of overflow pages is filled up with zeros."""
    if int.from_bytes(data[start : start + 4], "big") == 0:
        end = start + size
        while end > start + 4 and data[end - 1] == 0:
            end -= 1
            found[end] = Place.FREE
