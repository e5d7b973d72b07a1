"""What a recorded call costs the training thread, on this machine and this disk.

::

    $ python -m asof.bench
    default   median    22 µs    p99    41 µs    10,000 calls
    durable   median   261 µs    p99   480 µs     1,000 calls

No server is needed: sending is another thread's work, which waits for one here.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from asof.client import Client

__all__ = ["main", "measured"]


def measured(client: Client, calls: int) -> list[float]:
    """The seconds of each call."""
    times = []
    for number in range(calls):
        begin = time.perf_counter()
        client.record("note.added/1", {"text": f"step {number}"}, stream="note/bench")
        times.append(time.perf_counter() - begin)
    return times


def main() -> None:
    """Measure and print."""
    logging.getLogger("asof").disabled = True  # that nothing is sent is meant
    for name, durable, calls in (("default", False, 10_000), ("durable", True, 1_000)):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            client = Client(spool=Path(folder), durable=durable)
            times = measured(client, calls)
            client.close()
        median = statistics.median(times) * 1e6
        worst = statistics.quantiles(times, n=100)[98] * 1e6
        sys.stdout.write(
            f"{name}   median {median:5.0f} µs    p99 {worst:5.0f} µs  {calls:8,} calls\n"
        )


if __name__ == "__main__":
    main()
