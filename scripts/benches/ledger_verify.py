"""Verifying a SQLite ledger in full: one worker, two workers, memory.

A million entries with payloads of 0.5 kB in 1,000 streams. Every step is done: SQLite's own check
with its indexes, commitments, entries, chain, streams, tiles, root, checkpoint, keys. Each run is a
process of its own, so that its memory can be read; the file is in the page cache in each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ledger.draft import Draft
from ledger.opening import create_ledger
from scripts.benches.harness import Context, Measurement

ENTRIES = 1_000_000
BATCH = 10_000
STREAMS = 1_000
PAYLOAD_BYTES = 500
CHECKOUT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, resource, sys, time
from api.tuning import tune_for_writing
from ledger.audit import verify_url
from ledger.note import parse_vkey

if __name__ == "__main__":
    tune_for_writing()  # as `asof verify` does
    url, vkey, workers = sys.argv[1], parse_vkey(sys.argv[2]), int(sys.argv[3])
    begun = time.perf_counter()
    report = verify_url(url, vkey=vkey, workers=workers)
    seconds = time.perf_counter() - begun
    with open("/proc/self/status") as status:  # getrusage counts what the parent had before exec
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    print(json.dumps([report.result, report.entries, seconds, peak]))
"""


def rows(context: Context) -> Iterator[Measurement]:
    """Entries a second with one and two workers, their ratio, and the largest process's memory."""
    entries = ENTRIES // 10 if context.quick else ENTRIES
    url, vkey = _written(context, entries)
    program = context.folder / "verify_once.py"
    program.write_text(PROGRAM, "utf-8")
    one = sorted(_verified(program, url, vkey, 1) for _ in range(3))[1]
    two = sorted(_verified(program, url, vkey, 2) for _ in range(3))[1]
    rate = entries / one[0]
    yield Measurement(
        name=f"verify, {entries:,} entries, one worker", value=rate, unit="entries/s", goal=200_000
    )
    yield Measurement(
        name="verify, two workers",
        value=entries / two[0],
        unit="entries/s",
        peer="one worker",
        ratio=one[0] / two[0],
    )
    yield Measurement(name="two workers against one", value=one[0] / two[0], unit="times", goal=1.7)
    peak = max(one[1], two[1])
    yield Measurement(
        name="verify, memory of a process", value=peak, unit="MiB", goal=150, at_most=True
    )


def _written(context: Context, entries: int) -> tuple[str, str]:
    """A ledger of so many entries; its URL and verifier key."""
    from ledger.note import format_vkey

    context.say(f"writing {entries:,} entries to verify")
    url = f"sqlite:///{context.folder}/verify.db"
    with create_ledger(url, origin="ledger.example.com/bench") as ledger:
        for start in range(1, entries, BATCH):
            ledger.writer.append([_draft(i) for i in range(start, min(entries, start + BATCH))])
        return url, format_vkey(ledger.vkey)


def _draft(number: int) -> Draft:
    text = "x" * (PAYLOAD_BYTES - 30)
    return Draft(
        type="note.added/1",
        stream=f"note/{number % STREAMS}",
        actor=f"service:trainer-{number % 8}",
        payload=json.dumps({"n": number, "text": text}).encode(),
    )


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
