"""The object store: bytes under the name of their own hash, on this machine's disk.

::

    store = ObjectStore(Path("asof.objects"))
    kept = store.put_file(Path("orders.csv"))     # Hashed(sha256='9f86…', size=4)
    store.check(kept.sha256)                      # reads it again; raises if one bit is wrong

    asof.objects/sha256/9f/86d081…                the object, read-only
    asof.objects/tmp/…                            objects being written
    asof.objects/.gitignore                       *: what is kept here belongs into no repository

Rules:

1. An object has its name only after its bytes are complete, hashed and durable: written under
   `tmp/`, fsynced, renamed, and the folder fsynced. A crash leaves a nameless file in `tmp/`,
   nothing else.
2. The same bytes are kept once. An object that is there already is read again; a damaged one is
   replaced.
3. Bytes are copied, never linked: nobody else holds the file that we rely on.
4. A tree is its listing (`connectors.listing`), kept as an object, and the objects that it names.
5. What a dead writer left in `tmp/` is removed by the next; a living writer holds a lock on its
   file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from connectors.durable import Durably, sync_folder
from connectors.listing import TreeEntry, format_listing, parse_listing
from connectors.reading import (
    Hashed,
    Meter,
    disk_errors,
    hash_open,
    hash_text,
    opened,
    pieces,
    read_file,
    read_tree,
)
from ledger.errors import ConflictError, NotFoundError, StoreError, TamperError

__all__ = ["ObjectStore"]

MAX_IN_MEMORY = 1 << 30


class _Writing(NamedTuple):
    """What one call has written so far: objects without a name yet, and folders with new names."""

    pending: Durably
    touched: set[Path]


class ObjectStore:
    """A folder of objects. Made on first use; any number of processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / "tmp"

    def path_of(self, sha256: str) -> Path:
        """Where the object of this hash lies, or would lie."""
        return self.root / "sha256" / sha256[:2] / sha256[2:]

    def put_file(self, path: Path, meter: Meter | None = None) -> TreeEntry:
        """Keep the file at `path`. It is read twice: once to know it, once to copy or compare it.

        Raises: ConflictError ("changed while it was read"), NotFoundError, RefusedError,
        StoreError.
        """
        with self._writing() as writing:
            return read_file(path, lambda descriptor: self._put_open(descriptor, meter, writing))

    def put_tree(
        self, folder: Path, meter: Meter | None = None
    ) -> tuple[Hashed, tuple[TreeEntry, ...]]:
        """Keep the folder: files, links, listing. Returns the listing's hash and the entries.

        Raises: as `put_file`, and MalformedError for names and links that no listing can hold.
        """
        with self._writing() as writing:
            entries = read_tree(
                folder,
                lambda descriptor: self._put_open(descriptor, meter, writing),
                lambda text: self._put_text(text, writing),
            )
            return self._put_text(format_listing(entries), writing), entries

    def put_bytes(self, data: bytes) -> Hashed:
        """Keep some bytes. Raises: StoreError."""
        with self._writing() as writing:
            return self._put_text(data, writing)

    def check(self, sha256: str, meter: Meter | None = None) -> int:
        """The size of an object whose bytes hash to its name, read just now.

        Raises: NotFoundError (it is not here), TamperError (its bytes are others), StoreError.
        """
        with self.open(sha256) as descriptor:
            found = hash_open(descriptor, meter)
        self._check_same(sha256, found.sha256)
        return found.size

    def read(self, sha256: str, max_bytes: int = MAX_IN_MEMORY) -> bytes:
        """The bytes of a small object, checked. Raises: as `check`; StoreError if too large."""
        with self.open(sha256) as descriptor:
            if os.fstat(descriptor).st_size > max_bytes:
                raise StoreError(f"object {sha256} is larger than {max_bytes} bytes")
            data = b"".join(bytes(piece) for piece in pieces(descriptor))
        self._check_same(sha256, hash_text(data).sha256)
        return data

    def read_listing(self, sha256: str) -> tuple[TreeEntry, ...]:
        """The entries of a kept tree, checked. Raises: as `read`, and MalformedError."""
        return parse_listing(self.read(sha256))

    def check_tree(self, sha256: str, meter: Meter | None = None) -> int:
        """`check` for a tree: its listing and all that it names. Returns the bytes in all."""
        entries = self.read_listing(sha256)
        for name in {entry.sha256 for entry in entries if entry.size}:
            self.check(name, meter)
        return sum(entry.size for entry in entries)

    @contextmanager
    def open(self, sha256: str) -> Iterator[int]:
        """A descriptor of the object. The reader compares what it read with the name.

        Raises: NotFoundError, StoreError.
        """
        try:
            with opened(self.path_of(sha256)) as descriptor:
                yield descriptor
        except NotFoundError:
            raise NotFoundError(
                f"object {sha256} is not in {self.root}; restore that folder from a backup, "
                "or capture the same content again"
            ) from None

    def _check_same(self, sha256: str, found: str) -> None:
        if found != sha256:
            raise TamperError(
                f"the object at {self.path_of(sha256)} is damaged; restore it from a backup, "
                "or capture the same content again",
                expected=sha256,
                found=found,
            )

    # Writing.

    @contextmanager
    def _writing(self) -> Iterator[_Writing]:
        """At the end objects are durable, then have names, then these are durable (rule 1)."""
        with disk_errors(self.root):
            for folder in (self.root, self._temporary, self.root / "sha256"):
                _make_folder(folder)
            self._keep_out_of_git()
            self._remove_leftovers()
            try:
                with Durably() as pending:
                    writing = _Writing(pending, set())
                    yield writing
            except BaseException:
                self._remove_leftovers()  # also of this call: nothing holds their locks any more
                raise
            for folder in sorted(writing.touched):
                sync_folder(folder)

    def _put_open(self, descriptor: int, meter: Meter | None, writing: _Writing) -> Hashed:
        first = hash_open(descriptor, meter)
        if self._holds(first, meter):
            writing.touched.add(self.path_of(first.sha256).parent)
            return first
        if self._write(first.sha256, pieces(descriptor), writing, meter) != first.size:
            raise ConflictError("a file changed while it was read; try again when it is quiet")
        return first

    def _put_text(self, data: bytes, writing: _Writing) -> Hashed:
        hashed = hash_text(data)
        if not self._holds(hashed, None):
            self._write(hashed.sha256, [memoryview(data)], writing, None)
        writing.touched.add(self.path_of(hashed.sha256).parent)
        return hashed

    def _holds(self, hashed: Hashed, meter: Meter | None) -> bool:
        """Whether the object is there and whole. A damaged one is as good as none (rule 2)."""
        path = self.path_of(hashed.sha256)
        if not path.is_file() or path.stat().st_size != hashed.size:
            return False
        try:
            return self.check(hashed.sha256, meter) == hashed.size
        except TamperError:
            return False

    def _write(
        self, sha256: str, data: Iterable[memoryview], writing: _Writing, meter: Meter | None
    ) -> int:
        """Write one object. Raises: ConflictError when the bytes are not those of the name."""
        path = self.path_of(sha256)
        with disk_errors(path):
            descriptor, temporary = self._locked_file()
            try:
                found = copy_pieces(data, descriptor, meter)
                if found.sha256 != sha256:
                    raise ConflictError(
                        "a file changed while it was read; try again when it is quiet"
                    )
                os.fchmod(descriptor, 0o444)
                _make_folder(path.parent)
                writing.touched.add(path.parent)
            except BaseException:
                os.close(descriptor)
                raise
            writing.pending.add(descriptor, lambda: os.replace(temporary, path))
        return found.size

    def _keep_out_of_git(self) -> None:
        """`git add .` beside this folder shall not publish every dataset that was ever kept."""
        path = self.root / ".gitignore"
        if not path.exists():
            path.write_text("*\n", encoding="ascii")

    def _locked_file(self) -> tuple[int, str]:
        while True:
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Between the two lines above another process may have taken the file for a leftover.
            if os.fstat(descriptor).st_nlink:
                return descriptor, name
            os.close(descriptor)

    def _remove_leftovers(self) -> None:
        for path in self._temporary.iterdir():
            with suppress(FileNotFoundError, BlockingIOError, PermissionError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                finally:
                    os.close(descriptor)


def copy_pieces(data: Iterable[memoryview], descriptor: int, meter: Meter | None) -> Hashed:
    """Write `data` to an open file; the hash of what was written."""
    digest, size = hashlib.sha256(), 0
    for piece in data:
        digest.update(piece)
        rest = piece
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        size += len(piece)
        if meter is not None:
            meter.add(len(piece))
    return Hashed(digest.hexdigest(), size)


def _make_folder(folder: Path) -> None:
    """Make a folder that only its owner may read, durably; nothing if it is there."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(folder, 0o700)
    sync_folder(folder.parent)
