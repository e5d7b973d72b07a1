"""The durable spool: what was recorded and not yet acknowledged, in files that survive the process.

::

    spool = Spool(folder, limit=1 << 30)
    place = spool.write(record)               # in the calling thread: one write, no waiting
    for segment in spool.segments(): …        # for the sender: segment.next_group()

Each process writes a segment of its own (asof.segments) and holds a lock on it while it lives; so
ranks and forks never tread on each other, and a segment whose lock is free belongs to nobody any
more: any process adopts it and sends what is left.

What is promised when the process dies right after `write`: nothing is lost, the operating system
has it. When the machine loses power: what was written in the last seconds and not sent may be lost,
unless `durable`. What cannot be read afterwards is kept as `<id>.damaged`, and said.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Optional

from asof.errors import NotSentError
from asof.segments import Segment, framed

__all__ = ["Spool", "SpoolFullError"]

log = logging.getLogger("asof")

MOST_SEGMENT = 16 << 20
KEEP_SEGMENT = 1 << 20
"""A segment that was sent is written on up to here: a new file costs the caller more than a
write.
"""
RECOUNT_SECONDS = 1.0


class SpoolFullError(NotSentError):
    """The spool has reached its limit: the record was not kept."""


class Spool:
    """The spool of one process. `write` from any thread; the rest by the sender's thread."""

    def __init__(self, folder: Path, *, limit: int, durable: bool = False) -> None:
        self.folder = folder
        self._limit = limit
        self._keep = min(KEEP_SEGMENT, limit // 4)
        self._durable = durable
        self._mutex = threading.Lock()
        self._own: Optional[Segment] = None
        self._adopted: dict[Path, Segment] = {}
        self._begun: list[Path] = []
        self._handle = -1
        self._length = 0
        self._total = 0
        self._counted = 0.0

    def write(self, record: bytes) -> tuple[str, int]:
        """Keep a record; where it stands (segment, end). Raises SpoolFullError; OSError where the
        disk does not take it.
        """
        data = framed(record)
        with self._mutex:
            if self._own is None or self._length > MOST_SEGMENT:
                self._open_segment()
            own = self._own
            assert own is not None  # noqa: S101 - opened above
            if self._total + len(data) > self._limit:
                self._refuse_what_does_not_fit(len(data))
            written = os.write(self._handle, data)
            if written != len(data):  # the disk is full: leave no half record before the next one
                os.ftruncate(self._handle, self._length)
                raise OSError(28, "no space left for the spool", str(self.folder))
            if self._durable:
                os.fsync(self._handle)
            self._length += len(data)
            self._total += len(data)
            return own.name, self._length

    def segments(self) -> list[Segment]:
        """Those that this process sends: its own, its earlier ones, and those that nobody holds any
        more. Oldest first."""
        there = list(self.folder.glob("*.spool"))  # without the mutex: a call must not wait for it
        with self._mutex:
            held = {*self._adopted, *([] if self._own is None else [self._own.path])}
        for path in there:
            lock = None if path in held else _locked(path)
            if lock is not None:
                found = Segment(path, lock)
                with self._mutex:
                    self._adopted[path] = found
        with self._mutex:
            own = [] if self._own is None else [self._own]
            return sorted([*self._adopted.values(), *own], key=lambda segment: segment.name)

    def end(self, segment: Segment, *, closing: bool = False) -> None:
        """All that can be read of it was sent: remove it. Its own only where it has grown, or at
        the end, and nothing was added meanwhile; the next record begins another.
        """
        with self._mutex:
            own = segment is self._own
            if own and (segment.done < self._length or (self._length < self._keep and not closing)):
                return
            size = segment.size()
            if segment.done < size:
                kept = segment.set_aside()
                log.error(
                    "asof: the last %d bytes of a spool file cannot be read (power loss, or a "
                    "damaged disk); they are kept in %s",
                    size - segment.done,
                    kept,
                )
            else:
                segment.remove()
            segment.release()
            self._adopted.pop(segment.path, None)
            self._total = max(0, self._total - size)
            if own:
                os.close(self._handle)
                self._own = None

    def close(self) -> None:
        """Give up all locks, so that another may send what is left. A later `write` begins a new
        segment."""
        with self._mutex:
            held = [*self._adopted.values(), *([] if self._own is None else [self._own])]
        for segment in held:
            if segment.done == segment.size():
                self.end(segment, closing=True)
        with self._mutex:
            if self._own is not None:
                os.close(self._handle)
                self._adopted[self._own.path] = self._own
                self._own = None
            for segment in self._adopted.values():
                segment.release()
            self._adopted = {}

    def left(self) -> list[Path]:
        """The files that this process began and that were not sent whole."""
        return [path for path in self._begun if path.exists()]

    def forget(self) -> None:
        """In a forked child: the parent's segments are the parent's."""
        self._mutex = threading.Lock()
        if self._own is not None:
            os.close(self._handle)
            self._own.release()
        for segment in self._adopted.values():
            segment.release()
        self._own = None
        self._adopted = {}
        self._begun = []

    def _refuse_what_does_not_fit(self, size: int) -> None:
        """Others may have sent theirs meanwhile: count again, now and then, before refusing."""
        if time.monotonic() - self._counted > RECOUNT_SECONDS:
            self._count()
        if self._total + size > self._limit:
            raise SpoolFullError(
                f"the spool {self.folder} holds {self._total} bytes, which is its limit: is "
                "the server away for long? Later records are not kept"
            )

    def _count(self) -> None:
        self._counted = time.monotonic()
        self._total = sum(_size(path) for path in self.folder.glob("*.spool"))

    def _open_segment(self) -> None:
        """A file gets its name when it is locked: before, another process could adopt it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        path = self.folder / f"{name}.spool"
        unnamed = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(unnamed, flags, 0o600)
        lock = _locked(unnamed)
        assert lock is not None  # noqa: S101 - nobody else knows the file yet
        if self._own is not None:  # it is full: only to be sent from now on
            os.close(self._handle)
            self._adopted[self._own.path] = self._own
        self._handle, self._length = handle, 0
        self._own = Segment(path, lock)
        unnamed.rename(path)
        self._begun = [*self.left(), path]
        self._count()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has sent it
        return 0


def _locked(path: Path) -> Optional[int]:
    """A lock on the file, or None where another process holds it, or it is gone."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    if not path.exists():  # its owner ended it between opening and locking
        os.close(handle)
        return None
    return handle
