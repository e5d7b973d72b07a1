"""Lines at the end of a file that several processes share: whole, or not at all."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["append_line"]


def append_line(path: Path, line: bytes) -> None:
    """Add what ends in a newline (also several lines) to the file, readable for its owner only.

    A torn last line, of a process or machine that died while writing, is removed first; what was
    torn is written again by whoever repeats its work. Raises OSError where the disk does not take
    it; then nothing of it is there.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = _whole(handle, os.fstat(handle).st_size)
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, size)
            raise OSError(28, "no space left", str(path))
    finally:
        os.close(handle)


def _whole(handle: int, size: int) -> int:
    """The file's size without a torn last line, which is cut off."""
    at = size
    while at > 0:
        begin = max(0, at - 4096)
        piece = os.pread(handle, at - begin, begin)
        newline = piece.rfind(b"\n")
        if newline >= 0:
            at = begin + newline + 1
            break
        at = begin
    if at != size:
        os.ftruncate(handle, at)
    return at
