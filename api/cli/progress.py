"""Signs of life on the standard error: a bar for anything that takes longer than half a second.

::

    with session.progress("Verifying") as tell:
        verify(store, progress=tell)          # tell(done, total); total may be None

There is none when the standard error is no terminal, with NO_COLOR or with --quiet. Rich is
imported only when a bar is really drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["PATIENCE", "Tell", "progress"]

PATIENCE = 0.5  # seconds of silence before a bar appears


class Tell(Protocol):
    """What a long piece of work calls with what it has done, and of how much."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


@contextmanager
def progress(title: str, *, shown: bool, patience: float = PATIENCE) -> Iterator[Tell]:
    """Give a `Tell`; draw a bar once `patience` has passed, and wipe it at the end."""
    if not shown:
        yield _silent
        return
    with _Display(title, patience) as display:
        yield display.tell


def _silent(done: int, total: int | None = None, /) -> None:
    """Nobody looks."""


class _Display:
    """A bar that a timer starts; `tell` may come from any thread, before or after that."""

    def __init__(self, title: str, patience: float) -> None:
        self._title = title
        self._lock = threading.Lock()
        self._last: tuple[int, int | None] = (0, None)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._over = False
        self._timer = threading.Timer(patience, self._start)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()

    def tell(self, done: int, total: int | None = None, /) -> None:
        self._last = (done, total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        with self._lock:
            if self._over:
                return
            done, total = self._last
            self._task = bar.add_task(self._title, completed=done, total=total)
            bar.start()
            self._bar = bar
