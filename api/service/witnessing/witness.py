"""The witness (C2SP tlog-witness): for each log that it knows, the largest tree it has seen.

::

    witness.add_checkpoint(body)        # cosignature lines, or the refusal that the protocol names

A tree is cosigned only when it is shown to continue the one before. Compare and keep are one
transaction of a file with synchronous=FULL, and come before the answer: what happens if we die
between them and the answer is that the log asks again, and gets its cosignature for the same tree.

The time of a cosignature belongs to the same transaction: as of then no larger tree was known, and
it is not before that of any cosignature given earlier, whatever the clock does.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from api.service.own_files import own_file
from ledger.canonical import parse_base64, parse_decimal
from ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.cosignature import Cosigner
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.hashing import HASH_SIZE
from ledger.merkle import check_consistency
from ledger.note import MAX_NOTE_BYTES, VerifierKey, note_text

__all__ = [
    "MOST_BODY_BYTES",
    "Fork",
    "RefusalError",
    "Witness",
    "parse_request_body",
    "request_body",
]

MOST_HASHES: Final = 63
MOST_BODY_BYTES: Final = MAX_NOTE_BYTES + 64 * (MOST_HASHES + 1)
CLOCK_SECONDS: Final = 60
"""A clock that went back by so much is waited for by signing with the time before; one that went
back further is wrong now, or was wrong then, and nothing is signed with either."""
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS log (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS fork (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, seen BLOB NOT NULL, shown BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS cosigned (
    only INTEGER PRIMARY KEY CHECK (only = 1), time INTEGER NOT NULL
);
"""


