"""Killing an append for real: a child process that sends itself SIGKILL at a named point.

::

    journal = append_until_killed(url, Crash("committed", 2), folder)
    check_recovered(url, journal)

The points are those of docs/spec/append.md. The child keeps a journal outside of the ledger, one
line before and one after each append, which is what the world knows of it; `check_recovered` holds
it against the ledger that is opened afterwards.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from ledger.draft import Draft
from ledger.guard import Guard, GuardMark
from ledger.keys import GUARD_FILE, load_key
from ledger.opening import open_ledger
from ledger.places import place_of, sqlite_path
from ledger.receipt import Receipt, check_receipt, format_receipt, parse_receipt
from ledger.store import Forecast, Head, KeyUse, Row, Tracked
from ledger.stores.sqlite import SqliteStore
from ledger.tiles import Tile
from ledger.writer import Writer
from tests.support.kills import forked
from tests.support.ledgers import SettableClock, check_whole, note, seeded

__all__ = [
    "POINTS",
    "Crash",
    "CrashingStore",
    "Journal",
    "append_all",
    "append_until_killed",
    "check_recovered",
    "read_journal",
    "run_child",
]

POINTS = (
    "prepare",
    "begin",
    "head",
    "clock",
    "write",
    "commit",
    "committed",
    "guard",
    "guarded",
    "tend",
    "answered",
)
BATCHES = 6


class Crash:
    """SIGKILL at the n-th time that `point` is reached; counted over all threads."""

    def __init__(self, point: str, nth: int) -> None:
        self.point = point
        self.left = nth
        self._lock = Lock()

    def at(self, point: str) -> None:
        if point != self.point:
            return
        with self._lock:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class CrashingStore:
    """The real store, with a crash before and after what matters."""

    def __init__(self, inner: SqliteStore, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[Any]:
        self._crash.at("begin")
        with self._inner.transaction(forecast) as transaction:
            yield CrashingTransaction(transaction, self._crash)
            self._crash.at("commit")
        self._crash.at("committed")

    def tend(self) -> None:
        self._crash.at("tend")
        self._inner.tend()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CrashingTransaction:
    def __init__(self, inner: Any, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    def head(self) -> Head:
        head: Head = self._inner.head()
        self._crash.at("head")
        return head

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        self._inner.write(rows, tiles, head, keys, tracked)
        self._crash.at("write")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CrashingGuard(Guard):
    def __init__(self, path: Path, crash: Crash) -> None:
        super().__init__(path)
        self._crash = crash

    def advance(self, mark: GuardMark) -> None:
        self._crash.at("guard")
        super().advance(mark)
        self._crash.at("guarded")


@dataclass
class Journal:
    """What the world knows: the batches that were tried, and the receipts that were given."""

    tried: list[str]
    receipts: dict[str, list[Receipt]]


def batch_of(key: str) -> list[Draft]:
    """The batch that belongs to a key: one to three notes."""
    number = int(key.rpartition("-")[2])
    return [note(f"{key} {n}", f"note/{number % 2}") for n in range(1 + number % 3)]


def append_until_killed(
    url: str,
    crash: Crash,
    folder: Path,
    *,
    threads: int = 1,
    wrap: Callable[[SqliteStore, Crash], Any] = CrashingStore,
) -> Journal:
    """Append batches in a child process until it dies, and return its journal."""
    path = folder / "journal"
    path.unlink(missing_ok=True)
    status = run_child(lambda: append_all(url, crash, path, threads, wrap))
    assert status in (0, -signal.SIGKILL), status
    return read_journal(path)


def run_child(work: Callable[[], None]) -> int:
    """The exit code of a child process that does `work`; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])


def append_all(
    url: str,
    crash: Crash,
    journal: Path,
    threads: int,
    wrap: Callable[[SqliteStore, Crash], Any],
) -> None:
    folder = place_of(url).beside(".keys")
    clock = SettableClock()

    def ticking() -> int:
        crash.at("clock")
        clock.now += 1
        return clock.now

    random = seeded(os.getpid())

    def entropy(count: int) -> bytes:
        crash.at("prepare")
        return random(count)

    store = wrap(SqliteStore.open(sqlite_path(url)), crash)
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    guard = CrashingGuard(folder / GUARD_FILE, crash)
    writer = Writer(store, load_key(folder), guard=guard, clock=ticking, entropy=entropy)

    def append(thread: int) -> None:
        for number in range(BATCHES):
            key = f"{thread}-{number}"
            os.write(file, f"try {key}\n".encode())
            done = writer.append(batch_of(key), idempotency_key=key)
            crash.at("answered")
            lines = b"".join(
                f"ack {key} ".encode() + format_receipt(receipt) + b"\n"
                for receipt in done.receipts
            )
            os.write(file, lines)

    workers = [Thread(target=append, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    writer.close()
    store.close()


def read_journal(path: Path) -> Journal:
    journal = Journal([], {})
    for line in path.read_bytes().splitlines() if path.exists() else []:
        word, key, *rest = line.decode().split(" ", 2)
        if word == "try":
            journal.tried.append(key)
        else:
            journal.receipts.setdefault(key, []).append(parse_receipt(rest[0].encode()))
    return journal


def check_recovered(url: str, journal: Journal) -> None:
    """I1 to I3 (docs/spec/append.md): nothing acknowledged is lost, nothing is there twice, and
    asking again with the same key gives the same receipt or writes what was not written."""
    with open_ledger(url, clock=SettableClock()) as ledger:
        check_whole(ledger.store, ledger.reader)
        for receipts in journal.receipts.values():
            for receipt in receipts:
                check_receipt(receipt, ledger.vkey)
                assert receipt.index < ledger.reader.size(), (
                    f"entry {receipt.index} was acknowledged and is not there"
                )
                assert ledger.reader.entry_bytes(receipt.index) == receipt.entry
        before = ledger.reader.size()
        for key in journal.tried:
            there = ledger.store.key_use(key) is not None
            assert there or key not in journal.receipts
            done = ledger.writer.append(batch_of(key), idempotency_key=key)
            assert done.repeated == there
            if key in journal.receipts:
                assert list(done.receipts) == journal.receipts[key]
        payloads = [record.payload for record in ledger.reader.entries(1)]
        expected = [draft.payload for key in journal.tried for draft in batch_of(key)]
        assert sorted(payloads, key=str) == sorted(expected, key=str)
        assert before <= ledger.reader.size()
        check_whole(ledger.store, ledger.reader)
