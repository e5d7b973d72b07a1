"""Takes back what Kubernetes does to the rights of files, before the server starts.

    python -I before.py /secrets/pgpass /run/asof/pgpass /keys

A file of a Secret belongs to root and is read through its group, and libpq passes over a password
file that a group may read. An fsGroup makes every file of a volume readable and writable by the
group, and asof refuses such a signing key. It may be repeated, also by several replicas at once.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def copy_for_owner(source: Path, target: Path) -> None:
    """A copy that nobody else can read, whole or not at all."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(source.read_bytes())
    aside.replace(target)


def take_back(folder: Path) -> None:
    """No rights for others on what lies in the folder. Raises: PermissionError where a file
    belongs to another user, who has to do it."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a replica that runs has renamed it
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_mode & OTHERS:
                path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)


def main(source: str, target: str, keys: str) -> None:
    copy_for_owner(Path(source), Path(target))
    take_back(Path(keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
