"""The first bytes of a SQLite file, read without costing SQLite its locks.

::

    held = hold(path)
    held.read(100)
    held.release()                  # once the connections are closed

A process that closes any descriptor of a file gives up all POSIX locks that it has on it, also
those of SQLite's connections (SQLite, "How To Corrupt", 2.2). Another process would then take
itself for the last user of the file and remove the log that this one goes on writing to: what is
acknowledged after that would be lost with this process. So there is one descriptor to a file in a
process, and it is closed by the last who holds it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Held", "hold"]

Identity = tuple[int, int]


@dataclass(slots=True)
class Held:
    """A file that is held; shared by all who hold it in this process."""

    identity: Identity
    descriptors: list[int]
    count: int = field(default=0)

    def read(self, size: int) -> bytes:
        """The first `size` bytes, fewer where the file is shorter. Raises OSError."""
        return os.pread(self.descriptors[-1], size, 0)

    def release(self) -> None:
        """Once for each `hold`, after the connections that were made under it are closed."""
        with _lock:
            self.count -= 1
            if self.count == 0:
                del _all[self.identity]
                for descriptor in self.descriptors:
                    os.close(descriptor)


_lock: Final = threading.Lock()
_all: Final[dict[Identity, Held]] = {}


def hold(path: Path) -> Held:
    """Hold the file that lies there. Raises OSError."""
    with _lock:
        found = _all.get(_identity(os.stat(path)))
        if found is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            identity = _identity(os.fstat(descriptor))
            found = _all.setdefault(identity, Held(identity, []))
            found.descriptors.append(descriptor)  # also where it was replaced in this moment
        found.count += 1
        return found


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino)
