"""The same single appends where each fsync takes 2 ms longer: a network disk, a busy cloud volume.

The server itself does it, to all its clients alike: `commit_delay` waits before each flush of the
log, `commit_siblings = 0` also for one who is alone. That it does is measured before it is used.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator

import psycopg

from api.tuning import tune_for_writing
from scripts.benches.harness import Context, Measurement
from scripts.benches.postgres_appends import from_64_futures, from_64_threads
from scripts.benches.postgres_peers import eventsourcing_rate
from scripts.benches.postgres_world import Server, server

DELAY_MICROSECONDS = 2_000


def rows(context: Context) -> Iterator[Measurement]:
    """One commit, eventsourcing, ours; as it is and with the delay; then how the ratio moved."""
    tune_for_writing()
    seconds = 1.0 if context.quick else 4.0
    with server(context) as started:
        fast = yield from _compared(context, started, seconds, "")
        begin = _commit_ms(started)
        _delay(started, DELAY_MICROSECONDS)
        try:
            added = _commit_ms(started) - begin
            yield Measurement(
                name="what a commit takes longer (2 ms were asked for)",
                value=added,
                unit="ms",
                goal=1.8,
            )
            slow = yield from _compared(context, started, seconds, ", fsync + 2 ms")
        finally:
            _delay(started, 0)
    yield Measurement(
        name="the ratio to eventsourcing, with 2 ms against without",
        value=slow / fast,
        unit="times",
        goal=1,
    )


def _compared(
    context: Context, started: Server, seconds: float, where: str
) -> Generator[Measurement, None, float]:
    """Both, and their ratio as the value of the generator."""
    peer = eventsourcing_rate(started, seconds, pool=8)
    yield _row(context, f"eventsourcing, 64 threads{where}", peer, who="eventsourcing")
    with started.ledger() as ledger:
        threads = from_64_threads(ledger, seconds)
    with started.ledger() as ledger:
        best = max(threads, from_64_futures(ledger, seconds))
    yield _row(context, f"asof, 64 in flight{where}", best, peer=peer)
    return best / peer


def _row(
    context: Context, name: str, value: float, *, who: str = "asof", peer: float | None = None
) -> Measurement:
    context.say(f"{name}: {value:,.0f}/s")
    return Measurement(
        name=name,
        value=value,
        unit="events/s",
        who=who,
        chart="a slow disk",
        peer=None if peer is None else "eventsourcing",
        ratio=None if peer is None else value / peer,
    )


def _commit_ms(started: Server, times: int = 60) -> float:
    """The median milliseconds of one commit by one client."""
    with psycopg.connect(started.admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS commit_probe (n integer)")
        samples = []
        for number in range(times):
            begin = time.perf_counter()
            connection.execute("INSERT INTO commit_probe VALUES (%s)", (number,))
            samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1000


def _delay(started: Server, microseconds: int) -> None:
    started.run(
        f"ALTER SYSTEM SET commit_delay = {microseconds}",
        "ALTER SYSTEM SET commit_siblings = 0",
        "SELECT pg_reload_conf()",
    )
    time.sleep(0.5)  # the reload reaches each process at its next command
