"""Single appends to PostgreSQL, 64 in flight: ours and its peers; one process and four.

Everything is on at ours: idempotency, chain, tree, signature, guard, durable. Each peer is measured
in the layouts that its users have, and its best one is what ours is compared with.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from api.tuning import tune_for_writing
from ledger.opening import Ledger, open_ledger
from ledger.receipt import check_receipt
from scripts.benches.harness import Context, Measurement, median_of
from scripts.benches.postgres_peers import eventsourcing_rate, umadb_rates, umadb_server
from scripts.benches.postgres_world import (
    IN_FLIGHT,
    Server,
    from_futures,
    from_threads,
    note,
    server,
)

CHECKOUT = Path(__file__).resolve().parents[2]
POOLS = (1, 8, IN_FLIGHT)
PROCESSES = 4
WRITERS = {"its writer": (), "its pipelined writer": ("--pipelined-writer", "true")}


def rows(context: Context) -> Iterator[Measurement]:
    """The peers, ours in three layouts, ours in four processes."""
    tune_for_writing()
    with server(context) as started:
        yield from _Appends(context, started).rows()


class _Appends:
    def __init__(self, context: Context, started: Server) -> None:
        self._context = context
        self._server = started
        self._seconds = 1.0 if context.quick else 4.0
        self._runs = 1 if context.quick else 3

    def rows(self) -> Iterator[Measurement]:
        peers: dict[str, float] = {}
        for row in self._peers():
            peers[row.who] = max(row.value, peers.get(row.who, 0))
            yield row
        slowest, fastest = peers["eventsourcing"], peers["UmaDB"]
        threads = self._median(from_64_threads)
        yield self._row("asof, 64 threads", threads)
        futures = self._median(from_64_futures)
        yield self._row("asof, 64 futures of one producer", futures)
        offers = self._median(from_64_offers)
        yield self._row("asof, 64 offered by one producer, as a server does", offers)
        best = max(threads, futures, offers)
        for peer, rate in (("eventsourcing", slowest), ("UmaDB", fastest)):
            yield Measurement(
                name=f"asof at its best against {peer}",
                value=best / rate,
                unit="times",
                goal=10 if peer == "eventsourcing" else 1,
            )
        yield self._four_processes(best)

    def _peers(self) -> Iterator[Measurement]:
        for pool in POOLS[1:2] if self._context.quick else POOLS:
            rate = eventsourcing_rate(self._server, self._seconds, pool=pool)
            name = f"eventsourcing, 64 threads, {pool} connections"
            yield self._row(name, rate, who="eventsourcing")
        for writer, options in list(WRITERS.items())[: 1 if self._context.quick else None]:
            with umadb_server(self._context.folder, *options) as url:
                for layout, rate in umadb_rates(url, self._seconds):
                    name = f"UmaDB, 64 threads, {layout}, {writer}"
                    yield self._row(name, rate, who="UmaDB")

    def _median(self, run: Callable[[Ledger, float], float]) -> float:
        def once() -> float:
            with self._server.ledger() as ledger:
                return run(ledger, self._seconds)

        return median_of(once, times=self._runs)

    def _four_processes(self, alone: float) -> Measurement:
        """Each with 64 threads, all on one ledger; the head decides who is next."""
        with self._server.ledger() as ledger:
            url, keys = self._server.place_of(ledger)
            command = [sys.executable, "-m", __name__, url, str(keys), str(self._seconds)]
            started = [
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
                for _ in range(PROCESSES)
            ]
            rate = sum(float(process.communicate()[0]) for process in started)
        row = self._row("asof, four processes of 64 threads each, together", rate)
        return Measurement(**_fields(row) | {"peer": "one process", "ratio": rate / alone})

    def _row(self, name: str, value: float, *, who: str = "asof") -> Measurement:
        self._context.say(f"{name}: {value:,.0f}/s")
        return Measurement(name=name, value=value, unit="events/s", who=who, chart="single appends")


def _fields(row: Measurement) -> dict[str, object]:
    return {name: getattr(row, name) for name in Measurement.__dataclass_fields__}


def from_64_threads(ledger: Ledger, seconds: float) -> float:
    """Each thread waits for its receipt before the next event."""
    rate = from_threads(lambda thread, number: ledger.writer.append([note(number)]), seconds)
    check_receipt(ledger.writer.append([note(0)]).receipts[0], ledger.vkey)
    return rate


def from_64_futures(ledger: Ledger, seconds: float) -> float:
    """One producer that keeps 64 on their way."""
    return from_futures(lambda number: ledger.writer.submit([note(number)]), seconds)


def from_64_offers(ledger: Ledger, seconds: float) -> float:
    """As `asof serve` does: whatever was answered is offered anew, and the writer woken once."""
    answers = _Answers()
    number = waiting = 0
    begin = time.perf_counter()
    while (running := time.perf_counter() - begin < seconds) or waiting:
        if running:
            for _ in range(IN_FLIGHT - waiting):
                assert ledger.writer.offer([note(number)], answers)
                number += 1
            ledger.writer.wake()
            waiting = IN_FLIGHT
        waiting -= answers.taken()
    return number / (time.perf_counter() - begin)


class _Answers:
    """Takes every answer; `taken` waits for some, and says how many they were."""

    def __init__(self) -> None:
        self._held: deque[object] = deque()
        self._any = threading.Event()

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def set_result(self, result: object) -> None:
        self._held.append(result)
        self._any.set()

    def set_exception(self, exception: BaseException | None) -> None:
        raise AssertionError(exception)

    def taken(self) -> int:
        self._any.wait()
        self._any.clear()
        count = 0
        while self._held:
            self._held.popleft()
            count += 1
        return count


def _one_of_four(url: str, keys: str, seconds: str) -> None:
    tune_for_writing()
    with open_ledger(url, keys=Path(keys)) as ledger:
        print(from_64_threads(ledger, float(seconds)))


if __name__ == "__main__":
    _one_of_four(*sys.argv[1:])
