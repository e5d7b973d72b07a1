"""Reading what lies on a disk: hashed as it is read, refused when it changes meanwhile.

::

    read_file(Path("orders.csv"), hash_open)          # TreeEntry(path='orders.csv', sha256=…)
    read_tree(Path("images"), hash_open, hash_text)   # an entry for each file, link, empty folder

Rules:

1. A file is read through one descriptor, a mebibyte at a time; memory does not grow with its
   length.
2. Its size, times and identity are the same before and after, and the name still leads to it; else
   ConflictError. For a tree, the whole walk is done again and must find the same.
3. Links are never followed. Devices, pipes and sockets are refused, never opened for reading.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from connectors.listing import (
    DIRECTORY,
    EXECUTABLE,
    FILE,
    LINK,
    TreeEntry,
    check_link,
    check_tree_path,
)
from ledger.errors import (
    ConflictError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    UnreachableError,
)

__all__ = [
    "CHUNK",
    "Hashed",
    "Meter",
    "Take",
    "disk_errors",
    "entry_mode",
    "hash_open",
    "hash_text",
    "opened",
    "pieces",
    "read_file",
    "read_tree",
    "walk",
]

CHUNK = 1 << 20
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Hashed(NamedTuple):
    """The SHA-256 (hexadecimal) and length of some bytes."""

    sha256: str
    size: int


class Seen(NamedTuple):
    """One thing that a walk met: where, what (a mode of the listing), and its marks of identity."""

    path: str
    mode: str
    size: int
    marks: tuple[int, ...]


# Reads an open file to its end and says what it was.
Take = Callable[[int], Hashed]
# Is given the content of a symbolic link.
TakeText = Callable[[bytes], Hashed]


class Meter:
    """Adds up bytes for a progress callback."""

    def __init__(self, progress: Callable[[int, int | None], None], total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """`count` more bytes are dealt with."""
        self._done += count
        self._progress(self._done, self._total)


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Translates the operating system's errors about `path` into ours, with what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{_shown(error, path)}: there is no such file or folder") from error
    except PermissionError as error:
        raise StoreError(
            f"{_shown(error, path)}: not permitted; change its permissions or run as its owner"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{_shown(error, path)}: the disk is full; make room and try again"
            ) from error
        if error.errno in (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN):
            raise UnreachableError(
                f"{_shown(error, path)}: the disk does not answer ({error})"
            ) from error
        raise StoreError(f"{_shown(error, path)}: {error.strerror or error}") from error


def _shown(error: OSError, path: Path | str) -> str:
    name = error.filename if isinstance(error.filename, (str, bytes)) else os.fspath(path)
    return ascii(os.fsdecode(name)) if not os.fsdecode(name).isprintable() else os.fsdecode(name)


def pieces(descriptor: int) -> Iterator[memoryview]:
    """The bytes of an open file from its beginning. A piece is valid until the next."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    buffer = memoryview(bytearray(CHUNK))
    while count := os.readv(descriptor, [buffer]):
        yield buffer[:count]


def hash_open(descriptor: int, meter: Meter | None = None) -> Hashed:
    """The hash of an open file, from its beginning to its end."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces(descriptor):
        digest.update(piece)
        size += len(piece)
        if meter is not None:
            meter.add(len(piece))
    return Hashed(digest.hexdigest(), size)


def hash_text(data: bytes) -> Hashed:
    """The hash of some bytes in memory."""
    return Hashed(hashlib.sha256(data).hexdigest(), len(data))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the regular file at `path`, links not followed.

    Raises: NotFoundError, RefusedError (a link, device, pipe, socket, folder), StoreError.
    """
    with disk_errors(path):
        try:
            descriptor = os.open(path, _READ_FLAGS)
        except OSError as error:
            # ELOOP: a link under O_NOFOLLOW; ENXIO: a socket or a pipe without a partner.
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise RefusedError(f"{path}: not a regular file") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RefusedError(f"{path}: not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)


def read_file(path: Path, take: Take) -> TreeEntry:
    """The file at `path`, read by `take`. Rules 1 and 2. Raises: ConflictError, as `opened`."""
    with opened(path) as descriptor:
        before = os.fstat(descriptor)
        hashed = take(descriptor)
        after = os.fstat(descriptor)
        same_name = os.lstat(path)
        if (
            not _marks(before) == _marks(after) == _marks(same_name)
            or hashed.size != before.st_size
        ):
            raise _moved(path)
    return TreeEntry(path.name, entry_mode(before), hashed.sha256, hashed.size)


def read_tree(folder: Path, take: Take, take_text: TakeText) -> tuple[TreeEntry, ...]:
    """All that `folder` holds, in the order of a listing. Rules 1 to 3.

    Raises: MalformedError (a name or link that no listing can hold), RefusedError, ConflictError.
    """
    seen = walk(folder)
    entries = tuple(_read_seen(folder, thing, take, take_text) for thing in seen)
    if walk(folder) != seen:
        raise _moved(folder)
    return entries


def walk(folder: Path) -> list[Seen]:
    """What `folder` holds without reading it, in the order of a listing. Raises as `read_tree`."""
    found: list[Seen] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        place = folder / prefix if prefix else folder
        with disk_errors(place), os.scandir(place) as listed:
            children = [
                (f"{prefix}/{child.name}" if prefix else child.name, child) for child in listed
            ]
            if prefix and not children:
                found.append(Seen(prefix, DIRECTORY, 0, ()))
            for path, child in children:
                check_tree_path(path)
                if child.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    found.append(_see(folder, path, child.stat(follow_symlinks=False)))
    return sorted(found, key=lambda thing: thing.path.encode())


def _see(folder: Path, path: str, status: os.stat_result) -> Seen:
    if stat.S_ISLNK(status.st_mode):
        return Seen(path, LINK, status.st_size, _marks(status))
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(
            f"{folder / path}: a device, pipe or socket is no data; name a folder without it"
        )
    return Seen(path, entry_mode(status), status.st_size, _marks(status))


def _read_seen(folder: Path, thing: Seen, take: Take, take_text: TakeText) -> TreeEntry:
    place = folder / thing.path
    if thing.mode == LINK:
        return TreeEntry(thing.path, LINK, *_read_link(place, thing.path, take_text))
    if thing.mode == DIRECTORY:
        return TreeEntry(thing.path, DIRECTORY, *hash_text(b""))
    try:
        return read_file(place, take)._replace(path=thing.path)
    except NotFoundError:
        raise _moved(place) from None


def _read_link(place: Path, path: str, take_text: TakeText) -> Hashed:
    with disk_errors(place):
        target = os.readlink(place)
    try:
        data = target.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError("a link to a name that is not UTF-8", where=repr(path)) from None
    check_link(path, target)
    return take_text(data)


def entry_mode(status: os.stat_result) -> str:
    """The mode of a regular file in a listing: executable when its owner may execute it."""
    return EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE


def _marks(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _moved(path: Path) -> ConflictError:
    return ConflictError(f"{path} changed while it was read; try again when it is quiet")
