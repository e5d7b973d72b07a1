"""The tables of an index in a SQLite file beside the ledger's, or in memory.

Any number of processes may share the file: each transaction looks anew which build is live. The
file is ours by its application id; what is in the way and is not ours is never touched.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ledger.errors import StoreError
from projections.tables import (
    COMPARED,
    TABLES,
    VERSION,
    Answer,
    Ask,
    Build,
    MovedError,
    UnfitRowError,
    load_schema,
    load_statements,
    of_build,
)

__all__ = ["DamagedIndexError", "SqliteTables"]

APPLICATION_ID: Final = 0x61736978
MAGIC: Final = b"SQLite format 3\x00"
WAIT_SECONDS: Final = 30.0
DIALECT: Final = "sqlite"

# How many connections this process has to a file, by device and inode. Whoever closes a file of
# its own drops all locks that the process holds on it (POSIX), also those of SQLite: then another
# process takes itself for the last one, and removes the log under a server that is reading it. So
# a file is looked at only while this process has no connection to it.
_OPENING: Final = threading.Lock()
_CONNECTIONS: Final[Counter[tuple[int, int]]] = Counter()


class DamagedIndexError(StoreError):
    """The file is an index of ours and cannot be read. What it held is in the ledger."""


class SqliteTables:
    """The contract of `projections.tables.Tables` over one connection."""

    def __init__(
        self, connection: sqlite3.Connection, name: str, origin: str, build: int | None = None
    ) -> None:
        self.name = name
        self._connection = connection
        self._origin = origin
        self._fixed = build
        self._sql: dict[str, str] | None = None
        self._build: Build | None = None
        self._counted: tuple[int, int] | None = None

    @classmethod
    def open(cls, path: Path | None, origin: str) -> SqliteTables:
        """Open or create; in memory without a path. Raises StoreError for a file that is not an
        index, or cannot be written.
        """
        if path is None:
            return cls(_connect(":memory:", origin), ":memory:", origin)
        name = str(path)
        with _OPENING:
            if not _CONNECTIONS[_identity(path)]:
                _check_file(path)
            with _translated(name):
                tables = cls(_connect(name, origin), name, origin)
            tables._counted = _identity(path)
            _CONNECTIONS[tables._counted] += 1
        return tables

    def close(self) -> None:
        if self._fixed is not None:
            return
        self._connection.close()
        with _OPENING:
            if self._counted is not None:
                _CONNECTIONS[self._counted] -= 1
                self._counted = None

    # --- transactions --------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Build]:
        if self._build is not None:
            yield self._build
            return
        with self._transaction("BEGIN") as build:
            yield build

    @contextmanager
    def writing(self) -> Iterator[Build]:
        with self._transaction("BEGIN IMMEDIATE") as build:
            yield build

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Build]:
        with self._committed(begin):
            try:
                self._build = self._found()
                self._sql = of_build(DIALECT, self._build.number)
                yield self._build
            finally:
                self._build = None

    @contextmanager
    def _committed(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with _translated(self.name):
            self._connection.execute(begin)
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:  # some errors of SQLite have ended it already
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _found(self) -> Build:
        for build in self._all_builds():
            if build.number == self._fixed or (build.live and self._fixed is None):
                return build
        which = "the live build" if self._fixed is None else f"build {self._fixed}"
        raise MovedError(f"{which} of the index {self.name} was dropped meanwhile: ask again")

    # --- rows ----------------------------------------------------------------------------------

    def ask(self, *questions: Ask) -> list[list[tuple[Any, ...]]]:
        with self.reading():
            return [self._rows(statement, values) for statement, values in questions]

    def ask_one(self, question: Ask) -> Answer:
        with self.reading() as build:
            return Answer(build.number, build.size, self._rows(*question))

    def _rows(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        bound = {
            name: json.dumps(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return self._connection.execute(self._text(statement), bound).fetchall()

    def add(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            self._connection.executemany(self._text(statement), rows)
        except (sqlite3.DataError, sqlite3.ProgrammingError, OverflowError, ValueError) as error:
            raise UnfitRowError(f"the index cannot hold a row of {statement}: {error}") from error

    def advance(self, size: int, leaf_hash: bytes) -> None:
        before = 0 if self._build is None else self._build.size
        self._connection.execute(self._text("forget_dead_letters"), {"size": before})
        self._connection.execute(self._text("advance"), {"size": size, "leaf_hash": leaf_hash})

    def _text(self, statement: str) -> str:
        if self._sql is None:
            raise AssertionError(f"{statement} outside of a transaction")
        return self._sql[statement]

    # --- builds --------------------------------------------------------------------------------

    def builds(self) -> list[Build]:
        with _translated(self.name):
            return self._all_builds()

    def _all_builds(self) -> list[Build]:
        found = self._connection.execute(load_statements(DIALECT)["builds"])
        return [
            Build(number, origin, size, leaf, bool(live))
            for number, origin, size, leaf, live in found
        ]

    def begin_build(self) -> SqliteTables:
        """The load is written to the same file, a batch in a transaction, as the live build is."""
        with self._committed():
            self._drop_retired()
            number = _add_build(self._connection, None, self._origin)
        return SqliteTables(self._connection, self.name, self._origin, number)

    def finish_load(self) -> None:
        """Nothing: the rows lie in their b-trees already."""

    def analyze(self) -> None:
        """Nothing: each statement has one way only."""

    def digests(self, build: int) -> dict[str, str]:
        return {table: self._digest(f"{table}_{VERSION}_{build}") for table in COMPARED}

    def _digest(self, table: str) -> str:
        """The number of rows and the sum of their hashes: the same for any order."""
        total = count = 0
        for row in self._connection.execute(f"SELECT * FROM {table}"):  # noqa: S608
            total += hash(row)
            count += 1
        return f"{count}/{total}"

    def go_live(self, build: int) -> None:
        self._connection.execute(self._text("retire"))
        self._connection.execute(of_build(DIALECT, build)["go_live"])

    def drop_retired(self) -> None:
        with self._committed():
            self._drop_retired()

    def _drop_retired(self) -> None:
        for build in self._all_builds():
            if not build.live:
                for table in TABLES:
                    self._connection.execute(f"DROP TABLE {table}_{VERSION}_{build.number}")
                self._connection.execute(of_build(DIALECT, build.number)["forget_build"])

    def drop(self) -> None:
        """Drop every table, also of other versions, and begin an empty build."""
        with self._committed():
            for (table,) in self._connection.execute(load_statements(DIALECT)["tables"]).fetchall():
                self._connection.execute(f"DROP TABLE {table}")
            _begin(self._connection, self._origin)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(f"the index {name} cannot be used: {error}") from error
        text = f"the index {name} is damaged ({error}), and holds nothing of its own"
        raise DamagedIndexError(f"{text}: delete it and ask again") from error


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode; of no file, what no file has."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _check_file(path: Path) -> None:
    """Refuse a file that we did not make, before SQLite could write into it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        head = file.read(100)
    if head[:16] != MAGIC or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise StoreError(f"{path} is not an index of asof; move it away or name another place")


