"""Keeping an index up to date while the ledger grows, and waiting for it.

::

    with closing(Listening(url, stop)) as wake:          # or Polling(stop), for a file
        follow(index, wake)
    wait_for(index, receipt.index, seconds=5)            # read what was just written
    lag_of(reader, index, now=clock())                   # Lag(entries=0, seconds=0.0)

A runner may die at any moment, and any number may run: each batch is one transaction, and whoever
comes second finds it done. What wakes it is only a hint; it polls as well, so a wake-up that was
lost costs a moment, never an entry.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ledger.errors import UnreachableError

if TYPE_CHECKING:
    from ledger.reader import Reader
    from projections.index import Index, Progress

__all__ = ["Lag", "Listening", "Polling", "Wake", "follow", "lag_of", "wait_for"]

CHANNEL: Final = "asof_appended"
POLL_SECONDS: Final = 1.0
FIRST_LOOK_SECONDS: Final = 0.002
MOST_SECONDS_BETWEEN_LOOKS: Final = 0.1


class Lag(NamedTuple):
    """How far an index is behind: in entries, and in seconds since the first of them was
    recorded; both 0 where it is up to date. To be shown as gauges.
    """

    entries: int
    seconds: float


class Wake(Protocol):
    """What a runner waits with."""

    def __call__(self) -> bool:
        """Wait until there may be more, or for a while; False where the runner shall end."""
        ...


class Polling:
    """Looks again after a while, until `stop` is set."""

    def __init__(self, stop: threading.Event, seconds: float = POLL_SECONDS) -> None:
        self._stop = stop
        self._seconds = seconds

    def __call__(self) -> bool:
        return not self._stop.wait(self._seconds)

    def close(self) -> None:
        """Nothing to give back."""


class Listening:
    """Is woken by PostgreSQL's notification of an append, and looks again after a while anyway.

    A connection that is lost is opened again; until then it polls.
    """

    def __init__(self, url: str, stop: threading.Event, seconds: float = POLL_SECONDS) -> None:
        self._url = url
        self._stop = stop
        self._seconds = seconds
        self._connection: Any = None

    def __call__(self) -> bool:
        if self._stop.is_set():
            return False
        try:
            self._listen()
        except UnreachableError:
            self.close()
            return not self._stop.wait(self._seconds)
        return not self._stop.is_set()

    def _listen(self) -> None:
        from ledger.stores.postgres.connecting import connect, shown
        from ledger.stores.postgres.errors import translated

        if self._connection is None:
            self._connection = connect(self._url, "reader")
            with translated(shown(self._url)):
                self._connection.execute(f"LISTEN {CHANNEL}")
            return  # what was appended before we listened is looked for now
        with translated(shown(self._url)):
            for _ in self._connection.notifies(timeout=self._seconds, stop_after=1):
                """That there was one is all that it says."""

    def close(self) -> None:
        """Close the connection. Calling it twice does no harm."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def follow(index: Index, wake: Wake, progress: Progress | None = None) -> None:
    """Index what is there, and what comes, until `wake` says that it is enough.

    Raises what `Index.catch_up` does: PausedError where the index stands before an entry. A
    database that does not answer is asked again after the next wake-up.
    """
    while True:
        try:
            index.catch_up(progress)
        except UnreachableError:
            pass  # nothing was lost: the position is where it was
        if not wake():
            return


def wait_for(
    index: Index,
    entry: int,
    *,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Wait until the index has an entry, whoever indexes it; returns its size.

    So that one reads what one has just written. Raises UnreachableError after `seconds`.
    """
    begun, pause = clock(), FIRST_LOOK_SECONDS
    while (size := index.size()) <= entry:
        if clock() - begun >= seconds:
            raise UnreachableError(
                f"the index has {size} entries after {seconds:g} s, and not yet entry {entry}: "
                "is anybody indexing? (asof projections status)"
            )
        sleep(pause)
        pause = min(2 * pause, MOST_SECONDS_BETWEEN_LOOKS)
    return size


def lag_of(reader: Reader, index: Index, *, now: int) -> Lag:
    """How far the index is behind the ledger at the instant `now` (microseconds)."""
    size, target = index.size(), reader.size()
    if size >= target:
        return Lag(0, 0.0)
    (row,) = reader.rows_at([size])
    return Lag(target - size, max(0, now - row.recorded_at) / 1_000_000)
