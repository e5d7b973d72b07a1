"""Who a server runs as: oneself, or `nobody` for root, and folders which that account can enter."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["SERVER_ENVIRONMENT", "cluster_folder", "give", "run_as"]

# Nothing of ours leaks in: PGDATA, PGPORT or a locale would change what is tested.
SERVER_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def run_as() -> dict[str, Any]:
    """The arguments of `subprocess` that start a server's program as the right account."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Make the server's account the owner of a file or folder, but not of what is in it."""
    account = run_as()
    if account:
        os.chown(path, account["user"], account["group"], follow_symlinks=False)


@contextmanager
def cluster_folder() -> Iterator[Path]:
    """A folder for clusters, removed at the end. The server's account can enter it, which it cannot
    the temporary folders of root; its path is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="asof-pg-"))
    try:
        folder.chmod(0o755)
        give(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
