"""A ledger in one SQLite file: WAL, `synchronous=FULL`, append-only.

::

    with closing(SqliteStore.open(Path("asof.db"))) as store:
        print(store.head().size)

What is checked at every open, before anything is written (docs/spec/store.md):

1. the path names a regular file that begins as a SQLite database;
2. `application_id` says asof, `user_version` a schema that this program knows;
3. the schema in the file is, object by object, what the migrations make;
4. for writing: `journal_mode=WAL`, `synchronous=FULL` and the other settings, read back. `WAL` with
   `NORMAL`, the pair that is often recommended, lost acknowledged entries in half of the simulated
   power losses; `WAL` with `FULL` in none.

One connection writes and is used by one thread at a time; reading borrows from a small pool, so
that a reader neither waits for the writer nor holds a transaction open between two pieces of a
stream.
Driver errors are translated here, once, and go no further.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from ledger.chain import StoredRow
from ledger.errors import (
    AsofError,
    ConflictError,
    NotFoundError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)
from ledger.hashing import HASH_SIZE
from ledger.store import Applied, Forecast, Head, KeyUse, Row, Store, Tracked, as_row, check_grows
from ledger.stores.held import Held, hold
from ledger.stores.migrations import Migration, load_migrations
from ledger.stores.statements import load_statements
from ledger.tiles import TILE_BYTES, Tile

__all__ = ["SqliteStore"]

APPLICATION_ID = 0x61736F66
MIGRATIONS = load_migrations("sqlite")
SCHEMA_VERSION = MIGRATIONS[-1].number
BUSY_SECONDS = 30.0
ROWS_A_PIECE = 1000
SMALL_CALL = 64
ROWS_A_CALL = 1000  # SQLite takes 32,766 values a statement; a row has 10
CHECK_CACHE_KIB = 40_000
PAGE_BYTES = 8192  # 12 entries of 0.8 kB fill it; 4096 would leave a fifth empty
WAL_BYTES = 16 * 1024 * 1024
ROW_BYTES = 300
PAGES_A_COMMIT = 4
MAGIC = b"SQLite format 3\x00"

HEADER_FIELDS = (
    (18, b"\x02\x02\x00\x40\x20\x20"),  # WAL, no reserved space, payload fractions
    (44, (4).to_bytes(4, "big")),  # schema format
    (52, bytes(4)),  # no auto-vacuum
    (56, (1).to_bytes(4, "big")),  # UTF-8
    (64, bytes(4)),  # no incremental vacuum
    (72, bytes(20)),  # reserved
)

SETTINGS: dict[str, int | str] = {
    "trusted_schema": 0,
    "cell_size_check": 1,
    "recursive_triggers": 1,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "wal_autocheckpoint": 0,
    "journal_size_limit": 4 * WAL_BYTES,
    "synchronous": 2,
    "journal_mode": "wal",
}
"""What a writing connection sets and then reads back. `tend` takes the place of autocheckpoint."""

READER_SETTINGS: dict[str, int | str] = {"trusted_schema": 0, "cell_size_check": 1, "query_only": 1}

SQL = load_statements("sqlite")
HEADER_BYTES = 100
ENTRY_VALUES = SQL["insert_entries"].partition("VALUES ")[2]

INTEGER, TEXT, BLOB = (frozenset((kind,)) for kind in (int, str, bytes))
WITHHELD = frozenset((bytes, type(None)))
ROW_TYPES = (INTEGER, INTEGER, TEXT, TEXT, TEXT, INTEGER, BLOB, WITHHELD, WITHHELD, BLOB)


class SqliteStore:
    """The contract of `ledger.store.Store` over one file. Made by `open` or `create_file`."""

    def __init__(self, path: Path, writer: sqlite3.Connection | None, held: Held) -> None:
        self.url = f"sqlite:///{path}"
        self.recovers = False
        self.works_elsewhere = False
        self._path = path
        self._held = held  # until this store is closed
        self._writer = writer
        self._append_lock = threading.Lock()
        self._file = _identity(path)
        self._stopped = ""
        self._untended = 0
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, write: bool = True) -> SqliteStore:
        """Open a ledger's file, having checked it as the module's text says.

        Raises: NotFoundError, StoreError, TamperError.
        """
        held = _check_file(path)
        try:
            return cls._opened(path, held, write=write)
        except BaseException:
            held.release()
            raise

    @classmethod
    def _opened(cls, path: Path, held: Held, *, write: bool) -> SqliteStore:
        with _translated(path):
            connection = _connect(path, "rw" if write else "ro")
            with _closed_on_failure(connection):
                _check_schema(connection, path)
                if write:
                    _apply_settings(connection, SETTINGS, path)
                    return cls(path, connection, held)
                _apply_settings(connection, READER_SETTINGS, path)
            connection.close()
            return cls(path, None, held)

    @classmethod
    def create_file(cls, path: Path) -> SqliteStore:
        """Make the file with its tables, in one transaction, and open it.

        A file that an interrupted call left behind (empty, or with tables and no ledger) is taken
        over; any other file is refused by `open`.
        """
        if not path.parent.is_dir():
            raise StoreError(f"the folder {path.parent} does not exist: make it first")
        if not path.exists() or (path.is_file() and _is_blank(path)):
            with _translated(path), closing(_connect(path, "rwc")) as connection:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_script(MIGRATIONS))
            _sync_folder(path.parent)
        return cls.open(path)

    @classmethod
    def migrate(cls, path: Path, *, dry_run: bool = False) -> list[Migration]:
        """Bring a file to the newest schema, in one transaction; the steps that were lacking.

        Raises: NotFoundError, StoreError, TamperError for a schema that others have changed.
        """
        held = _check_file(path)
        try:
            with _translated(path), closing(_connect(path, "rw")) as connection:
                steps = list(MIGRATIONS[_checked_version(connection, path) :])
                if steps and not dry_run:
                    _apply_settings(connection, SETTINGS, path)
                    connection.executescript(_script(steps))
            return steps
        finally:
            held.release()

    def head(self) -> Head | None:
        with self._reading() as connection:
            return _read_head(connection, self.url)

    def create(self, head: Head) -> None:
        with self._append_lock:
            connection = self._writable()
            with _translated(self.url):
                held = _read_head(connection, self.url)
                if held is not None:
                    raise ConflictError(f"{self.url} already holds the ledger {held.origin!r}")
                connection.execute(SQL["insert_head"], (head.origin, *_head_values(head)))

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[_SqliteTransaction]:
        with self._append_lock:
            connection = self._writable()
            self._check_same_file()
            with _translated(self.url):
                connection.execute("BEGIN IMMEDIATE")
            try:
                transaction = _SqliteTransaction(connection, self.url)
                yield transaction
            except BaseException:
                self._roll_back(connection)
                raise
            self._commit(connection)
            self._untended += transaction.written_bytes

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        piece = self._fetch_rows(SQL["rows"], (start, stop, ROWS_A_PIECE))
        while piece:
            yield from piece
            start = self._beyond(start, piece[-1].index + 1)
            piece = self._fetch_rows(SQL["rows"], (start, stop, ROWS_A_PIECE))

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        return self._fetch_rows(SQL["rows_at"], (json.dumps(sorted(set(indexes))),))

    def raw_rows(self, start: int, stop: int) -> list[StoredRow]:
        return self._fetch(SQL["rows"], (start, stop, stop - start))

    def stream_rows(
        self, stream: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Row]:
        left = limit
        while left is None or left > 0:
            wanted = ROWS_A_PIECE if left is None else min(left, ROWS_A_PIECE)
            piece = self._fetch_rows(SQL["stream_rows"], (stream, after_version, wanted))
            yield from piece
            if len(piece) < wanted:
                return
            after_version = self._beyond(after_version, piece[-1].version)
            left = None if left is None else left - wanted

    def stream_version(self, stream: str) -> int:
        return int(self._fetch(SQL["stream_version"], (stream,))[0][0])

    def streams(self, prefix: str = "") -> Iterator[str]:
        position = prefix
        while piece := self._fetch(SQL["streams_from"], (position, prefix, ROWS_A_PIECE)):
            yield from (name for (name,) in piece)
            position = self._beyond(position, piece[-1][0] + "\x00")

    def stream_spans(self, size: int) -> Iterator[tuple[str, int, int, int]]:
        position = ""
        while piece := self._fetch(SQL["stream_spans"], (position, size, ROWS_A_PIECE)):
            if any(tuple(map(type, span)) != (str, int, int, int) for span in piece):
                raise _not_a_ledgers(self.url, f"a stream after {position!r}")
            yield from piece
            position = self._beyond(position, piece[-1][0])

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        found = self._fetch(SQL["leaf_hashes"], (start, stop))
        return _joined_leaves(found, self.url, start, stop)

    def tile(self, level: int, number: int) -> bytes | None:
        found = self._fetch(SQL["tile"], (level, number))
        return _as_tile(found[0][0], self.url, level, number) if found else None

    def tiles(self) -> Iterator[Tile]:
        position = (-1, 0)
        while piece := self._fetch(SQL["tiles_after"], (*position, 100)):
            for level, number, hashes in piece:
                yield Tile(level, number, _as_tile(hashes, self.url, level, number))
            position = self._beyond(position, (piece[-1][0], piece[-1][1]))

    def key_use(self, key: str) -> KeyUse | None:
        found = self._fetch(SQL["key_use"], (key,))
        return _as_key_use(found[0], self.url) if found else None

    def key_uses(self) -> Iterator[KeyUse]:
        position = ""
        while piece := self._fetch(SQL["key_uses_after"], (position, ROWS_A_PIECE)):
            yield from (_as_key_use(found, self.url) for found in piece)
            position = self._beyond(position, piece[-1][0])

    def tracked(self, follower: str) -> int | None:
        found = self._fetch(SQL["tracked"], (follower,))
        return _as_position(found[0], self.url)[1] if found else None

    def track(self, tracked: Tracked) -> None:
        with self._append_lock:
            connection = self._writable()
            with _translated(self.url):
                connection.execute("BEGIN IMMEDIATE")
            try:
                _SqliteTransaction(connection, self.url).track(tracked)
            except BaseException:
                self._roll_back(connection)
                raise
            self._commit(connection)

    def again(self) -> Callable[[], Store] | None:
        return partial(SqliteStore.open, self._path, write=False)

    def index_at(self, recorded_at: int) -> int:
        head = self.head()
        low, high = 0, head.size if head is not None else 0
        with self._reading() as connection:
            while low < high:
                middle = (low + high) // 2
                if _recorded_at(connection, middle, self.url) <= recorded_at:
                    low = middle + 1
                else:
                    high = middle
        return low

    def migrations(self) -> Sequence[Applied]:
        """Those that this program knows: a file of fewer or others does not open."""
        return [step.applied() for step in MIGRATIONS]

    def check_integrity(self, *, deep: bool = True) -> list[str]:
        question = "PRAGMA integrity_check" if deep else "PRAGMA quick_check"
        self._check_open()
        try:
            with self._reading() as connection:
                connection.execute(f"PRAGMA cache_size = -{CHECK_CACHE_KIB}")
                lines = [str(line) for (line,) in connection.execute(question).fetchall()]
                connection.execute("PRAGMA cache_size = -2000")
                cut = _length_complaints(connection, self._path)
        except TamperError as exc:
            lines, cut = [str(exc)], []
        header = _header_complaints(self._header())
        return header + cut + ([] if lines == ["ok"] else lines)

    def _header(self) -> bytes:
        with self._pool_lock:
            self._check_open()
            return self._held.read(HEADER_BYTES)

    def tend(self) -> None:
        """Copy the write-ahead log into the file once it is long; readers and writers go on.

        Space that is missing is left for the next append to report; any other failure of a write or
        an fsync stops this store.
        """
        with self._append_lock:
            connection = self._writer
            if connection is None or self._stopped or self._untended < WAL_BYTES:
                return
            self._untended = 0
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as exc:
                if not _is_unwritten(exc):
                    self._stopped = f"{exc} while tending the file"

    def close(self) -> None:
        with self._append_lock, self._pool_lock:
            if self._closed:
                return
            self._closed = True
            for connection in (*self._idle, self._writer):
                if connection is not None:
                    connection.close()
            self._idle.clear()
            self._writer = None
            self._held.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.url} is closed")

    def _writable(self) -> sqlite3.Connection:
        self._check_open()
        if self._stopped:
            raise StoreError(f"{self.url} stopped writing ({self._stopped}): open it again")
        if self._writer is None:
            raise StoreError(f"{self.url} was opened for reading only")
        return self._writer

    def _check_same_file(self) -> None:
        """What is appended to a file that was removed or replaced would be lost with it."""
        if _identity(self._path) != self._file:
            raise StoreError(f"{self.url} was removed or replaced while it was open: open it again")

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Undo, where SQLite has not done so itself. If that fails, nothing more is written."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            self._stopped = str(exc)

    def _commit(self, connection: sqlite3.Connection) -> None:
        """The one place where entries become durable.

        A write that failed for lack of space or rights left no commit record: not written. After
        anything else, an fsync above all, the record may lie in the log or not, and asking the disk
        again would be answered with a lie: unknown, and nothing more is written here.
        """
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back(connection)
            if _is_unwritten(exc):
                raise _explained(exc, self.url) from exc
            self._stopped = str(exc)
            raise UnknownOutcomeError(
                f"{self.url}: the commit failed ({exc}); the batch may have been written or not. "
                "Open the ledger again and repeat it with the same idempotency key"
            ) from exc

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._pool_lock:
            self._check_open()
            connection = self._idle.pop() if self._idle else None
        with _translated(self.url):
            if connection is None:
                connection = self._connect_reader()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _connect_reader(self) -> sqlite3.Connection:
        connection = _connect(self._path, "ro")
        with _closed_on_failure(connection):
            _apply_settings(connection, READER_SETTINGS, self._path)
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool_lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _beyond(self, before: Any, position: Any) -> Any:
        """Where the next piece begins; a damaged index that leads back would do so for ever."""
        if not before < position:
            raise TamperError(f"{self.url} is damaged: an index is out of order at {position!r}")
        return position

    def _fetch(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(statement, values).fetchall()

    def _fetch_rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        """One piece of rows, each value of the type that its column promises."""
        found = self._fetch(statement, values)
        for column, allowed in zip(zip(*found, strict=True), ROW_TYPES, strict=False):
            if not allowed.issuperset(map(type, column)):
                raise _not_a_ledgers(self.url, f"an entry from {found[0][0]} to {found[-1][0]}")
        return list(map(as_row, found))


class _SqliteTransaction:
    """Between BEGIN IMMEDIATE and COMMIT, on the writing connection."""

    def __init__(self, connection: sqlite3.Connection, url: str) -> None:
        self._connection = connection
        self._url = url
        self._head: Head | None = None
        self.written_bytes = 0

    def head(self) -> Head:
        """Read once: under the lock it stays."""
        if self._head is None:
            with _translated(self._url):
                self._head = _read_head(self._connection, self._url)
        if self._head is None:
            raise NotFoundError(f"{self._url} holds no ledger yet")
        return self._head

    def stream_versions(self, streams: Collection[str]) -> dict[str, int]:
        with _translated(self._url):
            wanted = json.dumps(list(streams), ensure_ascii=False)
            found = self._connection.execute(SQL["stream_versions"], (wanted,)).fetchone()
        versions: dict[str, int] = json.loads(found[0])
        return versions

    def key_uses(self, keys: Collection[str]) -> dict[str, KeyUse]:
        with _translated(self._url):
            wanted = json.dumps(list(keys), ensure_ascii=False)
            found = self._connection.execute(SQL["key_uses"], (wanted,)).fetchall()
        return {use[0]: _as_key_use(use, self._url) for use in found}

    def tracked(self, followers: Collection[str]) -> dict[str, int]:
        with _translated(self._url):
            wanted = json.dumps(list(followers), ensure_ascii=False)
            found = self._connection.execute(SQL["tracked_among"], (wanted,)).fetchall()
        return dict(_as_position(one, self._url) for one in found)

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        with _translated(self._url):
            found = self._connection.execute(SQL["leaf_hashes"], (start, stop)).fetchall()
        return _joined_leaves(found, self._url, start, stop)

    def track(self, tracked: Tracked) -> None:
        """Set the position. Raises: ConflictError unless it grows."""
        check_grows(tracked, self.tracked([tracked.name]).get(tracked.name))
        with _translated(self._url):
            self._connection.execute(SQL["track"], tracked)

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """Nothing is gained by beginning early."""

    answer_at = None

    def wait(self) -> None:
        """The end of the block is the end of it."""

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        before = self.head()
        if not rows or [row.index for row in rows] != list(range(before.size, head.size)):
            raise ConflictError(f"{len(rows)} rows do not lead from {before.size} to {head.size}")
        with _translated(self._url):
            self._insert_entries(rows)
            if tiles:
                self._connection.executemany(SQL["insert_tile"], tiles)
            if keys:
                self._connection.executemany(SQL["insert_key_use"], keys)
            swapped = self._connection.execute(
                SQL["replace_head"], (*_head_values(head), before.size, before.root, head.origin)
            )
        if swapped.rowcount != 1:
            raise ConflictError(f"{self._url}: the head moved, or belongs to another ledger")
        for position in tracked:
            self.track(position)
        self.written_bytes += _log_bytes(rows)

    def _insert_entries(self, rows: Sequence[Row]) -> None:
        """Many rows a call: each call lets other threads run, and getting back in line costs."""
        start = 0
        while start < len(rows):
            piece = rows[start : start + _rows_of_call(len(rows) - start)]
            values = tuple(chain.from_iterable(piece))
            self._connection.execute(_insert_of(len(piece)), values)
            start += len(piece)


def _log_bytes(rows: Sequence[Row]) -> int:
    """About what a transaction adds to the log: its rows, a page of the index for each stream, and
    those pages that every transaction touches."""
    pages = len({row.stream for row in rows}) + PAGES_A_COMMIT
    return sum(len(row.payload or b"") + ROW_BYTES for row in rows) + pages * PAGE_BYTES


def _rows_of_call(left: int) -> int:
    """How many rows the next call takes: few sizes, for each new one has to be compiled."""
    if left <= SMALL_CALL:
        return left
    return ROWS_A_CALL if left >= ROWS_A_CALL else 1 << (left.bit_length() - 1)


@lru_cache(maxsize=128)  # as many as the driver keeps prepared
def _insert_of(count: int) -> str:
    return SQL["insert_entries"] + f", {ENTRY_VALUES}" * (count - 1)


def _script(migrations: Sequence[Migration]) -> str:
    """Migrations as one transaction, the file marked as ours and with their last number."""
    return (
        "BEGIN;\n"
        + "\n".join(step.sql for step in migrations)
        + f"\nPRAGMA application_id = {APPLICATION_ID};\n"
        f"PRAGMA user_version = {migrations[-1].number};\nCOMMIT;"
    )


@cache
def _expected_schema(version: int) -> frozenset[tuple[object, ...]]:
    """The schema that the first `version` migrations make; nothing where no such version was."""
    if not 0 < version <= SCHEMA_VERSION:
        return frozenset()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_script(MIGRATIONS[:version]))
        return frozenset(connection.execute(SQL["schema_objects"]).fetchall())


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
    )
    with _closed_on_failure(connection):
        connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextmanager
def _closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Until a connection has an owner, who fails with it in hand closes it."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _check_file(path: Path) -> Held:
    """Step 1: say plainly what is wrong with a path before SQLite gets to see it. It is held from
    here on.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path} is not a file, so it cannot be a ledger")
        held = hold(path)
        try:
            _check_beginning(held.read(len(MAGIC)), path)
        except BaseException:
            held.release()
            raise
    except FileNotFoundError:
        raise NotFoundError(f"there is no ledger at {path}: `asof init` makes one") from None
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}") from exc
    return held


