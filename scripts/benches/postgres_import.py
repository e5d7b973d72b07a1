"""Many events into PostgreSQL: through the door or validated before, against raw COPY and INSERT.

The raw peers write the same rows into a table with the same columns and keys, and nothing else: no
door, no hash, no check, no trigger. What the ledger adds is what the ratio shows.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TypeVar

from api.event_files import JsonLines
from api.import_pieces import others_here, pieces_of
from api.importing import append_events, check_events
from api.tuning import tune_for_writing
from ledger.clock import system_clock
from ledger.draft import Draft
from ledger.opening import Ledger, create_ledger
from ledger.receipt import check_receipt
from ledger.store import Row
from ledger.writer import Appended
from scripts.benches.harness import Context, Measurement, median_of
from scripts.benches.postgres_peers import copy_rate, hangs_on_a_batch, insert_rate
from scripts.benches.postgres_world import ACTOR, BATCH, Event, Server, drafts_of, events, server

EVENTS = 150_000
LARGE_BATCH = 10_000
WORKERS = others_here()
AHEAD = 8_000
"""Events on their way at a time."""

Piece = TypeVar("Piece")


def rows(context: Context) -> Iterator[Measurement]:
    """Raw COPY and INSERT, then ours."""
    tune_for_writing()
    with server(context) as started:
        yield from _Import(context, started).rows()


class _Import:
    def __init__(self, context: Context, started: Server) -> None:
        self._context = context
        self._server = started
        self._runs = 1 if context.quick else 3
        total = EVENTS // 10 if context.quick else EVENTS
        self._events = events(total, Random(context.seed))
        self._drafts = drafts_of(self._events)
        self._rows = _rows_of(self._drafts)
        context.say(f"{total:,} events, payload {len(self._drafts[0].payload)} bytes")
        gc.freeze()

    def rows(self) -> Iterator[Measurement]:
        yield from self._prepared()
        yield from self._hanging()
        inserted = insert_rate(self._server, self._rows[: len(self._rows) // 5], BATCH)
        yield self._row(
            "raw INSERT (executemany), transactions of 1,000", inserted, who="PostgreSQL"
        )
        chunks = _chunks(self._drafts, BATCH)
        alone = self._median(lambda ledger: _one_at_a_time(ledger, chunks))
        yield self._row("asof, batches of 1,000, one at a time", alone)
        pieces, rate, ratio = self._in_turn(BATCH, BATCH)
        yield self._row("raw COPY, transactions of 1,000", pieces, who="PostgreSQL")
        yield self._row("asof, batches of 1,000, validated before", rate)
        yield self._ratio("batches of 1,000 against raw COPY, same transactions", ratio, 0.75)
        whole, rate, ratio = self._in_turn(len(self._rows), LARGE_BATCH)
        yield self._row("raw COPY, in one go", whole, who="PostgreSQL")
        yield self._row("asof, batches of 10,000, validated before", rate)
        yield self._ratio("batches of 10,000 against raw COPY in one go", ratio, 0.6)
        yield from self._imported(whole)

    def _prepared(self) -> Iterator[Measurement]:
        """What one core does before anything is sent: parse, validate, commit to. In its own time,
        which others on the machine do not count in.
        """
        lines = _lines(self._events)

        def once() -> float:
            begin = time.process_time()
            for _ in pieces_of(JsonLines(BytesIO(lines)), actor=ACTOR, clock=system_clock):
                pass
            return len(self._events) / (time.process_time() - begin)

        rate = median_of(once, times=self._runs)
        yield self._row("lines parsed, validated and prepared, one core", rate, goal=50_000)

    def _hanging(self) -> Iterator[Measurement]:
        """eventsourcing's recorder deadlocks with the server once both buffers are full."""
        for count in (1_000, 20_000):
            hangs = hangs_on_a_batch(self._server, count)
            yield Measurement(
                name=f"eventsourcing, one append of {count:,} events ends within 5 s",
                value=float(not hangs),
                unit="1 = yes",
                who="eventsourcing",
            )

    def _imported(self, raw: float) -> Iterator[Measurement]:
        """What a user does: with the library, event by event or with a file; with the program."""
        for size in (BATCH, LARGE_BATCH):
            chunks = _chunks(self._events, size)
            rate = self._median(lambda ledger, c=chunks: _ahead(ledger, c, drafts_of))  # type: ignore[misc]
            yield self._row(f"asof, batches of {size:,}, through the door", rate)
        lines = _lines(self._events)
        rate = self._median(lambda ledger: _streamed(ledger, lines))
        yield self._row("JSON lines in one pass (--skip-bad)", rate)
        yield self._ratio("import in one pass against raw COPY in one go", rate / raw, 0.6)
        rate = self._median(lambda ledger: _checked(ledger, lines))
        yield self._row("JSON lines, all checked before", rate)
        yield self._ratio("import, checked before, against raw COPY in one go", rate / raw, 0.6)
        yield from self._by_the_program(lines, raw)

    def _by_the_program(self, lines: bytes, raw: float) -> Iterator[Measurement]:
        file = self._context.folder / "history.jsonl"
        file.write_bytes(lines)
        for name, options in (("", ()), (" --skip-bad", ("--skip-bad", str(file) + ".bad"))):
            rate = self._median(lambda ledger, o=options: self._program(ledger, file, o))  # type: ignore[misc]
            yield self._row(f"asof import FILE{name}, with the start of the program", rate)
            yield Measurement(
                name=f"asof import FILE{name} against raw COPY in one go",
                value=rate / raw,
                unit="of raw COPY",
            )

    def _program(self, ledger: Ledger, file: Path, options: Sequence[str]) -> float:
        """The command in a process of its own, from its start to its end."""
        url, keys = self._server.place_of(ledger)
        command = [sys.executable, "-m", "api.cli", "--store", url, "import", str(file), *options]
        command += ["--actor", ACTOR, "-o", "json"]
        begin = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | {"ASOF_KEYS": str(keys)}, capture_output=True, check=True
        )
        took = time.perf_counter() - begin
        return float(json.loads(done.stdout)["recorded"]) / took

    def _in_turn(self, copied: int, batch: int) -> tuple[float, float, float]:
        """Medians of raw COPY by so many rows, of our batches, and of ours over the COPY just
        before: what the disk does with what was written earlier happens to both.
        """
        chunks, raw, ours = _chunks(self._drafts, batch), [], []
        for _ in range(2 * self._runs - 1):
            raw.append(copy_rate(self._server, self._rows, copied))
            with self._server.ledger() as ledger:
                ours.append(_ahead(ledger, chunks, list))
        ratios = [one / other for one, other in zip(ours, raw, strict=True)]
        return statistics.median(raw), statistics.median(ours), statistics.median(ratios)

    def _median(self, run: Callable[[Ledger], float]) -> float:
        def once() -> float:
            with self._server.ledger() as ledger:
                return run(ledger)

        return median_of(once, times=self._runs)

    def _row(
        self, name: str, value: float, *, who: str = "asof", goal: float | None = None
    ) -> Measurement:
        self._context.say(f"{name}: {value:,.0f}/s")
        return Measurement(
            name=name, value=value, unit="events/s", who=who, goal=goal, chart="many events"
        )

    def _ratio(self, name: str, value: float, goal: float) -> Measurement:
        return Measurement(name=name, value=value, unit="of raw COPY", goal=goal)


