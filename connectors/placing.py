"""Putting kept content back to its place: built beside, verified, then swapped in one step.

::

    place(store, Content.of_tree(listing_hash), Path("/srv/shop/images"))

Rules:

1. Whoever places something holds a lock on the parent folder; a second one is told to wait.
2. The new content is written beside its place under a name that begins with `.asof-`, made
   durable, and read again. Only when it hashes to what it should be is it swapped with what is
   there.
3. The swap is one rename (files) or one exchange (folders), so that whoever looks sees the old or
   the new, whole. Where the file system has no exchange, it is two renames, and the next call
   mends a crash in between.
4. Only then is the old content removed. Nothing outside the place and the two names beside it is
   touched.
5. New files get the permissions of those that they replace; others those of the umask. The bit
   "executable" is always that of the recorded version.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from connectors.connector import check_digest
from connectors.durable import Durably, sync_folder
from connectors.listing import (
    DIRECTORY,
    EXECUTABLE,
    LINK,
    SUBMODULE,
    TreeEntry,
    check_link,
    listing_digest,
)
from connectors.objects import ObjectStore, copy_pieces
from connectors.reading import (
    Meter,
    disk_errors,
    hash_open,
    hash_text,
    pieces,
    read_file,
    read_tree,
)
from ledger.errors import ConflictError, MalformedError, RefusedError, StoreError, TamperError

__all__ = ["Content", "mend", "place", "staging_names"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


class Content(NamedTuple):
    """What to place: one file (its hash, its executable bit) or a tree (its listing's hash)."""

    sha256: str
    is_tree: bool
    executable: bool = False


def place(
    store: ObjectStore, content: Content, destination: Path, meter: Meter | None = None
) -> None:
    """Make `destination` hold exactly `content`. Rules 1 to 5; may be called again after any crash.

    Raises: NotFoundError (an object is missing), TamperError (one is damaged), ConflictError
    (another restore is under way), RefusedError (a link lies in the way), StoreError. The old
    content is still there, whole, whichever is raised.
    """
    fresh, _ = staging_names(destination)
    with _locked(destination.parent), disk_errors(destination):
        _mend(destination)
        try:
            _build(store, content, fresh, destination, meter)
            _swap(fresh, destination)
        finally:
            _remove(fresh)


def mend(destination: Path) -> None:
    """Finish or undo what a crash left, so that `destination` holds the old or the new, whole."""
    if any(os.path.lexists(name) for name in staging_names(destination)):
        with _locked(destination.parent), disk_errors(destination):
            _mend(destination)


def staging_names(destination: Path) -> tuple[Path, Path]:
    """The two names beside `destination` that a restore may use: for the new, for the old."""
    token = hash_text(os.fsencode(destination.name)).sha256[:16]
    return destination.with_name(f".asof-new-{token}"), destination.with_name(f".asof-old-{token}")


def _mend(destination: Path) -> None:
    fresh, old = staging_names(destination)
    if os.path.lexists(old) and not os.path.lexists(destination):
        os.rename(old, destination)  # died between the two renames of rule 3
        sync_folder(destination.parent)
    _remove(fresh)
    _remove(old)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Rule 1. Raises: ConflictError, RefusedError when a link leads to `folder`."""
    with disk_errors(folder):
        if os.path.realpath(folder) != os.fspath(folder):
            raise RefusedError(
                f"{folder} is reached through a symbolic link that was not there at capture; "
                "nothing was restored"
            )
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another restore is under way in {folder}; try again later"
            ) from None
        yield
    finally:
        os.close(descriptor)


# Building (rule 2).


def _build(
    store: ObjectStore, content: Content, fresh: Path, destination: Path, meter: Meter | None
) -> None:
    with Durably() as pending:
        builder = _Builder(store, meter, pending)
        if content.is_tree:
            builder.tree(store.read_listing(content.sha256), fresh, destination)
        else:
            builder.file(content.sha256, content.executable, fresh, destination)
    found = _read_again(content, fresh, meter)
    if found != content.sha256:
        raise StoreError(
            f"what was written beside {destination} reads back differently ({found}); the disk or "
            "its file system (names, links, modes) cannot hold this version. Nothing was replaced"
        )


def _read_again(content: Content, fresh: Path, meter: Meter | None) -> str:
    if not content.is_tree:
        return read_file(fresh, lambda descriptor: hash_open(descriptor, meter)).sha256
    entries = read_tree(fresh, lambda descriptor: hash_open(descriptor, meter), hash_text)
    return check_digest(listing_digest(entries))


class _Builder(NamedTuple):
    """Writes kept content to fresh names; `pending` makes it durable."""

    store: ObjectStore
    meter: Meter | None
    pending: Durably

    def tree(self, entries: tuple[TreeEntry, ...], fresh: Path, instead_of: Path) -> None:
        """Each path is plain, and no entry lies under a link: `parse_listing` saw to both."""
        folders = {fresh}
        _make_like(fresh, instead_of)
        for entry in entries:
            parts = entry.path.split("/")
            depth = len(parts) if entry.mode == DIRECTORY else len(parts) - 1
            for inner in ("/".join(parts[:stop]) for stop in range(1, depth + 1)):
                if fresh / inner not in folders:
                    folders.add(fresh / inner)
                    _make_like(fresh / inner, instead_of / inner)
            self._entry(entry, fresh / entry.path, instead_of / entry.path)
        for folder in folders:
            sync_folder(folder)

    def _entry(self, entry: TreeEntry, fresh: Path, instead_of: Path) -> None:
        if entry.mode == SUBMODULE:
            raise MalformedError(f"{entry.path!r} is a git submodule, which only git can restore")
        if entry.mode == LINK:
            _build_link(self.store, entry, fresh)
        elif entry.mode != DIRECTORY:
            sha256 = entry.sha256 if entry.size else None
            self.file(sha256, entry.mode == EXECUTABLE, fresh, instead_of)

    def file(self, sha256: str | None, executable: bool, fresh: Path, instead_of: Path) -> None:
        """One file, hashed on the way; empty without a hash. Raises: as `ObjectStore.check`."""
        status = _status(instead_of)
        replaced = status if status is not None and stat.S_ISREG(status.st_mode) else None
        mode = 0o600 if replaced else 0o777 if executable else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, mode)
        try:
            if sha256 is not None:
                self._copy(sha256, descriptor)
            if replaced is not None:
                mode = _with_executable(stat.S_IMODE(replaced.st_mode), executable)
                _inherit(descriptor, replaced, mode)
        except BaseException:
            os.close(descriptor)
            raise
        self.pending.add(descriptor)

    def _copy(self, sha256: str, descriptor: int) -> None:
        with self.store.open(sha256) as source:
            found = copy_pieces(pieces(source), descriptor, self.meter).sha256
        if found != sha256:
            raise TamperError(
                f"the object at {self.store.path_of(sha256)} is damaged; nothing was replaced",
                expected=sha256,
                found=found,
            )


def _build_link(store: ObjectStore, entry: TreeEntry, at: Path) -> None:
    """A listing names where a link lies, not where it points: that is checked here."""
    points_to = store.read(entry.sha256, 1 << 16)
    check_link(entry.path, points_to.decode("utf-8", "surrogateescape"))
    os.symlink(points_to, os.fsencode(at))


def _make_like(folder: Path, like: Path) -> None:
    """A new folder with the permissions of the one that it stands for, if there is one (rule 5)."""
    os.mkdir(folder)
    status = _status(like)
    if status is not None and stat.S_ISDIR(status.st_mode):
        _inherit(folder, status, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)


def _with_executable(mode: int, executable: bool) -> int:
    """Permissions with or without `x`; whoever may read may execute. No set-user bits survive."""
    plain = mode & 0o666 | stat.S_IRUSR
    return plain | (plain & 0o444) >> 2 if executable else plain


def _inherit(made: Path | int, status: os.stat_result, mode: int) -> None:
    """Owner (where we may give it) and permissions of what `made` will replace."""
    if os.geteuid() == 0:
        os.chown(made, status.st_uid, status.st_gid)
    os.chmod(made, mode & 0o777)


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# Swapping (rules 3 and 4).


def _swap(fresh: Path, destination: Path) -> None:
    status = _status(destination)
    if status is not None and stat.S_ISLNK(status.st_mode):
        raise RefusedError(f"{destination} is now a symbolic link; remove it, then restore again")
    if status is None or (stat.S_ISREG(status.st_mode) and not fresh.is_dir()):
        os.replace(fresh, destination)
        sync_folder(destination.parent)
    elif _exchange(fresh, destination):
        sync_folder(destination.parent)  # `fresh` is now the old content; the caller removes it
    else:
        _swap_by_two_renames(fresh, destination)


def _swap_by_two_renames(fresh: Path, destination: Path) -> None:
    _, old = staging_names(destination)
    os.rename(destination, old)
    os.rename(fresh, destination)
    sync_folder(destination.parent)
    _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2); False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))


def _remove(path: Path) -> None:
    """Remove a name of ours and all below it. What cannot be removed now, the next call removes."""
    status = _status(path)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(PermissionError):
            os.unlink(path)
