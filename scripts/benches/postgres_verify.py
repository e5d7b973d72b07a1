"""Verifying a ledger in PostgreSQL in full, from another process: rate, workers, memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from api.tuning import tune_for_writing
from ledger.note import format_vkey
from scripts.benches.harness import Context, Measurement, median_of
from scripts.benches.ledger_verify import PROGRAM
from scripts.benches.postgres_world import BATCH, Server, note, server

CHECKOUT = Path(__file__).resolve().parents[2]
ENTRIES = 1_000_000


def rows(context: Context) -> Iterator[Measurement]:
    """Entries a second with one worker and two; what a process needs for three times as many."""
    tune_for_writing()
    entries = ENTRIES // 10 if context.quick else ENTRIES
    program = context.folder / "verify_once.py"
    program.write_text(PROGRAM, "utf-8")
    runs = 1 if context.quick else 3
    with server(context) as started:
        small, whole = _written(context, started, entries // 3), _written(context, started, entries)
        runs_of_one = [_verified(program, *whole, 1) for _ in range(runs)]
        one = statistics.median(seconds for seconds, _ in runs_of_one)
        yield Measurement(
            name=f"verify, {entries:,} entries, one worker",
            value=entries / one,
            unit="entries/s",
            goal=150_000,
            chart="verify",
        )
        two = median_of(lambda: _verified(program, *whole, 2)[0], times=runs)
        yield Measurement(
            name="verify, two workers",
            value=entries / two,
            unit="entries/s",
            peer="one worker",
            ratio=one / two,
            chart="verify",
        )
        least, most = _verified(program, *small, 1)[1], runs_of_one[-1][1]
        yield Measurement(
            name="verify, memory of a process", value=most, unit="MiB", goal=150, at_most=True
        )
        yield Measurement(
            name="verify, memory for three times the entries",
            value=most / least,
            unit="times",
            goal=1.2,
            at_most=True,
        )


def _written(context: Context, started: Server, entries: int) -> tuple[str, str]:
    """A ledger of so many entries; its URL and verifier key."""
    context.say(f"writing {entries:,} entries to verify")
    with started.ledger() as ledger:
        pieces = range(1, entries, BATCH)
        waiting = [
            ledger.writer.submit([note(n) for n in range(at, min(entries, at + BATCH))])
            for at in pieces
        ]
        for future in waiting:
            future.result()
        settle(started.admin_of(ledger))
        return started.place_of(ledger)[0], format_vkey(ledger.vkey)


def settle(admin_url: str) -> None:
    """As the server does by itself, a minute after so many entries: a ledger that is verified has
    been there for longer than that."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def _verified(program: Path, url: str, vkey: str, workers: int) -> tuple[float, float]:
    """(seconds, MiB) of one verification in a process of its own."""
    time.sleep(0.2)
    done = subprocess.run(
        [sys.executable, str(program), url, vkey, str(workers)],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": ""},
    )
    result, _, seconds, peak = json.loads(done.stdout)
    if result != "VALID":
        raise AssertionError(f"the ledger that was just written is {result}")
    return seconds, peak
