"""Appending to a SQLite ledger: everything on (door, chain, tree, signature, guard), durable.

Payloads have 0.5 kB. "In flight" is how many single events wait for their answer at a time, from as
many threads or from one that keeps futures. Batches have 1,000 events. The peer is eventsourcing's
own SQLite recorder, one event a commit, on the same disk in the same run.
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TypeVar

from api.tuning import tune_for_writing
from ledger.clock import system_clock
from ledger.draft import Draft
from ledger.events import draft, parse_drafts
from ledger.opening import Ledger, create_ledger
from ledger.places import sqlite_path
from ledger.receipt import check_receipt
from ledger.writer import Appended
from scripts.benches.harness import Context, Measurement, median_of

ACTOR = "service:trainer-0"
STREAMS = 50
BATCH = 1_000
IN_FLIGHT = 64
BATCHES_IN_FLIGHT = 8

Data = dict[str, object]
Piece = TypeVar("Piece")


def rows(context: Context) -> Iterator[Measurement]:
    """Single appends, batches of events, JSON lines, and what an entry costs on the disk."""
    tune_for_writing()  # as the program itself does before it writes, for the peer too
    bench = _Bench(context)
    yield from bench.single_appends()
    yield from bench.batches()
    yield bench.storage()


class _Bench:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._scale = 10 if context.quick else 1
        self._runs = 1 if context.quick else 3
        self._random = Random(context.seed)
        self._made = 0

    # ------------------------------------------------------------------ single appends

    def single_appends(self) -> Iterator[Measurement]:
        peer = self._median(_peer_rate, 2_000)
        yield self._rate("eventsourcing SQLite recorder, one event a commit", peer)
        single = self._median(_one_by_one, 2_000)
        yield self._rate("append, one at a time", single, peer=peer)
        threads = self._median(_from_threads, 30_000)
        yield self._rate("append, 64 threads", threads, goal=10_000, peer=peer)
        futures = self._median(_from_futures, 60_000)
        yield self._rate("submit, 64 futures of one producer", futures, goal=10_000, peer=peer)

    # ------------------------------------------------------------------------- batches

    def batches(self) -> Iterator[Measurement]:
        count = 150_000 // self._scale // BATCH * BATCH
        events = [("binding.changed/1", self._binding(n)) for n in range(count)]
        lines = [_lines(events[at : at + BATCH]) for at in range(0, count, BATCH)]
        drafts = [_drafts(events[at : at + BATCH]) for at in range(0, count, BATCH)]
        self._context.say(f"payload {len(drafts[0][0].payload)} bytes")
        gc.freeze()  # the input of the benchmark is no garbage of the program's
        rate = self._median(lambda ledger, _: _batched(ledger, drafts, list), count)
        yield self._rate("batches of 1,000 drafts, validated before", rate)
        chunks = [events[at : at + BATCH] for at in range(0, count, BATCH)]
        rate = self._median(lambda ledger, _: _batched(ledger, chunks, _drafts), count)
        yield self._rate("batches of 1,000 events, through the door", rate, goal=60_000)
        rate = self._median(lambda ledger, _: _batched(ledger, lines, _parsed), count)
        yield self._rate("batches of 1,000 JSON lines, through the door", rate, goal=35_000)

    def storage(self) -> Measurement:
        """The file after everything was copied into it, less the payloads, for each entry."""
        count = 100_000 // self._scale
        folder = self._folder()
        payload = 0
        with _opened(folder) as ledger:
            for at in range(0, count, BATCH):
                events = [("binding.changed/1", self._binding(n)) for n in range(at, at + BATCH)]
                drafts = _drafts(events)
                ledger.writer.append(drafts, idempotency_key=f"batch {at}")
                payload += sum(len(draft.payload) for draft in drafts)
            size = ledger.reader.size()
        used = (folder / "asof.db").stat().st_size
        return Measurement(
            name="storage beyond the payload, indexes included",
            value=(used - payload) / size,
            unit="bytes/entry",
            goal=350,
            at_most=True,
        )

    # -------------------------------------------------------------------------- common

    def _median(self, run: Callable[[Ledger, int], float], count: int) -> float:
        def once() -> float:
            with _opened(self._folder()) as ledger:
                return run(ledger, count // self._scale)

        return median_of(once, times=self._runs)

    def _rate(
        self, name: str, value: float, *, goal: float | None = None, peer: float | None = None
    ) -> Measurement:
        self._context.say(f"{name}: {value:,.0f}/s")
        return Measurement(
            name=name,
            value=value,
            unit="entries/s",
            goal=goal,
            peer=None if peer is None else "eventsourcing SQLite recorder",
            ratio=None if peer is None else value / peer,
        )

    def _folder(self) -> Path:
        self._made += 1
        folder = self._context.folder / f"append-{self._made}"
        folder.mkdir()
        return folder

    def _binding(self, number: int) -> Data:
        """A real event of 0.5 kB."""
        return {
            "pipeline": f"demand-forecast-{number % STREAMS}",
            "stage": "production",
            "slot": "model",
            "asset_version": f"model/forecaster@{number}",
            "previous": f"model/forecaster@{number - 1}" if number else None,
            "reason": "retrained on the data of last week; " + self._random.randbytes(150).hex(),
        }


def _opened(folder: Path) -> Ledger:
    return create_ledger(f"sqlite:///{folder / 'asof.db'}", origin="ledger.example.com/bench")


def _note(number: int) -> Draft:
    payload = b'{"text":"%s"}' % (b"x" * 488)
    return Draft(
        type="note.added/1", stream=f"note/{number % STREAMS}", actor=ACTOR, payload=payload
    )


def _one_by_one(ledger: Ledger, count: int) -> float:
    begin = time.perf_counter()
    for number in range(count):
        done = ledger.writer.append([_note(number)])
    rate = count / (time.perf_counter() - begin)
    check_receipt(done.receipts[0], ledger.vkey)
    return rate


def _from_threads(ledger: Ledger, count: int) -> float:
    def append_all(thread: int) -> None:
        for number in range(thread, count, IN_FLIGHT):
            ledger.writer.append([_note(number)])

    threads = [threading.Thread(target=append_all, args=(n,)) for n in range(IN_FLIGHT)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - begin)


def _from_futures(ledger: Ledger, count: int) -> float:
    waiting: deque[Future[Appended]] = deque()
    begin = time.perf_counter()
    for number in range(count):
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().result()
        waiting.append(ledger.writer.submit([_note(number)]))
    for future in waiting:
        future.result()
    return count / (time.perf_counter() - begin)


def _batched(
    ledger: Ledger, pieces: Sequence[Piece], made: Callable[[Piece], list[Draft]]
) -> float:
    """Make drafts of each piece and submit them, a few batches ahead of the disk."""
    waiting: deque[Future[Appended]] = deque()
    before = ledger.reader.size()
    begin = time.perf_counter()
    for piece in pieces:
        if len(waiting) == BATCHES_IN_FLIGHT:
            waiting.popleft().result()
        waiting.append(ledger.writer.submit(made(piece)))
    last = [future.result() for future in waiting][-1]
    took = time.perf_counter() - begin
    check_receipt(last.receipts[-1], ledger.vkey)
    return (ledger.reader.size() - before) / took


def _drafts(events: Sequence[tuple[str, Data]]) -> list[Draft]:
    now = system_clock()
    return [draft(event, actor=ACTOR, now=now) for event in events]


def _parsed(lines: bytes) -> list[Draft]:
    return parse_drafts(lines, ACTOR, system_clock())


def _lines(events: Sequence[tuple[str, Data]]) -> bytes:
    return b"\n".join(json.dumps({"type": name, "data": data}).encode() for name, data in events)


def _peer_rate(ledger: Ledger, count: int) -> float:
    """eventsourcing's recorder on a file beside the ledger's, with its own settings."""
    from uuid import uuid4

    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

    path = sqlite_path(ledger.store.url).with_name("peer.db")
    with closing(SQLiteDatastore(str(path))) as datastore:
        recorder = SQLiteApplicationRecorder(datastore)
        recorder.create_table()
        payload = _note(0).payload
        streams = [uuid4() for _ in range(STREAMS)]
        begin = time.perf_counter()
        for number in range(count):
            event = StoredEvent(
                streams[number % STREAMS], number // STREAMS + 1, "note.added/1", payload
            )
            recorder.insert_events([event])
        return count / (time.perf_counter() - begin)
