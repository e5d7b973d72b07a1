"""Ten times as many connections as the server answers well, for a minute; then back to normal.

What is looked at: only 2xx, 429 and 503; nothing that was acknowledged is lost, which the clients'
own journal is compared with the ledger for; and the p99 of normal work within ten seconds after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ledger.opening import open_ledger
from ledger.store import KeyUse
from scripts.benches.api_world import PRINCIPAL, World, world
from scripts.benches.harness import Context, Measurement

__all__ = ["lost", "rows"]

NORMAL = 64
OVERLOAD = 640


def rows(context: Context) -> Iterator[Measurement]:
    """All figures of this part."""
    seconds = 6.0 if context.quick else 60.0
    with world(context) as there:
        there.load("single", seconds=3, connections=NORMAL)
        before = there.load("single", seconds=5, connections=NORMAL)
        journal = there.folder / "journal"
        found = there.load(
            "single", seconds=seconds, connections=OVERLOAD, more=("--journal", str(journal))
        )
        after = there.load("single", seconds=8, connections=NORMAL)
        statuses = {int(status): count for status, count in found["statuses"].items()}
        context.say(f"under overload: {statuses}, failed connections {found['failed']}")
        others = sum(
            count for status, count in statuses.items() if status not in (200, 201, 429, 503)
        )
        yield _count("answers under overload that are not 2xx, 429, 503", others + found["failed"])
        yield _count(
            "acknowledged appends that are not in the ledger", _journal_and_ledger(there, journal)
        )
        rate = sum(statuses.get(status, 0) for status in (200, 201)) / found["seconds"]
        yield Measurement(name="acknowledged under overload", value=rate, unit="appends/s")
        yield Measurement(
            name="p99 of normal work in the 8 s after over that before",
            value=after["p99_ms"] / before["p99_ms"],
            unit="×",
            goal=1.5,
            at_most=True,
        )
        yield Measurement(
            name="memory of the server",
            value=there.memory_mib(),
            unit="MiB",
            goal=250,
            at_most=True,
        )
        there.verify()


def _journal_and_ledger(there: World, journal: Path) -> int:
    """How many acknowledgements the ledger does not bear out."""
    told = json.loads(journal.read_text(encoding="utf-8"))
    if not told:
        raise AssertionError("nothing was acknowledged under overload: there is nothing to look at")
    keys = Path(there.environment["ASOF_KEYS"])
    with open_ledger(there.environment["ASOF_STORE"], keys=keys, write=False) as ledger:
        return lost(told, ledger.store.key_use, ledger.reader.size())


def lost(told: Sequence[tuple[str, int]], use_of: Callable[[str], KeyUse | None], size: int) -> int:
    """Of what was told, (key, index), how much is not what the key was used for within the first
    `size` entries; an index that was told twice counts, too."""
    wrong = len(told) - len({index for _, index in told})
    for key, index in told:
        use = use_of(f"http/{PRINCIPAL}/{key}")
        wrong += use is None or use.first_index != index or index >= size
    return wrong


def _count(name: str, value: int) -> Measurement:
    return Measurement(name=name, value=float(value), unit="", goal=0, at_most=True)
