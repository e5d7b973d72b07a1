"""One file of the spool: records in a row, and beside it what became of them.

::

    20261121…-4711-9f3c.spool     length, CRC-32, JSON;  length, CRC-32, JSON; …
    20261121…-4711-9f3c.sent      B 0 8123      these bytes are one request, and it is being sent
                                  D 8123        all up to here was answered
                                  S 16200       up to here each record is a request of its own

What goes into a request is on the disk, and so is its line `B` or `S`, before the request leaves.
So a request that is sent again, after whatever crash, is the same request under the same key:
(segment, from, to). A machine that loses power may lose records that were not sent yet; it never
sends one twice.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

__all__ = ["MOST_BYTES", "MOST_EVENTS", "Group", "Segment", "framed"]

HEAD = struct.Struct("<II")
MOST_EVENTS = 500
MOST_BYTES = 1 << 20


class Group(NamedTuple):
    """Records that go into one request: the bytes `start` to `stop` of a segment. `ends` says where
    each of them ends."""

    segment: Segment
    start: int
    stop: int
    records: list[bytes]
    ends: list[int]

    @property
    def key(self) -> str:
        """The idempotency key: the same for the same bytes, whoever sends them."""
        return f"asof-client/{self.segment.name}/{self.start}-{self.stop}"

    def events(self) -> list[dict[str, Any]]:
        """The records as objects."""
        return [json.loads(record) for record in self.records]


class Segment:
    """A segment and how far it was sent. Used by the one thread that sends it; `lock` is an open
    handle of the file, and owning it means that nobody else sends it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.name = path.stem
        self.lock = lock
        self.sent_path = path.with_suffix(".sent")
        self.done = 0
        self.begun: Optional[int] = None
        self.alone_until = 0
        self._told = self.sent_path.exists()
        if self._told:
            self._read_sent()

    def next_group(self) -> Optional[Group]:
        """What goes into the next request: what was begun, or as much as fits. None where no whole
        record is left."""
        most = 1 if self.done < self.alone_until else MOST_EVENTS
        records: list[bytes] = []
        ends: list[int] = []
        for record, end in self._records():
            if self.begun is not None:
                if end > self.begun:
                    break
            elif records and (len(records) == most or end - self.done > MOST_BYTES):
                break
            records.append(record)
            ends.append(end)
        return Group(self, self.done, ends[-1], records, ends) if records else None

    def begin(self, group: Group) -> None:
        """Before the request: from now on these records belong together. Waits for the disk."""
        if group.stop == self.begun or self.done < self.alone_until:
            return  # a record that goes alone has its key in any case, and is on the disk
        os.fsync(self.lock)
        self._say(f"B {group.start} {group.stop}\n", sync=True)
        self.begun = group.stop

    def part(self, group: Group) -> None:
        """The request was refused, whole: from now on each of its records goes alone."""
        self._say(f"S {group.stop}\n", sync=True)
        self.alone_until, self.begun = group.stop, None

    def finish(self, group: Group) -> None:
        """After the answer. Where this line is lost, the same request meets the same answer."""
        self._say(f"D {group.stop}\n", sync=False)
        self.done, self.begun = group.stop, None

    def size(self) -> int:
        """The bytes of the segment."""
        return os.fstat(self.lock).st_size

    def remove(self) -> None:
        """Everything in it was sent."""
        self.path.unlink(missing_ok=True)
        self.sent_path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """What is left cannot be read: keep it, under a name that nobody sends."""
        kept = self.path.with_suffix(".damaged")
        self.path.rename(kept)
        self.sent_path.unlink(missing_ok=True)
        return kept

    def release(self) -> None:
        """Give the lock back: whoever finds the segment may send it now."""
        os.close(self.lock)

    def _records(self) -> Iterator[tuple[bytes, int]]:
        """Each whole record from `done` on, with where it ends; stops before one that is torn or
        damaged."""
        with self.path.open("rb") as file:
            at = file.seek(self.done)
            while len(head := file.read(HEAD.size)) == HEAD.size:
                length, check = HEAD.unpack(head)
                body = file.read(min(length, self.size()))
                if len(body) != length or zlib.crc32(body) != check:
                    return
                at += HEAD.size + length
                yield body, at

    def _read_sent(self) -> None:
        """A torn last line is one that did not happen; it must not become part of the next."""
        text = self.sent_path.read_bytes()
        whole = text.rpartition(b"\n")[0] + b"\n" if b"\n" in text else b""
        if whole != text:
            os.truncate(self.sent_path, len(whole))
        for line in whole.decode("ascii").splitlines():
            word, *numbers = line.split(" ")
            if word == "B":
                self.begun = int(numbers[1])
            elif word == "S":
                self.alone_until, self.begun = int(numbers[0]), None
            elif word == "D":
                self.done, self.begun = int(numbers[0]), None

    def _say(self, line: str, *, sync: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(self.sent_path, flags, 0o600)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, line.encode()) != len(line):
                os.ftruncate(handle, before)
                raise OSError(28, "no space left for the spool", str(self.sent_path))
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)
        if not self._told:  # the names of both files, too
            self._told = True
            _sync_folder(self.path.parent)


def framed(record: bytes) -> bytes:
    """The record as it stands in a segment."""
    return HEAD.pack(len(record), zlib.crc32(record)) + record


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
