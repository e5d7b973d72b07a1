"""Appends over HTTP: single ones, each acknowledged with its receipt, and batches of 500."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from scripts.benches.api_load import BATCH
from scripts.benches.api_world import World, world
from scripts.benches.harness import Context, Measurement

__all__ = ["rows"]

CONNECTIONS = 64
BATCH_CONNECTIONS = 8
RUNS = 3


def rows(context: Context) -> Iterator[Measurement]:
    """All figures of this part."""
    seconds = 3.0 if context.quick else 15.0
    with world(context) as there:
        there.load("single", seconds=2, connections=CONNECTIONS)  # to warm up
        yield from _single(there, seconds)
        yield from _batches(there, seconds, ())
        yield from _batches(there, seconds, ("--minimal",))
        yield Measurement(
            name="memory of the server, at most",
            value=there.memory_mib(),
            unit="MiB",
            goal=250,
            at_most=True,
        )
        there.verify()


def _single(there: World, seconds: float) -> Iterator[Measurement]:
    found = [there.load("single", seconds=seconds, connections=CONNECTIONS) for _ in range(RUNS)]
    rates = [one["statuses"]["201"] / one["seconds"] for one in found]
    yield Measurement(
        name=f"single appends over HTTP, {CONNECTIONS} connections",
        value=statistics.median(rates),
        unit="appends/s",
        goal=1_500,
        chart="appends over HTTP",
    )
    for name, goal in (("p50", None), ("p99", 100.0)):
        yield Measurement(
            name=f"the same, {name}",
            value=statistics.median(one[f"{name}_ms"] for one in found),
            unit="ms",
            goal=goal,
            at_most=True,
        )


def _batches(there: World, seconds: float, more: tuple[str, ...]) -> Iterator[Measurement]:
    found = there.load("batch", seconds=seconds, connections=BATCH_CONNECTIONS, more=more)
    receipts = "no receipts in the reply" if more else "a receipt for each event"
    yield Measurement(
        name=f"batches of {BATCH} over HTTP, {receipts}",
        value=found["statuses"]["201"] * BATCH / found["seconds"],
        unit="events/s",
        goal=20_000,
        chart="appends over HTTP",
    )
