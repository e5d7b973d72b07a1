"""How long an as-of state takes, and how fast entries are indexed and replayed.

The ledger is a plausible one: five pipelines of 20 slots, versions recorded and bound, runs that
begin and end, monitoring in between, one change in twenty arriving late. Questions are drawn at
random from all four cases of (at, known_at), at 10,000 entries and at 1,000,000 of the same kind.
"""

from __future__ import annotations

import math
import random
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from ledger.canonical import format_json, format_time
from ledger.draft import Draft
from ledger.opening import Ledger, create_ledger
from ledger.reader import Reader
from projections.at import Moment
from projections.index import Index
from projections.replay import replayed
from projections.state import state
from scripts.benches.harness import Context, Measurement

__all__ = ["rows"]

SECOND = 1_000_000
START = 1_795_000_000 * SECOND
PIPELINES = tuple((f"pipeline-{number}", "production") for number in range(5))
SLOTS = tuple(f"slot/{number:02}" for number in range(20))
KINDS = ("dataset", "model", "code", "feature", "environment")
BATCH = 1_000
SMALL = 10_000
LARGE = 1_000_000
QUESTIONS = 1_000
ASKED = PIPELINES[0]


def rows(context: Context) -> Iterator[Measurement]:
    """All figures of this part."""
    large = LARGE // 10 if context.quick else LARGE
    with ExitStack() as stack:
        small_ledger = stack.enter_context(_ledger(context, "small", SMALL))
        small_index = _indexed(stack, context.folder / "small.index", small_ledger.reader)
        large_ledger = stack.enter_context(_ledger(context, "large", large))
        context.say(f"indexing {large:,} entries")
        begin = time.perf_counter()
        large_index = _indexed(stack, context.folder / "large.index", large_ledger.reader)
        rate = large / (time.perf_counter() - begin)
        yield Measurement(name=f"index, {large:,} entries", value=rate, unit="entries/s")
        yield from _states(context, (small_ledger, small_index), (large_ledger, large_index), large)
        yield from _replays(context, large_ledger.reader, large)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Measurement(name="peak memory of all this", value=peak, unit="MiB")


def _states(
    context: Context, small: tuple[Ledger, Index], large: tuple[Ledger, Index], size: int
) -> Iterator[Measurement]:
    before = _times(context, *small)
    after = _times(context, *large)
    yield Measurement(
        name=f"state of 20 slots at {SMALL:,} entries, p99", value=_p99(before), unit="ms"
    )
    yield Measurement(
        name=f"state of 20 slots at {size:,} entries, p99",
        value=_p99(after),
        unit="ms",
        goal=10,
        at_most=True,
    )
    yield Measurement(name="the same, median", value=statistics.median(after), unit="ms")
    yield Measurement(
        name=f"median at {size:,} over median at {SMALL:,}",
        value=statistics.median(after) / statistics.median(before),
        unit="×",
        goal=1.5,
        at_most=True,
    )
    yield Measurement(
        name=f"p99 at {size:,} over p99 at {SMALL:,}",
        value=_p99(after) / _p99(before),
        unit="×",
        goal=1.5,
        at_most=True,
    )


def _replays(context: Context, reader: Reader, size: int) -> Iterator[Measurement]:
    now = reader.head().recorded_at
    for verified, goal in ((False, 200_000), (True, None)):
        context.say(f"replaying {size:,} entries{', verified' if verified else ''}")
        begin = time.perf_counter()
        replayed(reader, *ASKED, now=now, verified=verified)
        yield Measurement(
            name=f"replay, {'each entry verified' if verified else 'as stored'}",
            value=size / (time.perf_counter() - begin),
            unit="entries/s",
            goal=goal,
        )


# --- questions ----------------------------------------------------------------------------------


def _times(context: Context, ledger: Ledger, index: Index) -> list[float]:
    """Milliseconds of each question, after a few to warm up."""
    chance = random.Random(context.seed)
    reader, samples = ledger.reader, []
    size, now = reader.size(), reader.head().recorded_at
    for number in range(QUESTIONS + 50):
        at, known = _moment(chance, reader, size), _moment(chance, reader, size)
        case = number % 4
        begin = time.perf_counter()
        state(
            reader,
            index,
            *ASKED,
            at=at if case in (1, 3) else None,
            known_at=known if case in (2, 3) else None,
            now=now,
        )
        samples.append((time.perf_counter() - begin) * 1000)
    return samples[50:]


