"""The rollback guard: the largest (size, root) that was signed, kept outside the store.

::

    asof guard v1                                           slot 0, the other slot at byte 4096
    ledger.example.com/acme
    1234
    UuOUBrQqkQop/RG675OlFzWqbhzsnwl6wtX7Y/x6+Zg=
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

A restored backup passes every check that looks at the database alone; signing on top of it would
make a second history of the same size. The guard lies beside the key, so whoever signs sees it.

It is moved after the commit and before the answer, and never waits for the disk: a guard behind the
store says too little, which is harmless, for the store itself is durable. Ahead of the store it
never is, as it moves after the commit only. Two slots with checksums, written in turn: a write that
is torn leaves the other. Several processes take turns by `flock`. docs/spec/guard.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from ledger.canonical import format_base64, parse_base64, parse_decimal
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.hashing import HASH_SIZE
from ledger.store import Head

__all__ = ["Guard", "GuardMark", "MemoryGuard"]

TITLE: Final = "asof guard v1"
SLOT_BYTES: Final = 1024
SLOT_OFFSETS: Final = (0, 4096)


class GuardMark(NamedTuple):
    """The largest tree that was signed, as far as the guard was told."""

    origin: str
    size: int
    root: bytes


class MemoryGuard:
    """A guard that lasts as long as the ledger in memory that it belongs to."""

    def __init__(self) -> None:
        self._mark: GuardMark | None = None

    def read(self) -> GuardMark | None:
        """The mark, or None where nothing was ever signed."""
        return self._mark

    def advance(self, mark: GuardMark) -> None:
        """Remember a larger tree; a smaller one is ignored."""
        if self._mark is None or mark.size > self._mark.size:
            self._mark = mark

    def check(self, head: Callable[[], Head], root_at: Callable[[int], bytes]) -> None:
        """As `Guard.check`."""
        if self._mark is not None:
            check_mark(self._mark, head(), root_at)


class Guard:
    """The guard in a file. Safe to share between threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> GuardMark | None:
        """The mark, or None where there is no file. Raises: TamperError, StoreError."""
        if not self.path.exists():
            return None
        with self._locked(os.O_RDONLY) as file:
            return self._newest(file)[1]

    def create(self, mark: GuardMark) -> None:
        """Make the file with its first mark; an existing one is left as it is."""
        if not self.path.exists():
            self.reset(mark)

    def advance(self, mark: GuardMark) -> None:
        """Remember a larger tree; a smaller one is ignored, as another process was faster."""
        with self._locked() as file:
            slot, newest = self._newest(file)
            if mark.size > newest.size:
                os.pwrite(file, _format_slot(mark), SLOT_OFFSETS[1 - slot])

    def reset(self, mark: GuardMark) -> None:
        """Forget what was there, for `recover` and `create`; durable when it returns."""
        with self._locked(os.O_RDWR | os.O_CREAT) as file:
            for offset in SLOT_OFFSETS:
                os.pwrite(file, _format_slot(mark), offset)
            os.fsync(file)

    def check(self, head: Callable[[], Head], root_at: Callable[[int], bytes]) -> None:
        """Raises unless the store continues what the guard saw. The guard is read before the head,
        so that an append of another process in between does no harm.

        1. There is a guard (StoreError).
        2. It is this ledger's (TamperError, as below).
        3. The store is not behind it: entries would be missing.
        4. The tree of the guard's size has the guard's root: nothing was rewritten.
        """
        mark = self.read()
        if mark is None:
            raise StoreError(
                f"the rollback guard {self.path} is missing, so it cannot be told whether entries "
                "were lost; if you know why, run `asof ledger recover`"
            )
        check_mark(mark, head(), root_at)

    @contextmanager
    def _locked(self, flags: int = os.O_RDWR) -> Iterator[int]:
        """The open file, to be read or written by nobody else meanwhile."""
        try:
            file = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)
        except OSError as exc:
            raise StoreError(f"the guard {self.path} cannot be used: {exc.strerror}") from exc

    def _newest(self, file: int) -> tuple[int, GuardMark]:
        """The slot that holds the larger tree, and its mark."""
        found = [
            (mark.size, slot, mark)
            for slot, offset in enumerate(SLOT_OFFSETS)
            if (mark := _parse_slot(os.pread(file, SLOT_BYTES, offset))) is not None
        ]
        if not found:
            raise TamperError(
                f"the rollback guard {self.path} is damaged: neither of its records can be read; "
                "if you know why, run `asof ledger recover`"
            )
        _, slot, mark = max(found)
        return slot, mark


def check_mark(mark: GuardMark, head: Head, root_at: Callable[[int], bytes]) -> None:
    """Rules 2 to 4 of `Guard.check`."""
    if mark.origin != head.origin:
        raise TamperError(
            "the store holds another ledger than its key and guard belong to",
            expected=mark.origin,
            found=head.origin,
            checkpoints=(head.checkpoint,),
        )
    if mark.size > head.size:
        raise TamperError(
            f"{_missing(head.size, mark.size)}: {mark.size} entries were signed and the store "
            f"holds {head.size}. If an older copy was restored on purpose: `asof ledger recover`",
            expected=f"{mark.size} entries",
            found=f"{head.size} entries",
            checkpoints=(head.checkpoint,),
        )
    found = root_at(mark.size)
    if found != mark.root:
        raise TamperError(
            f"the first {mark.size} entries are not those that were signed",
            expected=mark.root.hex(),
            found=found.hex(),
            checkpoints=(head.checkpoint,),
        )


def _missing(start: int, stop: int) -> str:
    return (
        f"entry {start} is missing"
        if stop == start + 1
        else (f"entries {start} to {stop - 1} are missing")
    )


def _format_slot(mark: GuardMark) -> bytes:
    text = f"{TITLE}\n{mark.origin}\n{mark.size}\n{format_base64(mark.root)}\n".encode()
    record = text + f"{sha256(text).hexdigest()}\n".encode()
    return record.ljust(SLOT_BYTES, b"\x00")


@lru_cache(maxsize=8)  # what was written last is read again before each advance
def _parse_slot(data: bytes) -> GuardMark | None:
    """The mark of exactly what `_format_slot` writes; None for anything else."""
    try:
        title, origin, size, root, _checksum, _ = data.rstrip(b"\x00").decode().split("\n")
        mark = GuardMark(origin, parse_decimal(size), parse_base64(root, size=HASH_SIZE))
    except (ValueError, MalformedError):
        return None
    return mark if title == TITLE and _format_slot(mark) == data else None
