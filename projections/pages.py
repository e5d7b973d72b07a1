"""The log by pages, in either direction: bounded work for each, and never a silent end.

::

    found = page(reader, wanted, after=None, limit=100, newest_first=True)
    found.records, found.next            # next: go on behind this index; None: that was all

Where little passes the filter a page may be short, even empty, and `next` says that there is more
to look at: no page looks at more than `SCANNED` entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from projections.log import Matcher, span

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.record import Record
    from projections.log import Filter

__all__ = ["Page", "page"]

SCANNED: Final = 20_000
PIECE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records in the order asked for. `next` is the index of the last entry that was looked at."""

    records: Sequence[Record]
    next: int | None


def page(
    reader: Reader,
    wanted: Filter,
    *,
    after: int | None,
    limit: int,
    newest_first: bool,
    stop: int | None = None,
) -> Page:
    """The next `limit` entries that pass, behind the entry `after`, before the entry `stop`."""
    first, end = span(reader, wanted)
    end = end if stop is None else min(end, stop)
    if newest_first:
        end = end if after is None else min(end, after)
        looked = _backwards(reader, first, end)
    else:
        first = first if after is None else max(first, after + 1)
        looked = reader.entries(first, end) if first < end else iter(())
    return _taken(looked, Matcher(reader, wanted), limit, first, end, newest_first)


def _taken(
    looked: Iterator[Record],
    matcher: Matcher,
    limit: int,
    first: int,
    end: int,
    newest_first: bool,
) -> Page:
    records: list[Record] = []
    last: int | None = None
    for count, record in enumerate(looked, 1):
        last = record.index
        if matcher.passes(record):
            records.append(record)
        if len(records) == limit or count == SCANNED:
            break
    over = last is None or (last <= first if newest_first else last >= end - 1)
    return Page(records=records, next=None if over else last)


def _backwards(reader: Reader, first: int, end: int) -> Iterator[Record]:
    while end > first:
        start = max(first, end - PIECE)
        yield from reversed(list(reader.entries(start, end)))
        end = start
