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
from pathlib import Path

__all__ = ["own_file"]


def own_file(path: Path) -> None:
    """Make the file, and its folder, for the owner only; one that is there becomes so. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if name.exists():
            name.chmod(0o600)
