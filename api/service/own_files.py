"""Files of the service that nobody else may read: the spool, the secrets of webhooks.

::

    own_file(folder / "webhooks.db")
    connection = sqlite3.connect(folder / "webhooks.db")

SQLite gives its `-wal` and `-shm` files the mode that the database has when it opens it. So the
file is there, for its owner only, before SQLite sees it: a mode that is set afterwards leaves what
was just written readable beside it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["own_file"]


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
