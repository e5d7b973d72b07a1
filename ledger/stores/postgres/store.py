"""A ledger in PostgreSQL, one of many in a database, written by any number of processes.

::

    with closing(PostgresStore.open("postgresql://asof_app@localhost/audit", origin)) as store:
        print(store.head().size)

The head row is what orders appends: locked by one transaction at a time, compared with what the
writer built on, replaced. A writer that was overtaken is slower, never wrong; the constraints
refuse a fork even if this code is. What is checked at every open is in `checks`, how an append is
sent in `transaction`.

One connection writes; reading borrows from a pool. A connection that the server dropped is
replaced: what was being read is read again, what was being written is told
(`UnknownOutcomeError`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final, LiteralString

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from ledger.chain import StoredRow
from ledger.errors import ConflictError, StoreError, TamperError, UnreachableError
from ledger.store import Applied, Forecast, Head, KeyUse, Row, Store, Tracked, as_row
from ledger.stores.postgres.checks import (
    Notice,
    check_migrations,
    check_role,
    check_schema,
    check_server,
)
from ledger.stores.postgres.comparing import deep_complaints
from ledger.stores.postgres.connecting import connect, is_alive, register, settings_of, shown
from ledger.stores.postgres.errors import translated
from ledger.stores.postgres.line import Line
from ledger.stores.postgres.stream_numbers import StreamNumbers
from ledger.stores.postgres.transaction import PostgresTransaction, as_head, head_values
from ledger.stores.postgres.waking import Waker
from ledger.stores.statements import load_statements
from ledger.tiles import Tile

__all__ = ["PostgresStore"]

SQL = load_statements("postgres")
ROWS_A_PIECE: Final = 1000
TILES_AHEAD: Final = 64
MOST_CONNECTIONS: Final = 16
POOL_SECONDS: Final = 15.0
INT8: Final = (1 << 63) - 1

Connection = psycopg.Connection[Any]


def _silent(_notice: str) -> None:
    """Nobody wants to know."""


class PostgresStore:
    """The contract of `ledger.store.Store` over one ledger of a database. Made by `open`."""

    def __init__(
        self,
        url: str,
        origin: str,
        *,
        write: bool,
        checksums: bool = True,
        notice: Notice = _silent,
    ) -> None:
        self.url = shown(url)
        self.origin = origin
        self.recovers = True
        self.works_elsewhere = True
        self._given = url
        self._write = write
        self._checksums = checksums
        self._notice = notice
        self._ledger: int | None = None
        self._append_lock = threading.Lock()
        self._ahead_lock = threading.Lock()
        self._last_tile = (-1, -1)
        self._tiles_ahead: dict[tuple[int, int], bytes] = {}
        self._writer: Line | None = None
        self._numbers = StreamNumbers()
        self._closed = False
        self._waker = Waker(self._notify)
        self._pool = ConnectionPool(
            url,
            kwargs={"autocommit": True, **settings_of(url, "reader")},
            min_size=0,
            max_size=MOST_CONNECTIONS,
            num_workers=1,
            timeout=POOL_SECONDS,
            open=False,
            name="asof",
        )

    @classmethod
    def open(
        cls,
        url: str,
        origin: str,
        *,
        write: bool = True,
        checksums: bool = True,
        notice: Notice = _silent,
    ) -> PostgresStore:
        """Open a database for the ledger `origin`, having checked what the module `checks` says.

        `checksums=False` takes a server without data checksums, and gives a notice instead.
        Raises: NotFoundError, UnreachableError, StoreError, RefusedError for an over-privileged
        role, TamperError for a schema that was changed.
        """
        store = cls(url, origin, write=write, checksums=checksums, notice=notice)
        try:
            if write:
                with store._append_lock:
                    store._writable()
            else:
                with closing(connect(url, "reader")) as connection, translated(store.url):
                    check_migrations(connection, store.url)
            with translated(store.url):
                store._pool.open()
            store._id()
        except BaseException:
            store.close()
            raise
        return store

    # ---------------------------------------------------------------- beginning and appending

    def head(self) -> Head | None:
        ledger = self._id()
        if ledger is None:
            return None
        found = self._fetch(SQL["head"], (ledger,))
        return as_head(found[0]) if found else None

    def create(self, head: Head) -> None:
        with self._append_lock:
            connection = self._writable().connection
            held = self.head()
            if held is not None or head.origin != self.origin:
                raise ConflictError(f"{self.url} already holds the ledger {self.origin!r}")
            with translated(self.url):
                values = (head.origin, *head_values(head))
                found = connection.execute(SQL["begin_ledger"], values).fetchone()
            self._ledger = None if found is None else found[0]

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[PostgresTransaction]:
        foreseen = forecast or Forecast()
        with self._append_lock:
            line = self._writable(follows=foreseen.trusted)
            transaction = PostgresTransaction(line, self._id(), self.url, foreseen, self._numbers)
            try:
                yield transaction
                transaction.commit()
            except BaseException:
                self._end(transaction, line)
                raise

    def _end(self, transaction: PostgresTransaction, line: Line) -> None:
        """Undo. A connection whose state is not known is closed: the server then rolls back."""
        try:
            transaction.abort()
        except StoreError:
            line.connection.close()

    def track(self, tracked: Tracked) -> None:
        with self._append_lock:
            connection = self._writable().connection
            with translated(self.url):
                values = (self._id(), tracked.name, tracked.position)
                grown = connection.execute(SQL["track"], values).fetchone()
        if grown != (True,):
            raise ConflictError(
                f"the follower {tracked.name!r} has come to {self.tracked(tracked.name)}, so "
                f"{tracked.position} was dealt with before: nothing was written"
            )

    def tend(self) -> None:
        """Readers that wait are told that there is more; they look for themselves."""
        self._waker.wake()

    def again(self) -> Callable[[], Store] | None:
        return partial(PostgresStore.open, self._given, self.origin, write=False)

    # ---------------------------------------------------------------- reading

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        piece = self._rows(start, stop)
        while piece:
            yield from piece
            start = piece[-1].index + 1
            piece = self._rows(start, stop)

    def _rows(self, start: int, stop: int) -> list[Row]:
        return self._as_rows(self.raw_rows(max(start, 0), min(stop, INT8), ROWS_A_PIECE))

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        wanted = sorted({index for index in indexes if 0 <= index <= INT8})
        return self._as_rows(self._ask("rows_at", wanted))

    def _as_rows(self, found: list[Any]) -> list[Row]:
        """Raises TamperError for one whose stream has no name; `raw_rows` shows it."""
        for row in found:
            if row[3] is None:
                raise TamperError(f"{self.url}: its stream has no name", index=row[0])
        return list(map(as_row, found))

    def raw_rows(self, start: int, stop: int, most: int | None = None) -> list[StoredRow]:
        """The names of streams are looked up for these rows alone: what was remembered of another
        piece could have been changed since, or be of a server that is no more."""
        found = self._ask("rows", start, stop, stop - start if most is None else most)
        numbers = list({row[3] for row in found})
        name_of: Any = dict(self._ask("names", numbers) if numbers else ()).get
        return [
            (index, at, actor, name_of(number), type_, version, commitment, salt, payload, leaf)
            for index, at, actor, number, type_, version, commitment, salt, payload, leaf in found
        ]

    def stream_rows(
        self, stream: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Row]:
        left = limit
        while left is None or left > 0:
            wanted = ROWS_A_PIECE if left is None else min(left, ROWS_A_PIECE)
            piece = self._stream_rows(stream, after_version, wanted)
            yield from piece
            if len(piece) < wanted:
                return
            after_version = piece[-1].version
            left = None if left is None else left - wanted

    def stream_version(self, stream: str) -> int:
        found = self._ask_named("stream_version", stream=stream)
        return int(found[0][0]) if found else 0

    def _stream_rows(self, stream: str, after: int, most: int) -> list[Row]:
        found = self._ask_named("stream_rows", stream=stream, after=after, most=most)
        return list(map(as_row, found))

    def streams(self, prefix: str = "") -> Iterator[str]:
        piece = self._ask("streams_from", prefix, ROWS_A_PIECE, prefix)
        while piece:
            yield from (name for (name,) in piece)
            if len(piece) < ROWS_A_PIECE:
                return
            piece = self._ask("streams_from", piece[-1][0] + "\x01", ROWS_A_PIECE, prefix)

    def stream_spans(self, size: int) -> Iterator[tuple[str, int, int, int]]:
        ledger = self._id()
        with self._reading() as connection, connection.transaction():
            connection.execute(SQL["patience"])
            with connection.cursor("asof_spans", binary=True) as cursor:
                cursor.itersize = ROWS_A_PIECE
                wanted = {"ledger": ledger, "size": size}
                yield from cursor.execute(SQL["stream_spans"], wanted)

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        found = self._ask("leaf_hashes", start, min(stop, INT8))
        return bytes(found[0][0]) if found else b""

    def tile(self, level: int, number: int) -> bytes | None:
        """Who asks for the tile after the last one is going through all of them: some are read
        ahead, and given out once."""
        with self._ahead_lock:
            following, self._last_tile = self._last_tile == (level, number - 1), (level, number)
            held = self._tiles_ahead.pop((level, number), None)
            if held is None and following:
                found = self._ask("tiles_from", level, number, TILES_AHEAD)
                self._tiles_ahead = {(level, at): bytes(hashes) for at, hashes in found}
                return self._tiles_ahead.pop((level, number), None)
        if held is not None:
            return held
        found = self._ask("tile", level, number)
        return bytes(found[0][0]) if found else None

    def tiles(self) -> Iterator[Tile]:
        position = (-1, 0)
        while piece := self._ask("tiles_after", *position, 100):
            yield from (Tile(*found) for found in piece)
            position = piece[-1][:2]

    def key_use(self, key: str) -> KeyUse | None:
        found = self._ask("key_use", key)
        return KeyUse(*found[0]) if found else None

    def key_uses(self) -> Iterator[KeyUse]:
        position = ""
        while piece := self._ask("key_uses_after", position, ROWS_A_PIECE):
            yield from (KeyUse(*found) for found in piece)
            position = piece[-1][0]

    def tracked(self, follower: str) -> int | None:
        found = self._ask("tracked", follower)
        return int(found[0][0]) if found else None

    def index_at(self, recorded_at: int) -> int:
        found = self._ask("index_at", recorded_at, recorded_at)
        low, high = found[0] if found else (0, 0)
        if low < high:
            raise TamperError(f"{self.url}: it is missing", index=(low + high) // 2)
        return int(low)

    def migrations(self) -> Sequence[Applied]:
        return [Applied(*found) for found in self._fetch(SQL["migrations"], ())]

    def check_integrity(self, *, deep: bool = True) -> list[str]:
        """What the server says of itself and of the schema; `deep`: that the indexes over streams
        hold what the tables hold, each read by itself, and that each name is of a first entry."""
        lines = [str(line) for (line,) in self._fetch(SQL["damage"], ())]
        try:
            with self._reading() as connection:
                check_schema(connection, self.url)
        except TamperError as exc:
            lines.append(str(exc))
        if deep and (ledger := self._id()) is not None:
            with self._reading() as connection, connection.transaction():
                lines += deep_complaints(connection, ledger)
        return lines

    def close(self) -> None:
        self._closed = True
        self._waker.close()
        with self._append_lock:
            if self._writer is not None:
                self._writer.connection.close()
                self._writer = None
        self._pool.close()

    # ---------------------------------------------------------------- connections

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.url} is closed")

    def _id(self) -> int | None:
        """The ledger's number in this database; None until it is begun."""
        if self._ledger is None:
            found = self._fetch(SQL["ledger_id"], (self.origin,))
            self._ledger = found[0][0] if found else None
        return self._ledger

    def _writable(self, *, follows: bool = False) -> Line:
        """The writing connection, opened and checked where there is none or it was lost. Free,
        unless what is to be written `follows` what is under way."""
        self._check_open()
        if not self._write:
            raise StoreError(f"{self.url} was opened for reading only")
        if self._writer is not None and not (follows and self._writer.under_way):
            connection = self._writer.connection
            if not is_alive(connection):
                connection.close()
                self._writer = None
        if self._writer is None:
            self._writer = Line(self._connect_writer())
            self._numbers = StreamNumbers()  # what the server before it had may not be here
        return self._writer

    def _connect_writer(self) -> Connection:
        connection = connect(self._given, "writer")
        try:
            with translated(self.url):
                register(connection)
                connection.prepare_threshold = 0
                check_server(connection, self.url, checksums=self._checksums, notice=self._notice)
                check_migrations(connection, self.url)
                check_role(connection, self.url)
                check_schema(connection, self.url)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._check_open()
        with translated(self.url), self._pool.connection() as connection:
            yield connection

    def _ask(self, name: str, *values: Any) -> list[Any]:
        """The answer about this ledger; nothing where it is not begun."""
        ledger = self._id()
        return [] if ledger is None else self._fetch(SQL[name], (ledger, *values))

    def _ask_named(self, name: str, **values: Any) -> list[Any]:
        ledger = self._id()
        return [] if ledger is None else self._fetch(SQL[name], {"ledger": ledger, **values})

    def _fetch(self, statement: LiteralString, values: Any) -> list[Any]:
        """The whole answer. What was read on a connection that the server has dropped meanwhile is
        read again on another; after a restart of the server all of them are. Who has waited for a
        connection in vain does not wait a second time."""
        try:
            return self._answered(statement, values)
        except UnreachableError as exc:
            if self._closed or isinstance(exc.__cause__, PoolTimeout):
                raise
        self._pool.check()
        return self._answered(statement, values)

    def _answered(self, statement: LiteralString, values: Any) -> list[Any]:
        with self._reading() as connection:
            return self._answer(connection, statement, values)

    def _answer(self, connection: Connection, statement: LiteralString, values: Any) -> list[Any]:
        with connection.cursor(binary=True) as cursor:
            return cursor.execute(statement, values).fetchall()

    def _notify(self) -> None:
        with self._reading() as connection:
            connection.execute(SQL["notify"], (str(self._ledger),))
