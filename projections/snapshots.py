"""Where a replay may begin, so that it need not read what was folded before: never evidence.

::

    kept = index.snapshots(notice=print)
    replayed(reader, "demand-forecast", "production", now=now, snapshots=kept)   # leaves some
    replayed(reader, "demand-forecast", "staging", now=now, snapshots=kept)      # uses them

A state depends on two times, so no folded state can be the beginning of all others. What can: the
*places* of those entries that could matter to some question, by what they are about. That is what
a snapshot holds, for all pipelines at once and without any content; whoever begins there reads
these few entries from the ledger, as it is now, and folds them like all others. Leaving out what
cannot matter changes no fold, so the state is the same for every pair of times.

Each snapshot holds what its own entries add to the one before: a chain from entry 0, followed link
by link and each link checked (docs/spec/projections.md, rules 27 to 31). If we die while one is
saved, it is not there, and the next replay makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import format_json, parse_json
from ledger.errors import ConflictError, MalformedError, StoreError, TamperError
from projections.facts import (
    ENDS,
    STARTS,
    fact_of,
    family_of,
    pipeline_stream,
    recorded_ref,
    withdrawn_ref,
)
from projections.indexing import audience_of, audiences

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.store import Row
    from projections.at import Position
    from projections.fold import Question
    from projections.tables import Tables

__all__ = [
    "EVERY",
    "Beginning",
    "Marks",
    "Snapshot",
    "Snapshots",
    "format_snapshot",
    "mark",
    "parse_snapshot",
]

FORM: Final = "asof-snapshot/1"
EVERY: Final = 10_000

Places = dict[str, list[int]]
"""Entries, ascending, by what they are about."""

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The entries that could matter to some question, by what makes them matter.

    `scopes` by stream of a pipeline and stage; `starts` by audience; `ends` by stream; `assets` by
    asset version. `unread` matter to whoever can read them after all.
    """

    scopes: Places = field(default_factory=dict)
    starts: Places = field(default_factory=dict)
    ends: Places = field(default_factory=dict)
    assets: Places = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the entries from `start_size` on leave for the fold, when there are `tree_size`."""

    origin: str
    start_size: int
    tree_size: int
    root: bytes
    marks: Marks


# --- what an entry leaves -------------------------------------------------------------------------


def mark(marks: Marks, rows: Iterable[Row]) -> None:
    """Add what these rows leave. A payload is parsed only where its content says what it is about.

    A mark too many costs a reading; one too few would be another state.
    """
    for row in rows:
        stream = row[3]
        if stream.startswith("pipeline/"):
            _add(marks.scopes, stream, row[0])
        else:
            kind = _kind_of(row[4])
            if kind is not None and stream.startswith(kind[1]):
                _mark_about(marks, row, kind[0])


@lru_cache(maxsize=1_024)
def _kind_of(type_name: str) -> tuple[str, str] | None:
    """What the fold does with a type, and the beginning of the streams in which it does so."""
    family = family_of(type_name)
    if family in STARTS:
        return "start", f"{STARTS[family]}/"
    if family in ENDS:
        return "end", f"{ENDS[family]}/"
    if family in ("asset.version.recorded", "asset.version.withdrawn"):
        return family, "asset/"
    return None


def _mark_about(marks: Marks, row: Row, kind: str) -> None:
    if kind == "end":
        _add(marks.ends, row[3], row[0])
        return
    fact = fact_of(row)
    if fact is None:
        marks.unread.append(row[0])
    elif kind == "start":
        audience = audience_of(fact.data.get("pipeline"), fact.data.get("stage"))
        _add(marks.starts, audience, row[0])
    else:
        ref = recorded_ref(fact) if kind == "asset.version.recorded" else withdrawn_ref(fact)
        if ref is not None:
            _add(marks.assets, ref, row[0])


def _add(places: Places, about: str, entry: int) -> None:
    places.setdefault(about, []).append(entry)


# --- bytes ----------------------------------------------------------------------------------------

_TABLES: Final = ("scopes", "starts", "ends", "assets")


def format_snapshot(snapshot: Snapshot) -> bytes:
    """The canonical bytes, over which the digest goes."""
    marks = snapshot.marks
    return format_json(
        {
            "form": FORM,
            "origin": snapshot.origin,
            "root": snapshot.root.hex(),
            "start_size": snapshot.start_size,
            "tree_size": snapshot.tree_size,
            "unread": marks.unread,
            **{name: getattr(marks, name) for name in _TABLES},
        }
    )


def parse_snapshot(data: bytes) -> Snapshot:
    """What `format_snapshot` wrote. Raises MalformedError for anything else."""
    plain = parse_json(data, max_bytes=len(data))
    try:
        snapshot = _snapshot_of(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"it is not of the form {FORM}: {error!r}") from error
    if format_snapshot(snapshot) != data:
        raise MalformedError(f"it is not of the form {FORM}")
    return snapshot


def _snapshot_of(plain: Any) -> Snapshot:
    start, stop = plain["start_size"], plain["tree_size"]
    if not 0 <= start < stop:
        raise ValueError("it adds nothing")
    places = {name: _places(plain[name], start, stop) for name in _TABLES}
    unread = _ascending(plain["unread"], start, stop)
    return Snapshot(
        origin=plain["origin"],
        start_size=start,
        tree_size=stop,
        root=bytes.fromhex(plain["root"]),
        marks=Marks(**places, unread=unread),
    )


def _places(plain: dict[str, list[int]], start: int, stop: int) -> Places:
    return {about: _ascending(entries, start, stop) for about, entries in plain.items()}


def _ascending(entries: list[int], start: int, stop: int) -> list[int]:
    bounds = [start - 1, *entries, stop]
    if any(one >= other for one, other in pairwise(bounds)):
        raise ValueError("places that do not ascend, or lie outside")
    return entries


# --- beginning from them --------------------------------------------------------------------------


class Beginning:
    """What is known of the first `size` entries without reading them: which of them to read.

    Memory grows with the entries that concern the question, and the number of ends.
    """

    def __init__(self, question: Question, wanted: Collection[str]) -> None:
        self.size = 0
        self.scope_there = False
        self._scope: Final = pipeline_stream(question.pipeline, question.stage)
        self._audiences: Final = audiences(question.pipeline, question.stage)
        self._wanted: Final = wanted
        self._entries: list[int] = []
        self._ends: Places = {}

    def add(self, snapshot: Snapshot) -> None:
        """Go on to the end of a snapshot that begins where we are."""
        marks = snapshot.marks
        own = marks.scopes.get(self._scope, [])
        self.scope_there = self.scope_there or bool(own)
        self._entries += own + marks.unread
        for audience in self._audiences:
            self._entries += marks.starts.get(audience, [])
        for ref in self._wanted:
            self._entries += marks.assets.get(ref, [])
        for stream, entries in marks.ends.items():
            self._ends.setdefault(stream, []).extend(entries)
        self.size = snapshot.tree_size

    def entries(self, known: int) -> list[int]:
        """The known entries to read, but for the ends."""
        return sorted(entry for entry in self._entries if entry < known)

    def ends_of(self, streams: Collection[str], known: int) -> list[int]:
        """The known ends of what began in these streams."""
        of_streams = (self._ends.get(stream, []) for stream in streams)
        return sorted(entry for entries in of_streams for entry in entries if entry < known)


class Snapshots:
    """The snapshots of one ledger, in the live build of its index.

    Nothing that is wrong with them ends a replay: `notice` is told, and the replay begins earlier.
    """

    def __init__(
        self, tables: Tables, reader: Reader, *, every: int = EVERY, notice: Notice | None = None
    ) -> None:
        if every < 1:
            raise MalformedError(f"a snapshot every {every} entries: write 1 or more")
        self.every: Final = every
        self._tables = tables
        self._reader = reader
        self._notice = notice
        self._saving = True

    def newest(self) -> int | None:
        """The tree size of the newest that there is, not checked; None without any."""
        ((tree_size,),) = self._tables.ask(("newest_snapshot", {}))[0]
        return None if tree_size is None else int(tree_size)

    def beginning(self, question: Question, where: Position, wanted: Collection[str]) -> Beginning:
        """The nearest at or before the basis of the question; entry 0 where none can be used.

        Costs one round trip and a few tiles for each link. Memory holds one link at a time.
        """
        found = Beginning(question, wanted)
        for snapshot in self._chain(where.basis):
            found.add(snapshot)
        return found

    def _chain(self, basis: int) -> Iterator[Snapshot]:
        """Link by link, until there is no more, or one that does not fit."""
        size = 0
        try:
            while snapshot := self._read(size, basis):
                yield snapshot
                size = snapshot.tree_size
        except (MalformedError, TamperError, ConflictError, StoreError) as error:
            self._tell(
                f"the snapshot that goes on from entry {size} in {self._tables.name} is not used: "
                f"{error}; the replay begins there"
            )

    def _read(self, start: int, basis: int) -> Snapshot | None:
        """The snapshot that goes on from there and ends at the basis or before.

        1. Its digest is that of its bytes. 2. Its form, origin and place are ours. 3. Its root is
        the ledger's root at that size.
        """
        rows = self._tables.ask(("snapshot_from", {"start_size": start}))[0]
        if not rows:
            return None
        tree_size, digest, body = rows[0]
        data = body.encode()
        _check("its digest", _digest(data), digest)
        snapshot = parse_snapshot(data)
        _check("its ledger", self._reader.origin, snapshot.origin)
        _check("its place", f"{start} to {tree_size}", _place(snapshot))
        if tree_size > basis:
            return None
        _check("its root", self._reader.root(tree_size).hex(), snapshot.root.hex())
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of any other that begins there. Durable, or not there.

        Where that cannot be done, `notice` is told once and nothing more is saved.
        """
        if not self._saving:
            return
        data = format_snapshot(snapshot)
        row = (snapshot.start_size, snapshot.tree_size, _digest(data), data.decode())
        try:
            with self._tables.writing():
                self._tables.add("add_snapshot", [row])
        except (ConflictError, StoreError) as error:
            self._saving = False
            self._tell(f"no snapshot was kept: {error}")

    def _tell(self, text: str) -> None:
        if self._notice is not None:
            self._notice(text)


def _place(snapshot: Snapshot) -> str:
    return f"{snapshot.start_size} to {snapshot.tree_size}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(what: str, expected: str, found: str) -> None:
    if expected != found:
        raise TamperError(f"{what} is another", expected=expected, found=found)
