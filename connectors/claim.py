"""Who runs a plan: one executor at a time, also when the one before was killed.

::

    with claim_in(folder)("7"):        # ConflictError where another process runs rollback 7
        ...

The stream's version lets two executors never record the same intent, but it cannot tell a dead
executor from a slow one: whoever comes second would read back, find nothing yet and call again. A
lock on a file can, on one machine: the kernel gives it back when its holder dies, and not earlier.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ledger.errors import ConflictError, StoreError

__all__ = ["Claim", "claim_in"]

Claim = Callable[[str], AbstractContextManager[None]]


def claim_in(folder: Path) -> Claim:
    """Claims by locks on files in `folder`, which is made where it is missing."""

    @contextmanager
    def claim(rollback_id: str) -> Iterator[None]:
        handle = _open(folder, rollback_id)
        try:
            _lock(handle, rollback_id)
            yield
        finally:
            os.close(handle)

    return claim


def _open(folder: Path, rollback_id: str) -> int:
    name = hashlib.sha256(rollback_id.encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(
            folder / f"rollback-{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise StoreError(
            f"{folder}: the lock of rollback {rollback_id} cannot be made: {error}"
        ) from error


def _lock(handle: int, rollback_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(
            f"rollback {rollback_id} is being run by another process; nothing was done here"
        ) from None
    except OSError as error:
        raise StoreError(f"the lock of rollback {rollback_id} failed: {error}") from error
