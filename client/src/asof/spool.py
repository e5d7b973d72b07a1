"""The durable spool: what was recorded and not yet acknowledged, in files that survive the process.

::

    spool = Spool(folder, limit=1 << 30)
    place = spool.write(record)               # in the calling thread: one write, no waiting
    for group in spool.groups(): …            # for the sender; spool.sent(group) afterwards

Each process writes a segment of its own, `<id>.spool`, and holds a lock on it while it lives; so
ranks and forks never tread on each other, and a segment whose lock is free belongs to nobody any
more: any process adopts it and sends what is left. A record is length, CRC-32 and JSON. Beside it
`<id>.sent` says what was put together into one request and what was acknowledged, so that a
request that is sent again after a crash is the same request, under the same key: (segment, from,
to).

What is promised when the process dies right after `write`: nothing is lost, the operating system
has it. When the machine loses power: what was written in the last seconds may be lost, unless
`durable`. A torn last record, of a machine that died while writing, was never acknowledged to the
caller either.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

from asof.errors import NotSentError

__all__ = ["Group", "Spool", "SpoolFullError"]

HEAD = struct.Struct("<II")
MOST_EVENTS = 500
MOST_BYTES = 1 << 20
MOST_SEGMENT = 16 << 20


class SpoolFullError(NotSentError):
    """The spool has reached its limit: the record was not kept."""


class Group(NamedTuple):
    """Records that go into one request: the bytes `start` to `stop` of a segment."""

    segment: Segment
    start: int
    stop: int
    records: list[dict[str, Any]]

    @property
    def key(self) -> str:
        """The idempotency key: the same for the same bytes, whoever sends them."""
        return f"asof-client/{self.segment.name}/{self.start}-{self.stop}"


class Segment:
    """One file of records, and beside it what became of them. Locked by whoever sends it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.name = path.stem
        self.lock = lock
        self.sent_path = path.with_suffix(".sent")
        self.done = 0
        self.begun: Optional[int] = None
        self._read_sent()

    def _read_sent(self) -> None:
        """Lines `B <from> <to>` (a request was put together) and `D <to>` (acknowledged). A torn
        last line is one that did not happen."""
        try:
            lines = self.sent_path.read_text(encoding="ascii").split("\n")[:-1]
        except FileNotFoundError:
            return
        for line in lines:
            word, *numbers = line.split(" ")
            if word == "B":
                self.begun = int(numbers[1])
            elif word == "D":
                self.done, self.begun = int(numbers[0]), None

    def next_group(self) -> Optional[Group]:
        """What goes into the next request: the one that was begun, or as much as fits."""
        with self.path.open("rb") as file:
            file.seek(self.done)
            data = file.read(MOST_BYTES + MOST_SEGMENT)
        records: list[dict[str, Any]] = []
        at = 0
        for record, end in _records(data):
            if self.begun is not None and self.done + end > self.begun:
                break
            full = self.begun is None and (len(records) == MOST_EVENTS or end > MOST_BYTES)
            if full and records:
                break
            records.append(record)
            at = end
        if not records:
            return None
        return Group(self, self.done, self.done + at, records)

    def begin(self, group: Group) -> None:
        """Before the request: from now on these records belong together."""
        if self.begun != group.stop:
            self._say(f"B {group.start} {group.stop}\n")
            self.begun = group.stop

    def split(self, group: Group) -> list[Group]:
        """The records of a group that was refused, each for itself."""
        with self.path.open("rb") as file:
            file.seek(group.start)
            data = file.read(group.stop - group.start)
        found, start = [], group.start
        for record, end in _records(data):
            found.append(Group(self, start, group.start + end, [record]))
            start = group.start + end
        return found

    def ends(self, group: Group) -> list[int]:
        """Where each record of a group ends."""
        return [one.stop for one in self.split(group)]

    def finish(self, group: Group) -> None:
        """After the answer."""
        self._say(f"D {group.stop}\n")
        self.done, self.begun = group.stop, None

    def size(self) -> int:
        """The bytes of the segment."""
        return self.path.stat().st_size

    def remove(self) -> None:
        """Everything in it was sent."""
        self.path.unlink(missing_ok=True)
        self.sent_path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the lock back."""
        os.close(self.lock)

    def _say(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(self.sent_path, flags, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def _records(data: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole record with where it ends; stops before one that is torn or damaged."""
    at = 0
    while at + HEAD.size <= len(data):
        length, check = HEAD.unpack_from(data, at)
        body = data[at + HEAD.size : at + HEAD.size + length]
        if len(body) != length or zlib.crc32(body) != check:
            return
        at += HEAD.size + length
        yield json.loads(body), at


class Spool:
    """The spool of one process. `write` from any thread; the rest by the sender's thread."""

    def __init__(self, folder: Path, *, limit: int, durable: bool = False) -> None:
        self.folder = folder
        self._limit = limit
        self._durable = durable
        self._mutex = threading.Lock()
        self._own: Optional[Segment] = None
        self._adopted: dict[Path, Segment] = {}
        self._handle = -1
        self._length = 0
        self._total = 0

    def write(self, record: bytes) -> tuple[str, int]:
        """Keep a record; where it stands (segment, end). Raises SpoolFullError; OSError where the
        disk does not take it.
        """
        data = HEAD.pack(len(record), zlib.crc32(record)) + record
        with self._mutex:
            if self._own is None or self._length > MOST_SEGMENT:
                self._open_segment()
            own = self._own
            assert own is not None  # noqa: S101 - opened above
            if self._total + len(data) > self._limit:
                raise SpoolFullError(
                    f"the spool {self.folder} holds {self._total} bytes, which is its limit: is "
                    "the server away for long? Later records are not kept"
                )
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
        with self._mutex:
            own = self._own
            for path in self.folder.glob("*.spool"):
                if path in self._adopted or (own is not None and path == own.path):
                    continue
                lock = _locked(path)
                if lock is not None:
                    self._adopted[path] = Segment(path, lock)
            found = [*self._adopted.values()] + ([] if own is None else [own])
        return sorted(found, key=lambda segment: segment.name)

    def is_own(self, segment: Segment) -> bool:
        """Whether this process still writes to it."""
        return segment is self._own

    def end(self, segment: Segment) -> None:
        """All of it was sent: remove it. The own one only where nothing was added meanwhile; the
        next record begins another.
        """
        with self._mutex:
            own = segment is self._own
            if own and segment.done < self._length:
                return
            size = segment.size()
            segment.remove()
            segment.release()
            self._adopted.pop(segment.path, None)
            self._total = max(0, self._total - size)
            if own:
                os.close(self._handle)
                self._own = None

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

    def pending(self) -> int:
        """Bytes that are not acknowledged, of this process."""
        own = self._own
        return 0 if own is None else self._length - own.done

    def _open_segment(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._own is not None:  # it is full: only to be sent from now on
            os.close(self._handle)
            self._adopted[self._own.path] = self._own
        name = f"{_now_nanos():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        path = self.folder / f"{name}.spool"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(path, flags, 0o600)
        lock = _locked(path)
        assert lock is not None  # noqa: S101 - nobody else knows the file yet
        self._handle, self._length = handle, 0
        self._own = Segment(path, lock)
        self._total = sum(one.stat().st_size for one in self.folder.glob("*.spool"))


def _now_nanos() -> int:
    import time

    return time.time_ns()


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
