"""The ledgers that this server has open, by the names that paths use.

::

    here = ledgers["acme"]
    done = await here.append(drafts, key="deploy-7")           # durable when it returns
    found = await here.asked(lambda rooms: asking.state(rooms, "forecast", "production", …))

The event loop never waits for a disk: appends are offered to the writer, whose thread answers all
of a group at once; questions are asked in a few threads, each with an index connection of its own.
What does not fit now is refused with `unavailable`: nothing is queued without bound.

What is owned: each `Served` owns its ledger, the threads of its questions and the thread that keeps
its index up to date; `close` commits what waits and gives everything back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from api.service.problems import RETRY_AFTER_SECONDS, ProblemError
from projections.runner import Wake, follow

if TYPE_CHECKING:
    from api.main import Rooms
    from ledger.draft import Draft
    from ledger.opening import Ledger
    from ledger.reader import Reader
    from ledger.writer import Appended, Writer
    from projections.index import Index

__all__ = ["Ledgers", "Served"]

QUESTION_THREADS: Final = 4
MOST_QUESTIONS: Final = 64
WAKE_SECONDS: Final = 0.05
REST_FACTOR: Final = 4.0
MOST_REST_SECONDS: Final = 1.0

Answer = TypeVar("Answer")


class Served:
    """One open ledger. Made in the event loop's thread; `append` and `asked` are called there.

    `rooms` makes the rooms of one question thread; `index` the index that is kept up to date, and
    `wake` waits for what another process appends.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        *,
        rooms: Callable[[], Rooms],
        index: Callable[[], Index],
        wake: Callable[[threading.Event], Wake],
        public: bool = False,
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.public = public
        self.index_trouble: str | None = None
        self.indexed = 0
        self._rooms = rooms
        self._index = index
        self._wake = wake
        self._local = threading.local()
        self._opened: list[Rooms] = []
        self._mutex = threading.Lock()
        self._questions = ThreadPoolExecutor(QUESTION_THREADS, f"asof-{name}")
        self._asking = 0
        self._stop = threading.Event()
        self._follower = threading.Thread(
            target=self._keep_up, name=f"asof-index-{name}", daemon=True
        )
        self._answers: _Answers | None = None
        self._waking = False

    @property
    def reader(self) -> Reader:
        """The read side; thread-safe."""
        return self.ledger.reader

    @property
    def writer(self) -> Writer:
        """The way in; thread-safe."""
        return self.ledger.writer

    @property
    def asking(self) -> int:
        """How many questions are asked or wait."""
        return self._asking

    def start(self) -> None:
        """Begin to keep the index up to date."""
        self._follower.start()

    async def append(self, drafts: Sequence[Draft], *, key: str | None = None) -> Appended:
        """Append a batch; durable when it returns. A caller who goes away meanwhile changes
        nothing.

        Raises what `Writer.append` does; ProblemError `unavailable` where too much waits already.
        """
        loop = asyncio.get_running_loop()
        if self._answers is None:
            self._answers = _Answers(loop)
        waiting = _Waiting(self._answers, loop.create_future())
        if not self.writer.offer(drafts, waiting, idempotency_key=key):
            raise too_much("more waits to be written than the queue takes")
        if not self._waking:  # once for all requests that were read in this turn of the loop
            self._waking = True
            loop.call_soon(self._wake_writer)
        return await waiting.future

    def _wake_writer(self) -> None:
        self._waking = False
        self.writer.wake()

    async def asked(self, question: Callable[[Rooms], Answer]) -> Answer:
        """The answer to a question, asked in a thread. Raises what it raises; ProblemError
        `unavailable` where too many are asked already.
        """
        if self._asking >= MOST_QUESTIONS:
            raise too_much("more questions wait than the server takes")
        self._asking += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._questions, self._ask, question)
        finally:
            self._asking -= 1

    def close(self) -> None:
        """Commit what waits; end the threads; close the ledger. Twice does no harm."""
        self._stop.set()
        if self._follower.is_alive():
            self._follower.join()
        self._questions.shutdown(wait=True, cancel_futures=True)
        for rooms in self._opened:
            rooms.__exit__(None, None, None)
        self._opened.clear()
        self.ledger.close()

    def _ask(self, question: Callable[[Rooms], Answer]) -> Answer:
        rooms: Rooms | None = getattr(self._local, "rooms", None)
        if rooms is None:
            rooms = self._local.rooms = self._rooms()
            with self._mutex:
                self._opened.append(rooms)
        return question(rooms)

    def _keep_up(self) -> None:
        """Index what comes. What stops it is told by /readyz; questions bring the index up to date
        themselves, so they are answered all the same, only later.
        """
        try:
            index = self._index()
        except Exception as error:
            self.index_trouble = str(error) or type(error).__name__
            return
        wake = self._wake(self._stop)
        try:
            self.indexed = index.size()
            follow(index, _Pacing(wake, self._stop), self._told)
        except Exception as error:
            self.index_trouble = str(error) or type(error).__name__
        finally:
            close = getattr(wake, "close", None)
            if close is not None:
                close()
            index.close()

    def _told(self, done: int, total: int) -> None:
        self.indexed = done


class Ledgers(Mapping[str, Served]):
    """The ledgers of this server by name. Closing it closes all of them."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {one.name: one for one in served}

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def close(self) -> None:
        """Commit what waits everywhere; twice does no harm."""
        for one in self._served.values():
            one.close()


def too_much(detail: str) -> ProblemError:
    """There is more work than fits: 503, nothing was written, come back."""
    return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class _Pacing:
    """Rests after each look at the ledger, four times as long as the look took: under a flood of
    appends indexing takes a fifth of a core, and larger pieces at a time.
    """

    def __init__(self, wake: Wake, stop: threading.Event) -> None:
        self._wake = wake
        self._stop = stop
        self._begun = time.monotonic()

    def __call__(self) -> bool:
        took = time.monotonic() - self._begun
        rest = min(MOST_REST_SECONDS, max(WAKE_SECONDS, REST_FACTOR * took))
        if self._stop.wait(rest) or not self._wake():
            return False
        self._begun = time.monotonic()
        return True

    def close(self) -> None:
        """The wake is closed by whoever made it."""


class _Answers:
    """Carries the writer's answers into the event loop: one wake-up for a whole group."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._woken = False

    def put(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """In the writer's thread. The flag is cleared before the queue is emptied, so nothing that
        is put is left lying."""
        self._ready.append((future, result, error))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._ready:
            future, result, error = self._ready.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


class _Waiting:
    """What the writer answers: a future of the event loop. It cannot be cancelled any more."""

    __slots__ = ("_answers", "future")

    def __init__(self, answers: _Answers, future: asyncio.Future[Appended]) -> None:
        self._answers = answers
        self.future = future

    def set_running_or_notify_cancel(self) -> bool:
        """It will be written, whether or not somebody still waits."""
        return True

    def set_result(self, result: Appended) -> None:
        self._answers.put(self.future, result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._answers.put(self.future, None, exception)
