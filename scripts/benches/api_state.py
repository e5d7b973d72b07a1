"""State questions over HTTP, of 20 slots at a million entries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote

from ledger.opening import Ledger
from scripts.benches.api_world import LEDGER, world
from scripts.benches.harness import Context, Measurement
from scripts.benches.ledger_state import _Clock, _events

__all__ = ["rows"]

SIZE = 1_000_000
BATCH = 5_000
CONNECTIONS = 4


def rows(context: Context) -> Iterator[Measurement]:
    """All figures of this part."""
    size = SIZE // (10 if context.quick else 1)
    asked: set[tuple[str, str]] = set()

    def fill(ledger: Ledger) -> None:
        context.say(f"appending {size:,} entries")
        events = islice(_events(random.Random(context.seed), _Clock()), size)
        waiting = []
        while batch := list(islice(events, BATCH)):
            for draft in batch:
                if draft.stream.startswith("pipeline/"):
                    name, _, stage = draft.stream.removeprefix("pipeline/").rpartition("@")
                    asked.add((name, stage))
            waiting.append(ledger.writer.submit(batch))
            if len(waiting) > 3:
                waiting.pop(0).result()
        for one in waiting:
            one.result()

    with world(context, fill) as there:
        chance = random.Random(context.seed)
        paths = there.folder / "paths"
        lines = []
        for name, stage in sorted(asked):
            where = f"/v1/ledgers/{LEDGER}/pipelines/{quote(name)}/stages/{quote(stage)}/state"
            lines.append(where)
            lines += [f"{where}?at=index:{chance.randrange(1_000, size)}" for _ in range(200)]
        paths.write_text("\n".join(lines))
        more = ("--paths", str(paths))
        context.say("the server indexes; the first questions wait for it")
        there.load("get", seconds=20 if context.quick else 90, connections=1, more=more)
        for connections, goal in ((1, 20.0), (CONNECTIONS, None)):
            found = there.load("get", seconds=15, connections=connections, more=more)
            if set(found["statuses"]) != {"200"}:
                raise AssertionError(found)
            for name in ("p50", "p99"):
                yield Measurement(
                    name=f"state over HTTP at {size:,}, {connections} at once, {name}",
                    value=found[f"{name}_ms"],
                    unit="ms",
                    goal=goal if name == "p99" else None,
                    at_most=True,
                )
        yield Measurement(
            name=f"memory of the server at {size:,} entries",
            value=there.memory_mib(),
            unit="MiB",
            goal=250,
            at_most=True,
        )
        there.verify()