def _connect(name: str, origin: str) -> sqlite3.Connection:
    """A connection to a file that is begun. Several may come to a new file at once: SQLite does not
    wait for the lock that a change of the journal's mode needs, so whoever meets it comes again.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return _connected(name, origin)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _connected(name: str, origin: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16000")
        if not _is_begun(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if not _is_begun(connection):  # else another process was first
                _begin(connection, origin)
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_begun(connection: sqlite3.Connection) -> bool:
    there = f"SELECT 1 FROM sqlite_schema WHERE name = 'build_{VERSION}'"  # noqa: S608
    return connection.execute(there).fetchone() is not None


def _begin(connection: sqlite3.Connection, origin: str) -> None:
    for statement in load_schema(DIALECT)[""]:
        connection.execute(statement)
    _add_build(connection, 0, origin)


def _add_build(connection: sqlite3.Connection, number: int | None, origin: str) -> int:
    """An empty build; the first one, 0, is live at once."""
    values = {"build": number, "origin": origin, "live": number == 0}
    added = connection.execute(load_statements(DIALECT)["add_build"], values).lastrowid
    if added is None:
        raise AssertionError("SQLite gives a row id for every insert into such a table")
    for statement in load_schema(DIALECT)["build"]:
        connection.execute(statement.replace("{build}", str(added)))
    return added
