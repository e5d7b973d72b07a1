"""One append to PostgreSQL: what is asked before, and what is sent in as few round trips as can be.

Two ways, and a third for many rows:

* **trusted**: the caller's head is believed. Nothing is locked while the entries are linked and
  signed; one statement then locks the head, compares it, writes and commits. Where the head has
  moved it writes nothing (HeadMovedError), and the caller comes again, not trusted. It may be sent
  `ahead` and waited for later, while the caller links what follows; what follows is sent when what
  it builds on is known to be written.
* **locked**: the head is locked first, in the same round trip as the questions; a second one writes
  and commits.
* Beyond `COPY_FROM` rows, COPY: more round trips, less work for the server.

What happens if we die: before the commit is sent, the server rolls back when it notices; after
that, the batch is written as a whole or not at all, and its key tells (docs/spec/append.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psycopg

from ledger.errors import (
    AsofError,
    ConflictError,
    HeadMovedError,
    NotFoundError,
    UnknownOutcomeError,
)
from ledger.hashing import HASH_SIZE
from ledger.store import Forecast, Head, KeyUse, Row, Tracked, check_grows
from ledger.stores.postgres.binary import (
    COPY_END,
    COPY_START,
    TRUE,
    Encoded,
    blob,
    blob_array,
    copied_rows,
    hash_array,
    int4,
    int4_array,
    int8,
    int8_array,
    text_array,
)
from ledger.stores.postgres.errors import explained, is_lost, translated, unknown
from ledger.stores.postgres.line import Call, Line
from ledger.stores.postgres.stream_numbers import Numbering, StreamNumbers
from ledger.stores.statements import load_statements
from ledger.tiles import Tile

__all__ = ["PostgresTransaction", "as_head", "head_values"]

SQL = load_statements("postgres")
COPY_FROM: Final = 192
MAX_MISSING: Final = 20_000
WRITTEN: Final = (TRUE, b"COMMIT")
Connection = psycopg.Connection[Any]


class PostgresTransaction:
    """What `PostgresStore.transaction` gives. Used by one thread; ended by `commit` or `abort`."""

    def __init__(
        self,
        line: Line,
        ledger: int | None,
        place: str,
        forecast: Forecast,
        numbers: StreamNumbers,
    ) -> None:
        self._line = line
        self._after = line.under_way
        self._call: Call | None = None
        self._ledger = ledger
        self._place = place
        self._forecast = forecast
        self._remembered = numbers
        self._numbering = Numbering(numbers)
        self._trusted = forecast.trusted and forecast.head is not None
        self._locked = False
        self._head: Head | None = forecast.head if self._trusted else None
        self._missing = b""
        self._versions: dict[str, int] = {}
        self._uses: dict[str, KeyUse] = {}
        self._followers: dict[str, int] = {}
        self._asked = False
        self._written: tuple[list[Encoded], Sequence[Row]] | None = None
        self._copying = ExitStack()
        self._copy: psycopg.Copy | None = None
        self._copied = 0

    @property
    def _connection(self) -> Connection:
        return self._line.connection

    # ---------------------------------------------------------------- what the sequencer asks

    def head(self) -> Head:
        if self._head is None:
            self._ask()
        if self._head is None:
            raise NotFoundError(f"{self._place} holds no ledger yet: `asof init` begins one")
        return self._head

    def stream_versions(self, streams: Collection[str]) -> dict[str, int]:
        self._ask()
        found = {name: self._versions[name] for name in streams if name in self._versions}
        if len(found) < len(streams):
            found |= self._ask_streams([name for name in streams if name not in found])
        return found

    def key_uses(self, keys: Collection[str]) -> dict[str, KeyUse]:
        self._ask()
        if not set(keys) <= set(self._forecast.keys):
            with translated(self._place):
                return _uses(self._connection.execute(*self._question("key_uses", list(keys))))
        return {key: self._uses[key] for key in keys if key in self._uses}

    def tracked(self, followers: Collection[str]) -> dict[str, int]:
        self._ask()
        if not set(followers) <= set(self._forecast.followers):
            with translated(self._place):
                asked = self._connection.execute(*self._question("tracked_among", list(followers)))
                return dict(asked.fetchall())
        return {name: self._followers[name] for name in followers if name in self._followers}

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        head, known = self.head(), self._known()
        if known <= start <= stop <= head.size and self._missing:
            return self._missing[(start - known) * HASH_SIZE : (stop - known) * HASH_SIZE]
        with translated(self._place):
            asked = self._connection.execute(SQL["leaf_hashes"], (self._ledger, start, stop))
            return bytes((asked.fetchone() or (b"",))[0])

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """Many rows go to the server while the caller links the next."""
        if of > COPY_FROM:
            self._number(rows)
            with translated(self._place):
                self._send(rows)

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        """Checks that the rows follow, and encodes them; they are sent by `commit`."""
        before = self.head()
        if self._written is not None:
            raise ConflictError("a transaction is written once")
        if head.origin != before.origin or head.recorded_at < before.recorded_at:
            raise ConflictError("the new head does not follow the old one")
        if not rows or [row[0] for row in rows] != list(range(before.size, head.size)):
            raise ConflictError(f"{len(rows)} rows do not lead from {before.size} to {head.size}")
        for one in tracked:  # those that were not foreseen are for the database to refuse
            check_grows(one, self._followers.get(one.name))
        left = rows[self._copied :]
        self._number(left)
        step = _step_values(self._ledger, before, head, tiles, keys, tracked, self._numbering.given)
        self._written = (step, left)

    # ---------------------------------------------------------------- asking

    def _ask(self) -> None:
        """Everything that was foreseen, and the lock unless the head is trusted, in one trip."""
        if self._asked:
            return
        self._asked = True
        self._check_follows()
        with translated(self._place), self._connection.pipeline():
            locked = None if self._trusted else self._lock()
            asked = {name: self._connection.execute(*what) for name, what in self._foreseen()}
            if locked is not None:
                self._take_head(locked.fetchone())
            if "stream_versions" in asked:
                self._versions = self._take_streams(
                    self._forecast.streams, asked["stream_versions"]
                )
            if "key_uses" in asked:
                self._uses = _uses(asked["key_uses"])
            if "tracked_among" in asked:
                self._followers = dict(asked["tracked_among"].fetchall())

    def _lock(self) -> psycopg.Cursor[Any]:
        self._locked = True
        self._connection.execute("BEGIN")
        values = (int4(self._ledger or 0), int8(self._known()), int8(MAX_MISSING))
        return self._connection.execute(SQL["lock_head"], values, binary=True)

    def _known(self) -> int:
        """How many entries the caller knows: what lies behind them comes with the lock."""
        head = self._forecast.head
        return 1 << 62 if head is None else head.size

    def _take_head(self, found: Any) -> None:
        if found is not None and found[0] is not None:
            self._head = as_head(found[:7])
            self._missing = found[7] or b""

    def _foreseen(self) -> Iterator[tuple[str, tuple[str, tuple[Any, ...]]]]:
        for name, wanted in (
            ("stream_versions", self._forecast.streams),
            ("key_uses", self._forecast.keys),
            ("tracked_among", self._forecast.followers),
        ):
            if wanted:
                yield name, self._question(name, list(wanted))

    def _question(self, name: str, wanted: list[str]) -> tuple[str, tuple[Any, ...]]:
        return SQL[name], (self._ledger, text_array(wanted))

    # ---------------------------------------------------------------- streams as numbers

    def _ask_streams(self, streams: list[str]) -> dict[str, int]:
        """The versions; the numbers that come with them are remembered."""
        self._check_follows()
        with translated(self._place):
            asked = self._connection.execute(*self._question("stream_versions", streams))
            return self._take_streams(streams, asked)

    def _take_streams(self, streams: Collection[str], asked: psycopg.Cursor[Any]) -> dict[str, int]:
        found = asked.fetchall()
        self._remembered.learn({name: number for name, number, _ in found})
        return dict.fromkeys(streams, 0) | {name: version for name, _, version in found}

    def _number(self, rows: Sequence[Row]) -> None:
        """Each row's stream has a number then. What is not remembered is asked for, which cannot be
        done within a COPY."""
        lacking = self._numbering.lacking(rows)
        if lacking:
            if self._copy is not None:
                with translated(self._place):
                    self._end_copy(self._copy)
            self._ask_streams(list(lacking))
            lacking = self._numbering.lacking(rows)
        if lacking:
            raise ConflictError(f"the stream {min(lacking)!r} has no entry that could be followed")

    # ---------------------------------------------------------------- ending

    def abort(self) -> None:
        """Give the lock back. A connection that is lost, or closed in the middle of a COPY, makes
        the server roll back by itself."""
        if self._copy is not None:
            self._connection.close()
        elif self._locked and not self._connection.closed:
            with translated(self._place):
                self._line.rollback()

    def commit(self) -> None:
        """Send what was written and return when it is durable, as is what a used key stands for;
        what goes ahead is only sent, and `wait` returns when it is durable.

        Raises: HeadMovedError, ConflictError, StoreError: nothing was written.
        UnknownOutcomeError: the connection was lost under way.
        """
        if self._written is None:
            self.abort()
            if self._uses:
                self._wait_for_standby()
            return
        step, rows = self._written
        whole = self._copied == 0 and len(rows) <= COPY_FROM
        if whole and not self._locked:
            self._send_whole(step, rows)
        elif whole:
            self._commit_whole(step, rows)
        else:
            self._commit_copied(step, rows)

    def _wait_for_standby(self) -> None:
        """Before a used key answers. A server that died while its commit waited for the standby has
        the batch when it is back, and the standby may not: an empty commit waits for it as well."""
        with self._watched():
            self._connection.execute(SQL["wait_for_standby"])

    def _send_whole(self, step: list[Encoded], rows: Sequence[Row]) -> None:
        """One statement, its own transaction, for a head that is trusted."""
        self._check_follows()
        self._send_last(SQL["append"], [*step, *_row_values(rows, self._numbering.of)])

    def _send_last(self, statement: str, values: Sequence[Encoded]) -> None:
        """What makes the append durable. Waited for here, unless it goes ahead."""
        try:
            self._call = self._line.send(statement, values)
        except psycopg.Error as exc:
            raise self._failed(exc) from exc
        self._remembered.give(self._numbering.given)
        if not self._forecast.ahead:
            self.wait()

    def _commit_whole(self, step: list[Encoded], rows: Sequence[Row]) -> None:
        """The same statement, and the end of the transaction that holds the lock."""
        values = [*step, *_row_values(rows, self._numbering.of)]
        with self._watched(), self._connection.pipeline():
            appended = self._connection.execute(SQL["append"], values)
            self._connection.execute("COMMIT")
            self._check_moved(appended.fetchone())
        self._remembered.learn(self._numbering.given)

    def _check_follows(self) -> None:
        """Nothing is sent that builds on what was not written."""
        if self._after is not None and not _is_written(self._after):
            raise _moved(self._place)

    @property
    def answer_at(self) -> int | None:
        waits = self._call is not None and not self._call.is_finished
        return self._line.fileno() if waits else None

    def wait(self) -> None:
        """Return when what went ahead is durable. Raises as `commit`."""
        if self._call is None:
            return
        try:
            self._check_written(self._call)
        except AsofError:
            self._remembered.take_back(self._numbering.given)
            raise
        self._remembered.keep(self._numbering.given)

    def _check_written(self, call: Call) -> None:
        try:
            value, warnings = call.answer()
        except psycopg.errors.UniqueViolation as exc:  # whatever it is, the lock will show it
            raise _moved(self._place) from exc
        except psycopg.Error as exc:
            raise self._failed(exc) from exc
        self._check_warnings(warnings)
        self._check_moved((value in WRITTEN,))

    def _commit_copied(self, step: list[Encoded], rows: Sequence[Row]) -> None:
        """The rows that are left, the new head, and the end of the transaction."""
        with translated(self._place):
            self._end_copy(self._send(rows))
            self._check_moved(self._connection.execute(SQL["advance"], step).fetchone())
        self._send_last("COMMIT", [])

    def _send(self, rows: Sequence[Row]) -> psycopg.Copy:
        """Rows by COPY, which is begun with the first. Their streams have numbers."""
        if self._copy is None:
            self._ask()
            if not self._locked:
                self._lock_as_trusted()
            cursor = self._copying.enter_context(self._connection.cursor())
            self._copy = self._copying.enter_context(cursor.copy(SQL["copy_entries"]))
            self._copy.write(COPY_START)
        for piece in copied_rows(self._ledger or 0, rows, self._numbering.of):
            self._copy.write(piece)
        self._copied += len(rows)
        return self._copy

    def _end_copy(self, copy: psycopg.Copy) -> None:
        """The server has read everything, or says what it objects to."""
        copy.write(COPY_END)
        self._copy = None
        self._copying.close()

    def _lock_as_trusted(self) -> None:
        """The lock, and the head as it was believed to be, or HeadMovedError."""
        with self._connection.pipeline():
            found = self._lock().fetchone()
        believed = self._head
        self._take_head(found)
        if self._head != believed:
            raise _moved(self._place)

    def _check_moved(self, answer: Any) -> None:
        if answer != (True,):
            raise _moved(self._place)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """From here on a lost answer is an unknown outcome, and so is a commit with a warning."""
        warnings: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                warnings.append(diagnostic.message_primary or "")

        self._connection.add_notice_handler(note)
        try:
            yield
        except psycopg.Error as exc:
            raise self._failed(exc) from exc
        finally:
            self._connection.remove_notice_handler(note)
        self._check_warnings(warnings)

    def _failed(self, exc: psycopg.Error) -> AsofError:
        if is_lost(exc) or self._connection.closed:
            return unknown(exc, self._place)
        self.abort()
        return explained(exc, self._place)

    def _check_warnings(self, warnings: list[str]) -> None:
        """A synchronous standby that was not waited for is told by a warning."""
        if warnings:
            raise UnknownOutcomeError(
                f"{self._place}: the commit came with a warning ({warnings[0]}); the batch was "
                "written here and may be missing on the standby"
            )


def _is_written(call: Call) -> bool:
    """Waits for an append that went ahead: whether another may build on it."""
    try:
        value, warnings = call.answer()
        return value in WRITTEN and not warnings
    except psycopg.Error:
        return False


def _moved(place: str) -> HeadMovedError:
    return HeadMovedError(f"{place}: another process has appended; nothing was written")


def as_head(found: Sequence[Any]) -> Head:
    """The head of a row of `asof.ledger`."""
    origin, size, root, last_leaf, recorded_at, edge, checkpoint = found
    return Head(
        origin=origin,
        size=size,
        root=root,
        last_leaf=last_leaf,
        recorded_at=recorded_at,
        edge=tuple(edge[at : at + HASH_SIZE] for at in range(0, len(edge), HASH_SIZE)),
        checkpoint=checkpoint,
    )


def head_values(head: Head) -> tuple[Encoded, ...]:
    """What an append changes of it, in the order of the functions."""
    return (
        int8(head.size),
        blob(head.root),
        blob(head.last_leaf),
        int8(head.recorded_at),
        blob(b"".join(head.edge)),
        blob(head.checkpoint),
    )


def _uses(asked: psycopg.Cursor[Any]) -> dict[str, KeyUse]:
    return {found[0]: KeyUse(*found) for found in asked.fetchall()}


def _step_values(
    ledger: int | None,
    before: Head,
    head: Head,
    tiles: Sequence[Tile],
    keys: Sequence[KeyUse],
    tracked: Sequence[Tracked],
    named: Mapping[str, int],
) -> list[Encoded]:
    """The values of `asof.advance`: from which head to which, and what comes with it."""
    return [
        int4(ledger or 0),
        int8(before.size),
        blob(before.root),
        *head_values(head),
        int4_array([tile.level for tile in tiles]),
        int8_array([tile.n for tile in tiles]),
        blob_array([tile.data for tile in tiles]),
        text_array([use.key for use in keys]),
        hash_array([use.body_digest for use in keys]),
        int8_array([use.first_index for use in keys]),
        int8_array([use.count for use in keys]),
        int8_array([use.tree_size for use in keys]),
        text_array([one.name for one in tracked]),
        int8_array([one.position for one in tracked]),
        text_array(list(named)),
        int8_array(list(named.values())),
    ]


def _row_values(rows: Sequence[Row], numbers: Mapping[str, int]) -> list[Encoded]:
    """The rows as columns, in the order of `asof.append`; `numbers` has that of each stream."""
    _, times, actors, streams, types, versions, commitments, salts, payloads, leaves = zip(
        *rows, strict=True
    )
    return [
        int8_array(times),
        int4_array(versions),
        text_array(actors),
        int8_array([numbers[stream] for stream in streams]),
        text_array(types),
        hash_array(commitments),
        hash_array(leaves),
        blob_array(salts),
        blob_array(payloads),
    ]
