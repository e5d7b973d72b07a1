"""Real children that are killed (SIGKILL) at the n-th call of some functions, for every n.

::

    for n in kill_points(lambda: store.put_file(path), [(os, "write"), (os, "fsync"), …]):
        …                       # a child has just died before its n-th call; look at what it left

The child is a fork of the test: same code, same open folder, its own death. Enumeration ends with
the first n at which the child comes to its end alive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["DISK_CALLS", "dies", "forked", "kill_points"]

DISK_CALLS = (
    "chmod", "chown", "fchmod", "fsync", "link", "mkdir", "open", "rename", "replace", "rmdir",
    "symlink", "unlink", "write",
)  # fmt: skip


def kill_points(act: Callable[[], object], calls: Sequence[tuple[Any, str]]) -> Iterator[int]:
    """Yields 1, 2, 3, … after a child died before that call; ends when a child lived."""
    number = 1

    def armed() -> None:
        _arm(number, calls)
        act()

    while dies(armed):
        yield number
        number += 1


def forked(act: Callable[[], object]) -> int:
    """A child that does this, and ends with 0; with 70 where that raised. Its process id."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return child


def dies(act: Callable[[], object]) -> bool:
    """Whether a forked child that does this is killed on its way; it must not fail otherwise."""
    _, status = os.waitpid(forked(act), 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False


def _arm(number: int, calls: Sequence[tuple[Any, str]]) -> None:
    left = number

    def armed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for module, name in calls:
        setattr(module, name, armed(getattr(module, name)))
