"""Waking readers after a commit: NOTIFY on a connection and a thread of its own.

A notification inside the append's transaction would make all commits of the server wait for each
other, and one sent by the sequencer would make the next append wait. Readers poll as well, so what
is lost here costs them a moment, never an entry: an error ends the attempt and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ledger.errors import StoreError

__all__ = ["Waker"]

PAUSE_SECONDS: Final = 0.02


class Waker:
    """Calls `notify` soon after `wake`, many calls of it together. Thread-safe."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Ask for a notification; returns at once."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="asof-waker", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End; what was asked for last may be left out, as readers poll. Twice does no harm."""
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._notify()
            except StoreError:
                pass  # readers poll
            self._closing.wait(PAUSE_SECONDS)
