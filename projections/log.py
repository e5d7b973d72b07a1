"""The entries that pass a filter, in order, streamed: `asof log`.

::

    for record in log(reader, Filter(pipeline="demand-forecast", type="binding.*")):
        print(record.as_json())

A range goes by the ledger's own order: `start` and `end` are moments, both ends belong to the
range, and a plain time is compared with `recorded_at`. What matters is what the ledger says, so
an entry whose payload is withheld still passes by stream, type and actor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.record import Record
    from projections.at import Moment

__all__ = ["Filter", "Matcher", "log", "span"]

KNOWN_RUNS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What an entry must be. None lets everything pass; `type` and `stream` are patterns such as
    `binding.*` and `run/*`.
    """

    pipeline: str | None = None
    stage: str | None = None
    actor: str | None = None
    type: str | None = None
    stream: str | None = None
    start: Moment | None = None
    end: Moment | None = None


def log(
    reader: Reader,
    wanted: Filter,
    *,
    last: int | None = None,
    wait: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """The matching entries from the oldest on, of those that are there the newest `last`. Memory is
    flat.

    With `wait` it goes on: at the end `wait()` is called (to sleep, to show a sign of life), and
    while it says True new entries follow. `end` is then not looked at.
    """
    passes = Matcher(reader, wanted).passes
    at, stop = span(reader, wanted)
    there = filter(passes, reader.entries(at, stop))
    yield from there if last is None else deque(there, last)
    while wait is not None and wait():
        at, stop = max(at, stop), reader.size()
        yield from filter(passes, reader.entries(at, stop))


def span(reader: Reader, wanted: Filter) -> tuple[int, int]:
    """The entries that the filter's moments leave: from the first, to before the second."""
    start, end = wanted.start, wanted.end
    first = 0
    if start is not None:
        first = reader.index_at(start.instant - 1) if start.size is None else start.size - 1
    stop = reader.size()
    if end is not None:
        stop = reader.index_at(end.instant) if end.size is None else end.size
    return first, stop


class Matcher:
    """The filter, cheapest test first; payloads are parsed only where a pipeline or stage is
    asked for.
    """

    def __init__(self, reader: Reader, wanted: Filter) -> None:
        self._reader = reader
        self._wanted = wanted
        self._type = _pattern(wanted.type)
        self._start_of = lru_cache(KNOWN_RUNS)(self._look_up_start)

    def passes(self, record: Record) -> bool:
        """Whether an entry is one of those that are wanted."""
        wanted = self._wanted
        if wanted.actor is not None and record.actor != wanted.actor:
            return False
        if self._type is not None and not fnmatchcase(record.type, self._type):
            return False
        if wanted.stream is not None and not fnmatchcase(record.stream, wanted.stream):
            return False
        return (wanted.pipeline is None and wanted.stage is None) or self._concerns(record)

    def _concerns(self, record: Record) -> bool:
        """By its own data, else by the beginning of the run, incident, approval or rollback it
        belongs to.
        """
        named = _named(record)
        if named == (None, None) and record.version > 1:
            named = self._start_of(record.stream)
        return self._wanted.pipeline in (None, named[0]) and self._wanted.stage in (None, named[1])

    def _look_up_start(self, stream: str) -> tuple[object, object]:
        first = next(iter(self._reader.stream(stream, 0, 1)), None)
        return (None, None) if first is None else _named(first)


def _named(record: Record) -> tuple[object, object]:
    if record.stream.startswith("pipeline/"):
        pipeline, _, stage = record.stream.removeprefix("pipeline/").rpartition("@")
        return pipeline, stage
    data = record.data or {}
    return data.get("pipeline"), data.get("stage")


def _pattern(text: str | None) -> str | None:
    """A name without `*` or version stands for all its versions: `binding.changed` is
    `binding.changed/*`.
    """
    if text is None or "*" in text or "?" in text or "/" in text:
        return text
    return f"{text}/*"