class RefusalError(Exception):
    """What the protocol answers instead of a cosignature; `size` with 409."""

    def __init__(self, status: int, detail: str, size: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.size = size


class Fork(NamedTuple):
    """Two checkpoints of a log that cannot both be true, as it signed them: whoever has both can
    convict it. The first pair of each log is kept.
    """

    origin: str
    size: int
    seen: bytes
    shown: bytes


class Witness:
    """Thread-safe, and so is the file between processes. `alarm` is told of each fork once, and of
    those that are kept again with each start: it is called within the transaction, and is quick.

    Raises StoreError where the file cannot be opened, TamperError where it says another thing than
    the checkpoints in it.
    """

    def __init__(
        self,
        path: Path,
        cosigner: Cosigner,
        logs: Mapping[str, VerifierKey],
        *,
        alarm: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cosigner = cosigner
        self._logs = logs
        self._alarm = alarm
        self._clock = clock
        self._mutex = threading.Lock()
        try:
            own_file(path)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._connection.executescript(_SCHEMA)
            kept = self._connection.execute("SELECT size, root, note FROM log").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: the witness's file cannot be opened: {error}") from None
        try:
            for row in kept:
                _check_kept(path, *row)
        except TamperError:
            self._connection.close()
            raise
        for fork in self.forks():
            alarm(fork.origin, _said(fork.size))

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature line; what it says is durable. Raises RefusalError; StoreError where it
        cannot be kept, or the clock is wrong.
        """
        old, proof, note = parse_request_body(body)
        checkpoint = self._signed(note)
        if old > checkpoint.size:
            raise RefusalError(400, f"the old size {old} is beyond the new {checkpoint.size}")
        with self._mutex:
            with self._transaction():
                size, root, kept = self._kept(checkpoint.origin)
                fork = size == checkpoint.size and root not in (b"", checkpoint.root)
                if fork:
                    self._keep_fork(Fork(checkpoint.origin, size, kept, note))
                else:
                    at = self._advanced(checkpoint, note, old, size, root, proof)
        if fork:
            raise _of_fork(old, size)
        return self.cosigner.line(note_text(note), at)

    def seen(self) -> dict[str, int]:
        """The size of each log as it was seen last."""
        with self._mutex:
            return dict(self._connection.execute("SELECT origin, size FROM log").fetchall())

    def forks(self) -> list[Fork]:
        """The forks that were seen, one of a log."""
        with self._mutex:
            found = self._connection.execute("SELECT origin, size, seen, shown FROM fork")
            return [Fork(*row) for row in found.fetchall()]

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _signed(self, note: bytes) -> Checkpoint:
        try:
            origin = parse_checkpoint(note_text(note)).origin
        except MalformedError as error:
            raise RefusalError(400, str(error)) from None
        vkey = self._logs.get(origin)
        if vkey is None:
            raise RefusalError(404, f"{origin[:100]} is no log that is witnessed here")
        try:
            return open_checkpoint(note, vkey)
        except (MalformedError, TamperError) as error:
            raise RefusalError(403, str(error)) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Committed at the end, or nothing. SQLite may have rolled back by itself."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the witness cannot keep what it saw: {error}") from None
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()

    def _kept(self, origin: str) -> tuple[int, bytes, bytes]:
        """The largest tree and its checkpoint; of a log that was never seen, nothing."""
        statement = "SELECT size, root, note FROM log WHERE origin = ?"
        row: tuple[int, bytes, bytes] | None = self._connection.execute(
            statement, (origin,)
        ).fetchone()
        return row or (0, b"", b"")

    def _keep_fork(self, fork: Fork) -> None:
        """Said before it is kept: a disk that is full does not hide it."""
        known = "SELECT 1 FROM fork WHERE origin = ?"
        if self._connection.execute(known, (fork.origin,)).fetchone() is None:
            self._alarm(fork.origin, _said(fork.size))
            self._connection.execute("INSERT INTO fork VALUES (?, ?, ?, ?)", fork)

    def _advanced(
        self,
        checkpoint: Checkpoint,
        note: bytes,
        old: int,
        size: int,
        root: bytes,
        proof: list[bytes],
    ) -> int:
        """Keep the new tree, which continues the one that `old` names; the time to sign it with."""
        if old != size:
            raise RefusalError(409, "the old size is not the one that was seen last", size=size)
        _check_continues(size, root, checkpoint, proof)
        at = self._time()
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE"
            " SET size = excluded.size, root = excluded.root, note = excluded.note",
            (checkpoint.origin, checkpoint.size, checkpoint.root, note),
        )
        self._connection.execute(
            "INSERT INTO cosigned VALUES (1, ?) ON CONFLICT DO UPDATE SET time = excluded.time",
            (at,),
        )
        return at

    def _time(self) -> int:
        """Now, or the time of the last cosignature where the clock is a little behind it."""
        now = int(self._clock())
        row = self._connection.execute("SELECT time FROM cosigned").fetchone()
        last = 0 if row is None else row[0]
        if now < last - CLOCK_SECONDS or now < 0:
            raise StoreError(
                f"the clock of the witness is {last - now} s behind its last cosignature: set it, "
                "or wait until then"
            )
        return max(now, last)


def _said(size: int) -> str:
    return f"two trees of {size} entries, both signed"


def _of_fork(old: int, size: int) -> RefusalError:
    """The old size is compared first, as the protocol has it; who asks again with it is told."""
    if old != size:
        return RefusalError(409, "the old size is not the one that was seen last", size=size)
    return RefusalError(422, f"another tree of {size} entries was seen before: this is a fork")


def _check_kept(path: Path, size: int, root: bytes, note: bytes) -> None:
    try:
        signed = parse_checkpoint(note_text(note))
    except MalformedError as error:
        raise TamperError(f"{path} holds what is no checkpoint: {error}") from None
    if (signed.size, signed.root) != (size, root):
        raise TamperError(
            f"{path} says another tree than the checkpoint beside it",
            expected=f"{signed.size} entries of {signed.origin}",
            found=f"{size} entries",
            checkpoints=(note,),
        )


def _check_continues(size: int, root: bytes, new: Checkpoint, proof: list[bytes]) -> None:
    if size in (0, new.size):
        if proof:
            raise RefusalError(422, "here the proof must be empty")
        return
    try:
        check_consistency(size, new.size, proof, root, new.root)
    except (MalformedError, TamperError) as error:
        raise RefusalError(422, str(error)) from None


def parse_request_body(body: bytes) -> tuple[int, list[bytes], bytes]:
    """`old <size>`, at most 63 hashes, a blank line, the checkpoint. Raises RefusalError 400."""
    head, blank, note = body.partition(b"\n\n")
    lines = head.split(b"\n", 1 + MOST_HASHES)
    try:
        word, _, size = lines[0].decode("ascii").partition(" ")
        if word != "old" or not blank or len(lines) > 1 + MOST_HASHES:
            raise MalformedError("expected: old <size>, hashes, a blank line, a checkpoint")
        proof = [parse_base64(line.decode("ascii"), size=HASH_SIZE) for line in lines[1:]]
        return parse_decimal(size), proof, note
    except (MalformedError, UnicodeDecodeError, binascii.Error) as error:
        raise RefusalError(400, str(error)) from None


def request_body(old: int, proof: list[bytes], note: bytes) -> bytes:
    """What a log sends: the other side of `add_checkpoint`."""
    lines = [b"old %d" % old, *(base64.b64encode(node) for node in proof)]
    return b"\n".join(lines) + b"\n\n" + note
