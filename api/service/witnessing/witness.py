"""The witness (C2SP tlog-witness): for each log that it knows, the largest tree it has seen.

::

    witness.add_checkpoint(body)        # cosignature lines, or the refusal that the protocol names

A tree is cosigned only when it is shown to continue the one before. Compare and keep are one
transaction of a file with synchronous=FULL, and come before the answer: what happens if we die
between them and the answer is that the log asks again, and gets its cosignature for the same tree.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical import parse_base64, parse_decimal
from ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.cosignature import Cosigner
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.hashing import HASH_SIZE
from ledger.merkle import check_consistency
from ledger.note import VerifierKey, note_text

__all__ = ["RefusalError", "Witness"]

MOST_HASHES: Final = 63
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS log (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class RefusalError(Exception):
    """What the protocol answers instead of a cosignature; `size` with 409."""

    status: int
    detail: str
    size: int | None = None


class Witness:
    """Thread-safe; one process owns the file. `alarm` is told of what only a fork explains."""

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
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(_SCHEMA)

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature line. Raises RefusalError; StoreError where it cannot be kept."""
        old, proof, note = _parsed(body)
        checkpoint = self._signed(note)
        if old > checkpoint.size:
            raise RefusalError(400, f"the old size {old} is beyond the new {checkpoint.size}")
        with self._mutex:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._advance(checkpoint, old, proof, note)
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(f"the witness cannot keep what it saw: {error}") from None
        return self.cosigner.line(note_text(note), int(self._clock()))

    def seen(self) -> dict[str, int]:
        """The size of each log as it was seen last."""
        with self._mutex:
            return dict(self._connection.execute("SELECT origin, size FROM log").fetchall())

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

    def _advance(self, checkpoint: Checkpoint, old: int, proof: list[bytes], note: bytes) -> None:
        """Inside the transaction: what is kept is what `old` names, and the new tree continues
        it.
        """
        row = self._connection.execute(
            "SELECT size, root FROM log WHERE origin = ?", (checkpoint.origin,)
        ).fetchone()
        size, root = row if row is not None else (0, b"")
        if old != size:
            raise RefusalError(409, "the old size is not the one that was seen last", size=size)
        if size == checkpoint.size and size and root != checkpoint.root:
            self._alarm(checkpoint.origin, f"two trees of {size} entries, both signed")
            raise RefusalError(
                422, f"another tree of {size} entries was seen before: this is a fork"
            )
        _check_continues(size, root, checkpoint, proof)
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE"
            " SET size = excluded.size, root = excluded.root, note = excluded.note",
            (checkpoint.origin, checkpoint.size, checkpoint.root, note),
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


def _parsed(body: bytes) -> tuple[int, list[bytes], bytes]:
    """`old <size>`, at most 63 hashes, a blank line, the checkpoint. Raises RefusalError 400."""
    head, blank, note = body.partition(b"\n\n")
    lines = head.split(b"\n")
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