def _rows_of(drafts: Sequence[Draft]) -> list[Row]:
    """The very rows that a ledger would store."""
    with create_ledger("memory:", origin="ledger.example.com/bench") as ledger:
        for piece in _chunks(drafts, LARGE_BATCH):
            ledger.writer.append(piece)
        return list(ledger.store.rows(0, ledger.reader.size()))


def _chunks(given: Sequence[Piece], size: int) -> list[list[Piece]]:
    return [list(given[at : at + size]) for at in range(0, len(given), size)]


def _one_at_a_time(ledger: Ledger, chunks: Sequence[list[Draft]]) -> float:
    begin = time.perf_counter()
    for piece in chunks:
        ledger.writer.append(piece)
    return sum(map(len, chunks)) / (time.perf_counter() - begin)


def _ahead(
    ledger: Ledger, chunks: Sequence[list[Piece]], made: Callable[[list[Piece]], list[Draft]]
) -> float:
    """Drafts are made and batches prepared while earlier ones commit."""
    waiting: deque[Future[Appended]] = deque()
    window = max(2, AHEAD // len(chunks[0]))
    begin = time.perf_counter()
    for piece in chunks:
        if len(waiting) == window:
            waiting.popleft().result()
        waiting.append(ledger.writer.submit(made(piece)))
    last = [future.result() for future in waiting][-1]
    took = time.perf_counter() - begin
    check_receipt(last.receipts[-1], ledger.vkey)
    return sum(map(len, chunks)) / took


def _lines(given: Sequence[Event]) -> bytes:
    return b"".join(
        json.dumps({"type": name, "data": data}).encode() + b"\n" for name, data in given
    )


def _streamed(ledger: Ledger, lines: bytes) -> float:
    begin = time.perf_counter()
    source = JsonLines(BytesIO(lines))
    pieces = pieces_of(source, actor=ACTOR, clock=system_clock, workers=WORKERS)
    with closing(pieces):
        done = append_events(ledger.writer, pieces, progress=_silent)
    return done.recorded / (time.perf_counter() - begin)


def _checked(ledger: Ledger, lines: bytes) -> float:
    begin = time.perf_counter()
    source = JsonLines(BytesIO(lines))
    with check_events(
        source, actor=ACTOR, clock=system_clock, workers=WORKERS, progress=_silent
    ) as checked:
        done = append_events(ledger.writer, checked.pieces(), progress=_silent)
    return done.recorded / (time.perf_counter() - begin)


def _silent(done: int, total: int | None) -> None:
    """Nobody looks."""
