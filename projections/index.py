"""Which entries matter to which question: positions beside the ledger, never evidence.

::

    with closing(Index.open(Path("asof.db.index"), reader)) as index:
        index.catch_up()
        question = Question(pipeline="demand-forecast", stage="production", at=at)
        _, entries = index.deciding(question, known, size)    # [3, 17]

The index holds positions, not content: a question finds a handful of entries here and reads them
from the ledger. So it can be dropped at any time, and what it cannot do is lie about what an
entry says. The rows lie in a SQLite file or in PostgreSQL (`tables`); the questions are the same.

What holds here: rows and position change in one transaction; the position carries the leaf hash of
the last indexed entry, so an index of another ledger, or of a history that this ledger no longer
has, is found out before it is used. If we die in the middle, the last whole batch stands. Questions
may name any (T, K); the price of each is in docs/spec/projections.md, rules 10 to 13. An entry that
cannot be indexed becomes a dead letter, or holds the index up, as is chosen (rule 23).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from ledger.errors import AsofError, ConflictError, StoreError, TamperError
from projections.facts import pipeline_stream
from projections.indexing import (
    Remembered,
    Traces,
    audience_of,
    audiences,
    parse_audience,
    write,
)
from projections.snapshots import EVERY, Snapshots
from projections.sqlite_tables import DamagedIndexError, SqliteTables
from projections.tables import Answer, Ask, Build, MovedError, Tables, UnfitRowError

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.store import Row
    from projections.fold import Question

__all__ = [
    "DamagedIndexError",
    "DeadLetter",
    "Index",
    "Interval",
    "OnUnfit",
    "PausedError",
    "Rebuilt",
    "RunEdge",
    "open_index",
    "up_to_date",
]

BATCH: Final = 10_000
MOST_DEAD_LETTERS: Final = 1_000
FAR: Final = 1 << 62

Progress = Callable[[int, int], None]
"""Told the number of entries indexed and to be indexed, after each batch."""

Notice = Callable[[str], None]

OnUnfit = Literal["dead-letter", "pause", "stop"]
"""What happens to an entry that cannot be indexed: it is put aside with the reason; the index
stands before it, and says so, until it can be applied; or the work is given up, as a rebuild does.
"""


class PausedError(StoreError):
    """The index stands before an entry that it cannot apply."""


class DeadLetter(NamedTuple):
    """An entry that could not be indexed, and why."""

    entry: int
    reason: str


class Rebuilt(NamedTuple):
    """What a rebuild came to: the new build's size, and the tables in which it differs from the
    build before; None where the two were not at the same entry.
    """

    size: int
    differing: tuple[str, ...] | None


class Interval(NamedTuple):
    """A time during which something held: since an entry, until an instant (None: it still
    does)."""

    pipeline: str
    stage: str
    part: str
    name: str
    entry: int
    start: int
    stop: int | None


class RunEdge(NamedTuple):
    """Two asset versions that a run connects, and the entry by which that is known."""

    ref: str
    run: str
    entry: int
    effective_at: int


def open_index(
    path: Path | None,
    reader: Reader,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Index:
    """A SQLite index that is up to date, built again where it is of another history or damaged; in
    memory without a path, or where the file may not be written.

    `notice` is told, in words, why it was built again. What is in the way and is no index of ours
    is never touched. Raises StoreError.
    """
    if path is not None and path.exists() and not os.access(path, os.W_OK):
        _tell(notice, f"the index {path} may not be written here: building one in memory")
        path = None
    try:
        return up_to_date(Index.open(path, reader), progress=progress, notice=notice)
    except DamagedIndexError as error:
        if path is None:
            raise
        _tell(notice, f"{error.args[0]}; it is built again")
        _remove(path)
        return up_to_date(Index.open(path, reader), progress=progress, notice=notice)


def up_to_date(
    index: Index, *, progress: Progress | None = None, notice: Notice | None = None
) -> Index:
    """The index, brought up to date, or built again where it is of another history; closed where
    neither can be done.
    """
    try:
        try:
            index.catch_up(progress)
        except MovedError:
            raise
        except (ConflictError, TamperError) as error:
            _tell(notice, f"{error}; the index is built again")
            index.rebuild(progress)
    except BaseException:
        index.close()
        raise
    return index


def _tell(notice: Notice | None, text: str) -> None:
    if notice is not None:
        notice(text)


def _remove(path: Path) -> None:
    """Remove an index of ours: what it is was looked at when it was opened."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class Index:
    """The index of one ledger. One thread at a time; any number of processes may share it."""

    def __init__(
        self, tables: Tables, reader: Reader, *, on_unfit: OnUnfit = "dead-letter"
    ) -> None:
        self._tables = tables
        self._reader = reader
        self._on_unfit: OnUnfit = on_unfit
        self._held = Remembered()

    @classmethod
    def open(cls, path: Path | None, reader: Reader) -> Index:
        """Open or create the SQLite file. Raises StoreError for a file that is not an index, or
        cannot be written.
        """
        return cls(SqliteTables.open(path, reader.origin), reader)

    def close(self) -> None:
        """Close the connection. Calling it twice does no harm."""
        self._tables.close()

    # --- how far it is -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Where it lies, for people."""
        return self._tables.name

    def check(self) -> int:
        """The number of entries indexed, all of them of this ledger's history.

        Raises ConflictError for an index of another ledger and TamperError where this ledger does
        not hold the entry that was indexed last.
        """
        with self._tables.reading() as build:
            return self._checked_size(build, self._reader.size())

    def size(self) -> int:
        """The number of entries indexed."""
        with self._tables.reading() as build:
            return build.size

    def catch_up(self, progress: Progress | None = None) -> int:
        """Index what is new, in order, a batch in a transaction; returns the number of entries
        indexed.

        Memory does not grow with the log. Raises ConflictError for an index of another ledger,
        TamperError where this ledger does not hold the entry that was indexed last, PausedError
        before an entry that cannot be applied and shall not be put aside.
        """
        target = self._reader.size()
        begun = size = self.check()
        with _Ahead(self._reader, target) as ahead:
            while size < target:
                size = self._applied(*ahead.take(size), target)
                if progress is not None:
                    progress(size, target)
        if size - begun >= max(begun, BATCH):  # what the planner knew is of a far smaller index
            self._tables.analyze()
        return size

    def _applied(self, rows: list[Row], traces: Traces | None, target: int) -> int:
        """Apply the rows in one transaction; where that cannot be done, in halves, until the entry
        to blame is found. Returns the size after it.
        """
        try:
            return self._written(rows, traces or _traced(rows), target)
        except UnfitRowError as error:
            if self._on_unfit == "stop":
                raise
            if len(rows) == 1:
                return self._put_aside(rows[0], str(error))
        left, right = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        size = self._applied(left, None, target)
        return self._applied(right, None, target) if size == right[0].index else size

    def _written(self, rows: list[Row], traces: Traces, target: int) -> int:
        """The position is read inside the transaction: another process may be ahead of us, and
        then nothing is written.
        """
        last = rows[-1]
        try:
            with self._tables.writing() as build:
                size = self._checked_size(build, target)
                if size != rows[0].index:
                    return size
                self._held = self._held.for_build(build)
                write(self._tables, traces, self._held)
                self._tables.advance(last.index + 1, last.leaf_hash)
        except BaseException:
            self._held = Remembered()  # it speaks of rows that were undone
            raise
        self._held.build = build._replace(size=last.index + 1, leaf_hash=last.leaf_hash)
        return last.index + 1

    def _put_aside(self, row: Row, reason: str) -> int:
        """Make a dead letter of an entry; go on after it, or stand before it."""
        with self._tables.writing() as build:
            if build.size != row.index:
                return build.size
            goes_on = self._on_unfit == "dead-letter" and len(self.dead_letters()) < (
                MOST_DEAD_LETTERS
            )
            if goes_on:
                self._tables.advance(row.index + 1, row.leaf_hash)
            self._tables.add("add_dead_letter", [(row.index, reason)])
        if goes_on:
            return row.index + 1
        raise PausedError(
            f"the index {self._tables.name} stands before entry {row.index}, which it cannot "
            f"apply: {reason}"
        )

    def _checked_size(self, build: Build, target: int) -> int:
        if build.origin != self._reader.origin:
            raise ConflictError(
                f"the index {self._tables.name} belongs to the ledger {build.origin!r}, "
                f"not to {self._reader.origin!r}"
            )
        size = build.size
        if size == 0:
            return 0
        if size > target:  # another process may have seen, and indexed, entries since
            target = self._reader.size()
        held = self._reader.leaf_hash(size - 1) if size <= target else None
        if held != build.leaf_hash:
            raise TamperError(
                f"the index {self._tables.name} was made from a history that this ledger does "
                "not hold",
                index=size - 1,
                expected=build.leaf_hash.hex(),
                found="no such entry" if held is None else held.hex(),
            )
        return size

    def dead_letters(self) -> list[DeadLetter]:
        """The entries that could not be indexed, the first thousand; one that is not below `size`
        holds the index up.
        """
        return [DeadLetter(*row) for row in self._all("dead_letters", page=MOST_DEAD_LETTERS)]

    def builds(self) -> list[Build]:
        """The live build, and those that are being made or were left behind."""
        return self._tables.builds()

    def snapshots(self, *, every: int = EVERY, notice: Notice | None = None) -> Snapshots:
        """Where replays of this ledger may begin, and where they leave more; a rebuild and a drop
        take them away. `notice` is told what is wrong with one.
        """
        return Snapshots(self._tables, self._reader, every=every, notice=notice)

    # --- building it again ---------------------------------------------------------------------

    def rebuild(self, progress: Progress | None = None) -> Rebuilt:
        """Build it anew from the first entry beside the live build, and switch when it is there.

        Questions are answered from the live build until then. The first entry that cannot be
        applied ends it, and the live build stays. If we die, the next rebuild drops what is left.
        A rebuild that begins takes the place of one that runs: that one ends with MovedError.
        """
        tables = self._tables.begin_build()
        fresh = Index(tables, self._reader, on_unfit="stop")
        fresh.catch_up(progress)
        tables.finish_load()
        while (rebuilt := self._switched(tables)) is None:
            fresh.catch_up(progress)
        self._tables.drop_retired()
        return rebuilt

    def _switched(self, fresh: Tables) -> Rebuilt | None:
        """Switch, in one transaction, unless the live build went on meanwhile: what was answered
        once is not forgotten.
        """
        with fresh.reading() as new:
            number = new.number
        with self._tables.writing() as live:
            new = next((one for one in self._tables.builds() if one.number == number), live)
            if new is live:
                raise MovedError(f"another rebuild of {self._tables.name} took the place of this")
            if live.origin == new.origin and new.size < live.size <= self._reader.size():
                return None
            same_place = live[1:4] == new[1:4]
            differing = self._differing(live, new) if same_place else None
            self._tables.go_live(new.number)
            return Rebuilt(new.size, differing)

    def _differing(self, live: Build, new: Build) -> tuple[str, ...]:
        before, after = self._tables.digests(live.number), self._tables.digests(new.number)
        return tuple(table for table in before if before[table] != after[table])

    def drop(self) -> None:
        """Drop every table of this ledger's index. It is built again by the next question."""
        self._tables.drop()

    # --- a state's entries ---------------------------------------------------------------------

    @contextmanager
    def reading(self, size: int = 0) -> Iterator[None]:
        """Everything asked inside is answered from one build of the index, whatever other
        processes do; it has `size` entries at least, or is brought up to date first.
        """
        with self._tables.reading() as build:
            if build.size >= size:
                yield
                return
        self.catch_up()
        with self._tables.reading():
            yield

    def pipelines(self, size: int) -> list[tuple[str, str]]:
        """The pipelines and stages that the first `size` entries are about."""
        streams = (text.partition("/")[2] for (text,) in self._all("scopes", size=size))
        return [(name, stage) for name, _, stage in (text.rpartition("@") for text in streams)]

    def knows(self, pipeline: str, stage: str, size: int) -> bool:
        """Whether one of the first `size` entries is about this pipeline and stage."""
        return bool(self._all("knows_scope", stream=pipeline_stream(pipeline, stage), size=size))

    def deciding(self, question: Question, known: int, size: int) -> tuple[int, list[int] | None]:
        """The build that was asked, and the entries that decide a state: its slots, traffic,
        definition and brackets; what begins and ends its runs, incidents and approvals; the
        unreadable and the dead letters. None where none of the first `size` entries is about this
        pipeline and stage.

        One round trip where the index has `size` entries; else it is brought up to date first. A
        slot costs one or two probes where everything known had taken effect or everything is known;
        else late arrivals recorded after `known` are passed over. What may be open costs a probe
        for each power of two that a duration can have, and grows with what is open, not with what
        is over.
        """
        where = (question.pipeline, question.stage)
        values = {
            "stream": pipeline_stream(*where),
            "audience": audience_of(*where),
            "audiences": audiences(*where),
            "at": question.at,
            "known": known,
            "size": size,
        }
        answer = self._answered(size, ("deciding", values))
        found = {entry for row in answer.rows for entry in row}
        return answer.build, sorted(found - {None}) if answer.rows else None

    def latest(self, lane: int, at: int, known: int) -> int:
        """The entry that decides a lane, -1 where none does."""
        rows = self._all("latest", lane=lane, at=at, known=known)
        return -1 if not rows or rows[0][0] is None else int(rows[0][0])

    def records(self, refs: Iterable[str], known: int) -> tuple[int, list[int]]:
        """The build that was asked, and the entries that record or withdraw these versions."""
        answer = self._answered(known, ("records", {"refs": list(refs), "known": known}))
        return answer.build, sorted({entry for (entry,) in answer.rows})

    def _answered(self, size: int, question: Ask) -> Answer:
        """The answer of a build that has `size` entries: brought up to date where it has not."""
        while (answer := self._tables.ask_one(question)).size < size:
            there = self.catch_up()
            if there < size:
                raise StoreError(
                    f"the ledger {self._reader.origin!r} had {size} entries a moment ago and gives "
                    f"{there} now (a standby that is behind, or a backup put back): ask again"
                )
        return answer

    # --- histories -----------------------------------------------------------------------------

    def lanes(self, pipeline: str, stage: str) -> dict[tuple[str, str], int]:
        """The lanes of a pipeline and stage by part and name, such as ("slot", "model")."""
        found = self._all("lanes", audience=audience_of(pipeline, stage))
        return {(part, name): lane for lane, part, name in found}

    def changes_in_order(
        self,
        lane: int,
        *,
        at: int,
        known: int,
        after: tuple[int, int] | None = None,
        page: int = 500,
    ) -> Iterator[int]:
        """The entries of a lane in the order in which they took effect, behind `after` (effective
        time, entry) where it is given; streamed by pages.
        """
        after = after or (-FAR, -1)
        while True:
            rows = self._all(
                "changes_in_order",
                lane=lane,
                after_at=after[0],
                after_entry=after[1],
                at=at,
                known=known,
                page=page,
            )
            yield from (entry for _, entry in rows)
            if len(rows) < page:
                return
            after = rows[-1][0], rows[-1][1]

    def changes_between(
        self, lane: int, times: tuple[int, int], knowns: tuple[int, int], limit: int
    ) -> list[int]:
        """The entries of a lane that count at the later of two positions and not at both; newest
        `limit`.

        `times` and `knowns` are the two effective times and the two numbers of known entries,
        each in ascending order.
        """
        of_lane = {"lane": lane, "page": limit}
        by_time, by_entry = self._tables.ask(
            (
                "changes_by_time",
                {"start": times[0], "stop": times[1], "known": knowns[1], **of_lane},
            ),
            ("changes_by_entry", {"start": knowns[0], "stop": knowns[1], **of_lane}),
        )
        return sorted({entry for (entry,) in (*by_time, *by_entry)})[-limit:]

    def intervals(self, ref: str, *, at: int, known: int, limit: int) -> list[Interval]:
        """When an asset version was bound or served, as known; those in which it held no instant
        are left out.
        """
        found = self._all("intervals", ref=ref, at=at, known=known, page=limit)
        return [
            Interval(
                *parse_audience(audience),
                part,
                name,
                entry,
                start,
                None if stop is None or stop > at else stop,
            )
            for audience, part, name, entry, start, stop in found
        ]

    # --- lineage -------------------------------------------------------------------------------

    def parents(self, ref: str, *, at: int, known: int, limit: int) -> list[RunEdge]:
        """What a version was made from: as its record says (run is ""), and as the runs that made
        it say.
        """
        return self._edges(
            "parents", {"near": 1, "far": 0}, ref=ref, at=at, known=known, page=limit
        )

    def children(self, ref: str, *, at: int, known: int, limit: int) -> list[RunEdge]:
        """What was made from a version."""
        return self._edges(
            "children", {"near": 0, "far": 1}, ref=ref, at=at, known=known, page=limit
        )

    def _edges(self, stated: str, sides: dict[str, int], **values: Any) -> list[RunEdge]:
        of_records, of_runs = self._tables.ask((stated, values), ("run_sides", values | sides))
        edges = [RunEdge(text, "", entry, effective_at) for text, entry, effective_at in of_records]
        return edges + [RunEdge(*row) for row in of_runs]

    def names(self, ref: str, at: int, known: int) -> bool:
        """Whether a known entry records the version, uses it, or says what it was made from."""
        return bool(self._all("is_named", ref=ref, at=at, known=known))

    def runs_of(self, ref: str, *, at: int, known: int, limit: int) -> list[tuple[str, int, int]]:
        """The runs that read (0) or made (1) a version: stream, role, entry."""
        found = self._all("runs_of", ref=ref, at=at, known=known, page=limit)
        return [(stream, role, entry) for stream, role, entry in found]

    def _all(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        question: Ask = (statement, values)
        return self._tables.ask(question)[0]


class _Ahead:
    """Reads and parses the next batch while the one before is written: two cores, two batches of
    memory. A thread is begun only where there is more than one batch.
    """

    def __init__(self, reader: Reader, target: int) -> None:
        self._reader = reader
        self._target = target
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asof-index")
        self._next: tuple[int, Future[tuple[list[Row], Traces | None]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(self, start: int) -> tuple[list[Row], Traces | None]:
        """The batch that begins there, with its traces; without them where they must be looked at
        entry by entry.
        """
        if self._next is not None and self._next[0] == start:
            rows, traces = self._next[1].result()
        else:
            rows, traces = self._read(start)
        following = rows[-1].index + 1
        if following < self._target:
            self._next = (following, self._thread.submit(self._read, following))
        return rows, traces

    def _read(self, start: int) -> tuple[list[Row], Traces | None]:
        target = self._target
        rows = list(self._reader.rows(start, min(start + BATCH, target)))
        if not rows:
            raise StoreError(f"the ledger says {target} entries and gives none from {start} on")
        try:
            return rows, _traced(rows)
        except UnfitRowError:
            return rows, None


def _traced(rows: list[Row]) -> Traces:
    """What the rows leave behind. Whatever an entry makes us stumble over is about that entry."""
    try:
        return Traces(rows)
    except AsofError:
        raise
    except Exception as error:
        raise UnfitRowError(f"{type(error).__name__}: {error}") from error
