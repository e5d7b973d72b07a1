"""Which entries matter to which question: a small SQLite file beside the ledger, never evidence.

::

    with closing(Index.open(Path("asof.db.index"), reader)) as index:
        index.catch_up()
        question = Question(pipeline="demand-forecast", stage="production", at=at)
        index.changes(question, known)          # [3, 17]

The index holds positions, not content: a question finds a handful of entries here and reads them
from the ledger. So it can be dropped at any time, and what it cannot do is lie about what an
entry says.

What holds here: rows and position change in one transaction; the position carries the leaf hash of
the last indexed entry, so an index of another ledger, or of a history that this ledger no longer
has, is found out before it is used. If we die in the middle, the last whole batch stands. Questions
may name any (T, K); the price of each is in docs/spec/projections.md, rules 10 to 13.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ledger.errors import ConflictError, StoreError, TamperError
from projections.facts import pipeline_stream
from projections.indexing import OPEN, Batch, audience_of, audiences, parse_audience

if TYPE_CHECKING:
    from ledger.reader import Reader
    from projections.fold import Question

__all__ = ["DamagedIndexError", "Index", "Interval", "RunEdge", "open_index"]

APPLICATION_ID: Final = 0x61736978
BATCH: Final = 5_000
MAGIC: Final = b"SQLite format 3\x00"
OPEN_WIDTH: Final = 1 << 62

Progress = Callable[[int, int], None]
"""Told the number of entries indexed and to be indexed, after each batch."""


Notice = Callable[[str], None]


class DamagedIndexError(StoreError):
    """The file is an index of ours and cannot be read. What it held is in the ledger."""


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


@cache
def _statements() -> dict[str, str]:
    """The statements of `sql/queries.sql` by name, without their comments."""
    parts = _sql("queries.sql").split("-- name: ")[1:]
    named = (part.partition("\n") for part in parts)
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip(
            " \n;"
        )
        for name, _, body in named
    }


def _sql(name: str) -> str:
    return files("projections").joinpath("sql", name).read_text("utf-8")


def open_index(
    path: Path | None,
    reader: Reader,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Index:
    """An index that is up to date, built again where it is of another history or damaged; in
    memory without a path, or where the file may not be written.

    `notice` is told, in words, why it was built again. What is in the way and is no index of ours
    is never touched. Raises StoreError.
    """
    if path is not None and path.exists() and not os.access(path, os.W_OK):
        _tell(notice, f"the index {path} may not be written here: building one in memory")
        path = None
    try:
        return _up_to_date(path, reader, progress, notice)
    except DamagedIndexError as error:
        if path is None:
            raise
        _tell(notice, f"{error.args[0]}; it is built again")
        _remove(path)
        return _up_to_date(path, reader, progress, notice)


def _up_to_date(
    path: Path | None, reader: Reader, progress: Progress | None, notice: Notice | None
) -> Index:
    index = Index.open(path, reader)
    try:
        try:
            index.catch_up(progress)
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
    """Remove an index of ours: `_check_file` has looked at what it is."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class Index:
    """The index of one ledger. One thread at a time; any number of processes may share the file."""

    def __init__(self, connection: sqlite3.Connection, reader: Reader, name: str) -> None:
        self._connection = connection
        self._reader = reader
        self._name = name
        self._sql = _statements()

    @classmethod
    def open(cls, path: Path | None, reader: Reader) -> Index:
        """Open or create. Raises StoreError for a file that is not an index, or cannot be
        written.
        """
        name = ":memory:" if path is None else str(path)
        if path is not None:
            _check_file(path)
        with _translated(name):
            return cls(_connect(name), reader, name)

    def close(self) -> None:
        """Close the file. Calling it twice does no harm."""
        self._connection.close()

    # --- how far it is -------------------------------------------------------------------------

    def size(self) -> int:
        """The number of entries indexed."""
        row = self._one("position")
        return 0 if row is None else int(row[1])

    def catch_up(self, progress: Progress | None = None) -> int:
        """Index what is new, in order, a batch in a transaction; returns the number of entries
        indexed.

        Memory does not grow with the log. Raises ConflictError for an index of another ledger and
        TamperError where this ledger does not hold the entry that was indexed last.
        """
        target = self._reader.size()
        size = self._checked_position(target)
        while size < target:
            size = self._catch_up_batch(target)
            if progress is not None:
                progress(size, target)
        return size

    def _catch_up_batch(self, target: int) -> int:
        """One batch. The position is read inside the transaction: another process may be ahead of
        us.
        """
        with self._transaction():
            size = self._checked_position(target)
            rows = list(self._reader.rows(size, min(size + BATCH, target)))
            if rows:
                Batch(self._connection, self._sql).add(rows)
                size += len(rows)
                self._run("set_position", self._reader.origin, size, rows[-1].leaf_hash)
            elif size < target:
                raise StoreError(f"the ledger says {target} entries and gives none from {size} on")
            return size

    def _checked_position(self, target: int) -> int:
        row = self._one("position")
        if row is None:
            return 0
        origin, size, leaf = row
        if origin != self._reader.origin:
            raise ConflictError(
                f"the index {self._name} belongs to the ledger {origin!r}, "
                f"not to {self._reader.origin!r}"
            )
        if size > target:  # another process may have seen, and indexed, entries since
            target = self._reader.size()
        held = self._reader.leaf_hash(size - 1) if size <= target else None
        if held != leaf:
            raise TamperError(
                f"the index {self._name} was made from a history that this ledger does not hold",
                index=size - 1,
                expected=leaf.hex(),
                found="no such entry" if held is None else held.hex(),
            )
        return int(size)

    def rebuild(self, progress: Progress | None = None) -> int:
        """Forget everything and index the ledger from its first entry."""
        with self._transaction():
            for table in self._tables():
                self._connection.execute(f"DROP TABLE {table}")
            _create_tables(self._connection)
        return self.catch_up(progress)

    def _tables(self) -> list[str]:
        found = self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return [name for (name,) in found]

    # --- a state's entries ---------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything asked inside sees one state of the index, whatever other processes do."""
        with self._transaction("BEGIN"):
            yield

    def knows(self, pipeline: str, stage: str, size: int) -> bool:
        """Whether one of the first `size` entries is about this pipeline and stage."""
        return self._one("knows_scope", pipeline_stream(pipeline, stage), size) is not None

    def pipelines(self, size: int) -> list[tuple[str, str]]:
        """The pipelines and stages that the first `size` entries are about."""
        streams = (text.partition("/")[2] for (text,) in self._all("scopes", size))
        return [(name, stage) for name, _, stage in (text.rpartition("@") for text in streams)]

    def changes(self, question: Question, known: int) -> list[int]:
        """The entries that decide a state's slots, traffic, definition and brackets, and the
        unreadable.

        One or two probes a slot where everything known had taken effect or everything is known;
        else late arrivals recorded after `known` are passed over.
        """
        pipeline, stage = question.pipeline, question.stage
        stream = pipeline_stream(pipeline, stage)
        found = {entry for (entry,) in self._all("unreadable", stream, known)}
        for (part, _), lane in self.lanes(pipeline, stage).items():
            found.add(self.latest(lane, question.at, known))
            if part == "change":
                found.add(self._earliest_after(lane, question.at, known))
        return sorted(entry for entry in found if entry >= 0)

    def latest(self, lane: int, at: int, known: int) -> int:
        """The entry that decides a lane, -1 where none does."""
        top = self._one("top", lane, known)
        if top is None:
            return -1
        if top[0] <= at:
            return int(top[1])
        row = self._one("latest", lane, at, known)
        return -1 if row is None else int(row[0])

    def _earliest_after(self, lane: int, at: int, known: int) -> int:
        top = self._one("top", lane, known)
        row = None if top is None or top[0] <= at else self._one("earliest_after", lane, at, known)
        return -1 if row is None else int(row[0])

    def unfinished(self, question: Question, known: int) -> list[int]:
        """The entries that decide which runs, incidents and approvals are open: beginnings and
        ends.

        Costs a probe for each power of two that a duration can have, and grows with what is open,
        not with what is over.
        """
        found: set[int] = set()
        subjects: set[int] = set()
        for audience in audiences(question.pipeline, question.stage):
            values = {"audience": self._name_id(audience), "at": question.at, "known": known}
            for name in ("spans_across_time", "spans_across_entries"):
                for entry, subject in self._connection.execute(self._sql[name], values):
                    found.add(entry)
                    subjects.add(subject)
        for subject in subjects:
            found.update(entry for (entry,) in self._all("ends", subject, known))
        return sorted(found)

    def records(self, refs: Iterable[str], known: int) -> list[int]:
        """The entries that record or withdraw these asset versions."""
        found: set[int] = set()
        for ref in map(self._name_id, refs):
            for name in ("assets", "withdrawals"):
                found.update(entry for (entry,) in self._all(name, ref, known))
        return sorted(found)

    # --- histories -----------------------------------------------------------------------------

    def lanes(self, pipeline: str, stage: str) -> dict[tuple[str, str], int]:
        """The lanes of a pipeline and stage by part and name, such as ("slot", "model")."""
        audience = self._name_id(audience_of(pipeline, stage))
        return {(part, name): lane for lane, part, name in self._all("lanes", audience)}

    def changes_in_order(
        self,
        lane: int,
        *,
        at: int,
        known: int,
        after: tuple[int, int] = (-OPEN_WIDTH, -1),
        page: int = 500,
    ) -> Iterator[int]:
        """The entries of a lane in the order in which they took effect; streamed by pages."""
        while True:
            rows = self._all("changes_in_order", lane, *after, at, known, page)
            yield from (entry for _, entry in rows)
            if len(rows) < page:
                return
            after = rows[-1]

    def changes_between(
        self, lane: int, times: tuple[int, int], knowns: tuple[int, int], limit: int
    ) -> list[int]:
        """The entries of a lane that count at the later of two positions and not at both; newest
        `limit`.

        `times` and `knowns` are the two effective times and the two numbers of known entries,
        each in ascending order.
        """
        found = {
            entry for (entry,) in self._all("changes_by_time", lane, *times, knowns[1], limit)
        } | {entry for (entry,) in self._all("changes_by_entry", lane, *knowns, limit)}
        return sorted(found)[-limit:]

    def intervals(self, ref: str, *, at: int, known: int, limit: int) -> list[Interval]:
        """When an asset version was bound or served, as known; those in which it held no instant
        are left out.
        """
        found = []
        for lane, start, entry in self._all("uses", self._name_id(ref), at, known, limit):
            if self._one("is_superseded", lane, start, entry, known) is not None:
                continue
            stop = self._one("next_change", lane, start, known)
            audience, part, name = self._one("lane", lane)
            until = None if stop is None or stop[0] > at else int(stop[0])
            found.append(Interval(*parse_audience(audience), part, name, entry, start, until))
        return found

    # --- lineage -------------------------------------------------------------------------------

    def parents(self, ref: str, *, at: int, known: int, limit: int) -> list[RunEdge]:
        """What a version was made from: as its record says (run is ""), and as the runs that made
        it say.
        """
        return self._edges(ref, "parents", {"near": 1, "far": 0}, at, known, limit)

    def children(self, ref: str, *, at: int, known: int, limit: int) -> list[RunEdge]:
        """What was made from a version."""
        return self._edges(ref, "children", {"near": 0, "far": 1}, at, known, limit)

    def _edges(
        self, ref: str, stated: str, sides: dict[str, int], at: int, known: int, limit: int
    ) -> list[RunEdge]:
        node = self._name_id(ref)
        edges = [
            RunEdge(text, "", entry, effective_at)
            for text, entry, effective_at in self._all(stated, node, at, known, limit)
        ]
        values = {"ref": node, "at": at, "known": known, "limit": limit, **sides}
        edges += map(RunEdge._make, self._connection.execute(self._sql["run_sides"], values))
        return edges

    def names(self, ref: str, at: int, known: int) -> bool:
        """Whether a known entry records the version, uses it, or says what it was made from."""
        node = self._name_id(ref)
        return bool(
            self.records([ref], known)
            or self._all("uses", node, at, known, 1)
            or self.runs_of(ref, at=at, known=known, limit=1)
            or self._all("parents", node, at, known, 1)
            or self._all("children", node, at, known, 1)
        )

    def runs_of(self, ref: str, *, at: int, known: int, limit: int) -> list[tuple[str, int, int]]:
        """The runs that read (0) or made (1) a version: stream, role, entry."""
        return self._all("runs_of", self._name_id(ref), at, known, limit)

    # --- SQL -----------------------------------------------------------------------------------

    def _name_id(self, text: str) -> int:
        row = self._one("name_id", text)
        return -1 if row is None else int(row[0])

    def _one(self, name: str, *values: Any) -> Any:
        with _translated(self._name):
            return self._connection.execute(self._sql[name], values).fetchone()

    def _all(self, name: str, *values: Any) -> list[Any]:
        with _translated(self._name):
            return self._connection.execute(self._sql[name], values).fetchall()

    def _run(self, name: str, *values: Any) -> None:
        self._connection.execute(self._sql[name], values)

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with _translated(self._name):
            self._connection.execute(begin)
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(f"the index {name} cannot be used: {error}") from error
        text = f"the index {name} is damaged ({error}), and holds nothing of its own"
        raise DamagedIndexError(f"{text}: delete it and ask again") from error


def _check_file(path: Path) -> None:
    """Refuse a file that we did not make, before SQLite could write into it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if head[:16] != MAGIC or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise StoreError(f"{path} is not an index of asof; move it away or name another place")


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, isolation_level=None, timeout=30, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16000")
        there = "SELECT 1 FROM sqlite_schema WHERE name = 'position_1'"
        if connection.execute(there).fetchone() is None:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            _create_tables(connection)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_tables(connection: sqlite3.Connection) -> None:
    for statement in _schema():
        connection.execute(statement)
    widths = [(bucket, 1 << bucket) for bucket in range(OPEN - 1)] + [(OPEN, OPEN_WIDTH)]
    connection.executemany(_statements()["add_bucket"], widths)


@cache
def _schema() -> Collection[str]:
    lines = [line for line in _sql("schema.sql").splitlines() if not line.startswith("--")]
    return [text for text in "\n".join(lines).split(";") if text.strip()]