def _check_beginning(beginning: bytes, path: Path) -> None:
    if not beginning:
        raise StoreError(f"{path} is empty: not a ledger, or one that was cut to nothing")
    if beginning != MAGIC:
        raise StoreError(f"{path} is not a ledger: it does not begin as a SQLite database")


def _header_complaints(header: bytes) -> list[str]:
    """Fields of the header that have one value in a ledger, and that SQLite itself ignores."""
    found = [(at, header[at : at + len(right)], right) for at, right in HEADER_FIELDS]
    return [
        f"the file's header holds {value.hex()} at byte {at}, not {right.hex()}"
        for at, value, right in found
        if value != right
    ]


def _length_complaints(connection: sqlite3.Connection, path: Path) -> list[str]:
    """A file that was cut within its last page: SQLite reads zeros beyond the end, and sees nothing
    where it was zeros that were cut off.

    Looked at within a read transaction that began on an empty log: while it lasts no checkpoint
    writes to the file. With a log the file may lag behind, and the pages are compared by SQLite.
    """
    connection.execute("BEGIN")
    try:
        pages = _pragma(connection, "page_count")
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            return []
        whole, found = pages * _pragma(connection, "page_size"), path.stat().st_size
    finally:
        connection.execute("ROLLBACK")
    return [f"the file has {found} bytes, its pages take {whole}"] if found < whole else []


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Steps 2 and 3."""
    version = _checked_version(connection, path)
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by an older asof (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): run `asof migrate`"
        )


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a schema that is, object by object, what the migrations up to it make."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite database of another program, not a ledger")
    version = int(_pragma(connection, "user_version"))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer asof (schema {version}, this one knows {SCHEMA_VERSION}): "
            "install that version to open it"
        )
    found = set(connection.execute(SQL["schema_objects"]).fetchall())
    expected = _expected_schema(version)
    differing = sorted({str(name) for _, name, *_ in found ^ expected}) if expected else []
    if not expected or differing:
        raise TamperError(
            f"{path}: the schema (version {version}) is not that of a ledger: "
            f"{', '.join(differing) or 'no such version was ever made'}"
        )
    return version


def _apply_settings(
    connection: sqlite3.Connection, settings: dict[str, int | str], path: Path
) -> None:
    """Step 4: set, then read back; what the file system or the build refuses is refused here."""
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        found = _pragma(connection, name)
        if found != value:
            raise StoreError(
                f"{path}: SQLite answers {name} = {found} instead of {value}; "
                "a ledger is not written where that does not hold (a network file system?)"
            )


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _is_blank(path: Path) -> bool:
    """Whether nothing was ever written: no bytes, or a database without a single object or mark."""
    if path.stat().st_size == 0:
        return True
    with suppress(sqlite3.Error), closing(_connect(path, "ro")) as connection:
        empty = not connection.execute(SQL["schema_objects"]).fetchall()
        return empty and not _pragma(connection, "application_id")
    return False


def _read_head(connection: sqlite3.Connection, url: str) -> Head | None:
    found = connection.execute(SQL["head"]).fetchone()
    if found is None:
        return None
    origin, size, root, last_leaf, recorded_at, edge, checkpoint = found
    kinds = tuple(map(type, found))
    if kinds != (str, int, bytes, bytes, int, bytes, bytes) or len(edge) % HASH_SIZE:
        raise _not_a_ledgers(url, "the head")
    return Head(
        origin=origin,
        size=size,
        root=root,
        last_leaf=last_leaf,
        recorded_at=recorded_at,
        edge=tuple(edge[at : at + HASH_SIZE] for at in range(0, len(edge), HASH_SIZE)),
        checkpoint=checkpoint,
    )


def _head_values(head: Head) -> tuple[Any, ...]:
    edge = b"".join(head.edge)
    return (head.size, head.root, head.last_leaf, head.recorded_at, edge, head.checkpoint)


def _recorded_at(connection: sqlite3.Connection, index: int, url: str) -> int:
    found = connection.execute(SQL["recorded_at"], (index,)).fetchone()
    if found is None or type(found[0]) is not int:
        raise TamperError(f"{url}: it is missing", index=index)
    return found[0]


def _joined_leaves(found: Sequence[Any], url: str, start: int, stop: int) -> bytes:
    try:
        joined = b"".join([leaf for (leaf,) in found])
    except TypeError:
        raise _not_a_ledgers(url, f"a leaf hash between {start} and {stop}") from None
    if len(joined) != HASH_SIZE * len(found):
        raise _not_a_ledgers(url, f"a leaf hash between {start} and {stop}")
    return joined


def _as_tile(hashes: object, url: str, level: int, number: int) -> bytes:
    if not isinstance(hashes, bytes) or len(hashes) != TILE_BYTES:
        raise _not_a_ledgers(url, f"tile {level}/{number}")
    return hashes


def _as_key_use(found: Sequence[Any], url: str) -> KeyUse:
    if tuple(map(type, found)) != (str, bytes, int, int, int):
        raise _not_a_ledgers(url, "a use of an idempotency key")
    return KeyUse(*found)


def _as_position(found: Sequence[Any], url: str) -> Tracked:
    if tuple(map(type, found)) != (str, int):
        raise _not_a_ledgers(url, "a follower's position")
    return Tracked(*found)


def _not_a_ledgers(url: str, what: str) -> TamperError:
    return TamperError(f"{url} is damaged: {what} is not what a ledger writes")


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _sync_folder(folder: Path) -> None:
    """A new file's name is durable once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _code(exc: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 where the error is the driver's own."""
    return getattr(exc, "sqlite_errorcode", None) or 0


def _is_unwritten(exc: sqlite3.Error) -> bool:
    """Whether a failed commit certainly left no commit record behind."""
    code = _code(exc)
    return code == sqlite3.SQLITE_IOERR_WRITE or code & 0xFF in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_READONLY,
    )


@contextmanager
def _translated(place: object) -> Iterator[None]:
    """Let no exception of the driver out of the block."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _explained(exc, place) from exc
    except UnicodeDecodeError as exc:  # the driver's, over a message that quotes damaged text
        raise TamperError(f"{place} is damaged: it holds text that is not UTF-8") from exc


def _explained(exc: sqlite3.Error, place: object) -> AsofError:
    """The driver's error in our words: whose it is, and what to do."""
    code = _code(exc)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UnreachableError(f"{place} is held by another process: try again")
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return ConflictError(f"{place} refused the write: {exc}")
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE:
        return StoreError(
            f"{place}: the disk is full or a quota is reached ({exc}); nothing was written"
        )
    if primary == sqlite3.SQLITE_READONLY:
        return StoreError(f"{place} cannot be written: the file or its folder is read-only")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"{place} cannot be opened: check the rights on the file and its folder")
    if primary == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{place} is not a ledger: SQLite cannot read it as a database")
    if primary == sqlite3.SQLITE_CORRUPT or "decode" in str(exc):
        return TamperError(f"{place} is damaged: {exc}")
    return StoreError(f"{place}: {exc}")
