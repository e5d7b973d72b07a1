"""The writing connection, and the one call that may be under way on it.

::

    line = Line(connection)
    call = line.send(SQL["append"], values)      # the server begins, this side prepares the next
    …
    value, warnings = call.answer()              # waits, or raises what became of it

Whoever wants the connection waits for what is under way first, so nothing is sent out of turn; the
sender learns the outcome from the call, whoever has waited for it. The driver's cursors wait where
they send; this is what libpq has beneath them (PostgreSQL's documentation, "Asynchronous Command
Processing"), and takes the values as they are, encoded already.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from select import POLLIN, POLLOUT, poll
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn

from ledger.stores.postgres.binary import Encoded

__all__ = ["Call", "Line"]

Connection = psycopg.Connection[Any]


class Line:
    """Owns what is under way on a connection; the store owns the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prepared: dict[str, bytes] = {}
        self._numbers = count()
        self._under_way: Call | None = None

    @property
    def connection(self) -> Connection:
        """The connection, free: what is under way is waited for."""
        if self._under_way is not None:
            self._under_way.finish()
        return self._connection

    @property
    def under_way(self) -> Call | None:
        """The call whose answer nobody has waited for yet."""
        call = self._under_way
        return None if call is None or call.is_finished else call

    def fileno(self) -> int:
        """Where the answer is heard."""
        return self._connection.fileno()

    def send(self, statement: str, values: Sequence[Encoded]) -> Call:
        """Send a statement that gives one value, in a transaction of its own, or that ends one.

        Raises: psycopg.Error: it may have arrived.
        """
        name = self._prepared.get(statement) or self._prepare(statement)
        call = Call(self.connection)
        call.send(name, [value.data for value in values])
        self._under_way = call
        return call

    def rollback(self) -> None:
        """End the transaction that the driver began. With it the driver drops all statements that
        are prepared on the connection, also ours."""
        self.connection.execute("ROLLBACK")
        self._prepared.clear()

    def _prepare(self, statement: str) -> bytes:
        parts = statement.split("%s")
        text = "".join(f"{part}${at}" for at, part in enumerate(parts[:-1], 1)) + parts[-1]
        name = f"asof_{next(self._numbers)}".encode()
        prepared = self.connection.pgconn.prepare(name, text.encode())
        if prepared.status != ExecStatus.COMMAND_OK:
            raise error_from_result(prepared)
        self._prepared[statement] = name
        return name


class Call:
    """A statement under way, and what became of it. One thread sends it, any may wait for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mutex = threading.Lock()
        self._is_finished = False
        self._value: bytes | None = None
        self._error: psycopg.Error | None = None
        self._warnings: list[str] = []

    def send(self, name: bytes, values: Sequence[bytes]) -> None:
        """Hand it to the network as a whole; what comes back is not looked at."""
        self._connection.add_notice_handler(self._note)
        server = self._connection.pgconn
        try:
            server.send_query_prepared(name, values, [Format.BINARY] * len(values), Format.BINARY)
            while server.flush():
                _ready(server, POLLIN | POLLOUT)
                server.consume_input()  # or a server that has much to say would not read on
        except BaseException:
            self._connection.remove_notice_handler(self._note)
            raise

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def finish(self) -> None:
        """Wait until it is known what became of it; `answer` tells."""
        with self._mutex:
            if self._is_finished:
                return
            try:
                self._value = _received(self._connection.pgconn)
            except psycopg.Error as exc:
                self._error = exc
            self._is_finished = True
            self._connection.remove_notice_handler(self._note)

    def answer(self) -> tuple[bytes | None, list[str]]:
        """The value in PostgreSQL's binary format, or what the server says of a statement without
        one ("COMMIT"), and the warnings that came with it. Raises: psycopg.Error.
        """
        self.finish()
        if self._error is not None:
            raise self._error
        return self._value, self._warnings

    def _note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warnings.append(diagnostic.message_primary or "")


def _received(server: PGconn) -> bytes | None:
    """The value of the only row, or the words of the end. An error may follow a row: the commit
    comes last."""
    value, failed = None, None
    while True:
        while server.is_busy():
            _ready(server, POLLIN)
            server.consume_input()
        result = server.get_result()
        if result is None:
            break
        if result.status == ExecStatus.TUPLES_OK:
            value = result.get_value(0, 0)
        elif result.status == ExecStatus.COMMAND_OK:
            value = result.command_status
        else:
            failed = result
    if failed is not None:
        raise error_from_result(failed)
    return value


def _ready(server: PGconn, wanted: int) -> None:
    """Wait, without the interpreter's lock, until the socket can do one of those."""
    waiting = poll()
    waiting.register(server.socket, wanted)
    waiting.poll()
