"""A store that answers appends later, as a server does, and not always well: for the sequencer.

::

    store = AheadStore(MemoryStore())
    store.outcomes += ["refused", "unheard"]      # of the next two that go ahead
    store.go.clear()                              # they stay under way until `go.set()`

Two of them over one memory are two processes. What is real about it is the contract of
`Forecast.ahead`; `tests/unit/test_postgres_store.py` asks the same of a server.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from ledger.errors import AsofError, HeadMovedError, StoreError, UnknownOutcomeError
from ledger.store import Forecast, Head, KeyUse, Row
from ledger.stores.memory import MemoryStore

__all__ = ["AheadStore", "Outcome"]

Outcome = Literal["written", "refused", "lost", "unheard"]


class AheadStore:
    """Keeps what was sent while it is under way. `sent` and `locked` have the sizes of the groups;
    `cut` loses the line while the next one is sent: it arrives, unheard of."""

    works_elsewhere = True

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.recovers = True
        self.go = threading.Event()
        self.go.set()
        self.outcomes: deque[Outcome] = deque()
        self.cut = False
        self.planned = threading.Semaphore(0)
        self.sent: list[int] = []
        self.locked: list[int] = []
        self._call: AheadTransaction | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def transaction(self, forecast: Forecast) -> Iterator[Any]:
        if forecast.ahead:
            self._call = call = AheadTransaction(self, forecast, self._call)
            yield call
            call.send()
            return
        if self._call is not None:
            self._call.finish()
        with self._inner.transaction() as transaction:
            yield transaction
            self.locked += [len(rows) for rows, *_ in transaction.pending]

    def commit(self, head: Head, written: tuple[Any, ...]) -> None:
        """Raises: HeadMovedError where it builds on another head, or a key of it was used."""
        with self._inner.transaction() as transaction:
            keys = [use.key for use in written[3]]
            if transaction.head() != head or transaction.key_uses(keys):
                raise HeadMovedError("nothing was written")
            transaction.write(*written)


class AheadTransaction:
    def __init__(
        self, store: AheadStore, forecast: Forecast, after: AheadTransaction | None
    ) -> None:
        assert forecast.head is not None
        self._store = store
        self._head = forecast.head
        self._after = after
        self._written: tuple[Any, ...] | None = None
        self._sent = self._finished = False
        self._error: AsofError | None = None
        self._heard: int | None = None

    def head(self) -> Head:
        return self._head

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """Nothing is gained by beginning early."""

    def stream_versions(self, streams: Collection[str]) -> dict[str, int]:
        self._check_follows()
        return {name: self._store.stream_version(name) for name in streams}

    def key_uses(self, keys: Collection[str]) -> dict[str, KeyUse]:
        """Asked for many entries only: a key is not asked for to send a few."""
        self._check_follows()
        found = {key: self._store.key_use(key) for key in keys}
        return {key: use for key, use in found.items() if use is not None}

    def tracked(self, followers: Collection[str]) -> dict[str, int]:
        self._check_follows()
        found = {name: self._store.tracked(name) for name in followers}
        return {name: at for name, at in found.items() if at is not None}

    def write(self, *written: Any) -> None:
        self._written = written

    def send(self) -> None:
        if self._written is None:
            return
        self._store.planned.release()
        self._check_follows()
        if self._store.cut:
            self._store.commit(self._head, self._written)
            raise UnknownOutcomeError("the line went dead")
        self._sent = True
        self._store.sent.append(len(self._written[0]))

    @property
    def answer_at(self) -> int | None:
        """Something to read as soon as `go` is set: a thread sees to it."""
        if not self._sent or self._finished:
            return None
        if self._heard is None:
            self._heard, tell = os.pipe()
            threading.Thread(target=self._tell, args=(tell,), daemon=True).start()
        return self._heard

    def _tell(self, tell: int) -> None:
        self._store.go.wait(20)
        os.close(tell)

    def wait(self) -> None:
        self.finish()
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        if self._sent and not self._finished:
            assert self._store.go.wait(20)
            outcomes = self._store.outcomes
            self._error = self._ended(outcomes.popleft() if outcomes else "written")
            self._finished = True
            if self._heard is not None:
                os.close(self._heard)

    def _ended(self, outcome: Outcome) -> AsofError | None:
        try:
            if outcome in ("written", "unheard"):
                assert self._written is not None
                self._store.commit(self._head, self._written)
        except HeadMovedError as exc:
            return exc
        if outcome == "refused":
            return StoreError("no space left")
        return None if outcome == "written" else UnknownOutcomeError("the line went dead")

    def _check_follows(self) -> None:
        if self._after is not None:
            self._after.finish()
            if self._after._error is not None:
                raise HeadMovedError("what it follows was not written")