def _moment(chance: random.Random, reader: Reader, size: int) -> Moment:
    record = reader.entry(chance.randrange(size // 10, size))
    place = chance.random() < 0.5
    return Moment(text="", instant=record.recorded_at, size=record.index + 1 if place else None)


def _p99(samples: list[float]) -> float:
    return sorted(samples)[math.ceil(len(samples) * 0.99) - 1]


# --- the ledger ---------------------------------------------------------------------------------


def _indexed(stack: ExitStack, path: Path, reader: Reader) -> Index:
    index = stack.enter_context(closing(Index.open(path, reader)))
    index.catch_up()
    return index


def _ledger(context: Context, name: str, size: int) -> Ledger:
    context.say(f"writing {size:,} entries")
    clock = _Clock()
    ledger = create_ledger(
        f"sqlite:///{context.folder / name}.db",
        origin=f"bench.example/{name}",
        keys=context.folder / f"{name}.keys",
        actor="service:bench",
        clock=clock,
    )
    events = _events(random.Random(context.seed), clock)
    for _ in range(0, size - 1, BATCH):
        clock.now += SECOND
        ledger.writer.append([next(events) for _ in range(BATCH)])
    return ledger


class _Clock:
    """A second for each batch, so that a ledger spans time whatever the speed of the machine."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def _events(chance: random.Random, clock: _Clock) -> Iterator[Draft]:
    for pipeline, stage in PIPELINES:
        slots = [{"slot": slot, "kind": KINDS[n % len(KINDS)]} for n, slot in enumerate(SLOTS)]
        yield _of_pipeline("pipeline.defined/1", pipeline, stage, {"slots": slots})
    number = 0
    while True:
        number += 1
        pipeline, stage = chance.choice(PIPELINES)
        place = chance.randrange(len(SLOTS))
        ref = f"{KINDS[place % len(KINDS)]}/asset-{place}@{number}"
        yield _recorded(ref, chance)
        bound = {"slot": SLOTS[place], "asset_version": ref, "reason": "passed the gate"}
        if chance.random() < 0.05:
            bound["effective_at"] = format_time(clock.now - chance.randrange(3600) * SECOND)
        yield _of_pipeline("binding.changed/1", pipeline, stage, bound)
        run = {"run": str(number), "kind": "training", "pipeline": pipeline, "stage": stage}
        yield _draft("run.started/1", f"run/{number}", run | {"inputs": [ref]})
        for _ in range(5):
            yield _observed(ref, chance)
        if number > 5:
            ended = {"status": "succeeded", "outputs": [], "metrics": {"mape_percent": 7.9}}
            yield _draft("run.finished/1", f"run/{number - 5}", ended)
        if number % 50 == 0:
            shares = {"shares": {ref: 100}, "mode": "live"}
            yield _of_pipeline("traffic.changed/1", pipeline, stage, shares)


def _recorded(ref: str, chance: random.Random) -> Draft:
    asset, _, version = ref.rpartition("@")
    kind, _, name = asset.partition("/")
    data = {
        "kind": kind,
        "name": name,
        "version": version,
        "digest": f"sha256:{chance.randbytes(32).hex()}",
        "location": f"data/{name}.bin",
        "source": {"system": "files", "ref": f"data/{name}.bin"},
        "metadata": {"rows": 210_400, "columns": ["day", "store", "units"]},
        "restorable": "restorable",
    }
    return _draft("asset.version.recorded/1", f"asset/{kind}/{name}", data)


def _observed(ref: str, chance: random.Random) -> Draft:
    data = {"subject": ref, "metrics": {"requests": chance.randrange(10_000), "mape_percent": 8.3}}
    return _draft("monitoring.observed/1", f"monitor/{ref}", data)


def _of_pipeline(kind: str, pipeline: str, stage: str, data: dict[str, object]) -> Draft:
    place = {"pipeline": pipeline, "stage": stage}
    return _draft(kind, f"pipeline/{pipeline}@{stage}", place | data)


def _draft(kind: str, stream: str, data: dict[str, object]) -> Draft:
    return Draft(type=kind, stream=stream, actor="service:trainer-0", payload=format_json(data))
