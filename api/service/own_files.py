"""Files of the service that nobody else may read: the spool, the secrets of webhooks, its keys.

::

    own_file(folder / "webhooks.db")
    connection = sqlite3.connect(folder / "webhooks.db")

SQLite gives its `-wal` and `-shm` files the mode that the database has when it opens it. So the
file is there, for its owner only, before SQLite sees it: a mode that is set afterwards leaves what
was just written readable beside it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["own_file", "own_once"]


def own_file(path: Path) -> None:
    """Make the file, and its folder, for the owner only; one that is there becomes so. Raises
    OSError.

    A file that is there is not opened: closing it would give up the locks that SQLite holds on it
    through another connection of this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if name.exists():
            name.chmod(0o600)


def own_once(path: Path, content: bytes) -> None:
    """Make a file that is written once, for the owner only; one that is there stays. Durable, with
    its name, when it returns: what is sealed with a key must not outlive it. Raises OSError.

    Whole or not at all: two processes that start at once end with the same file.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
