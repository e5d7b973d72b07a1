"""Ingest in a child that kills itself (SIGKILL) at a named point; the sender goes on after it.

::

    sent = deliver_all(folder, Kill("appended", 2), count=5)
    check_each_once(folder, sent)

The sender does what senders do: what was not answered it sends again, to whatever runs then. It
knows of the world only the answers, which the child writes to a journal outside of everything.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from api.main import ingest_translators
from api.service.ingest.recording import Ingest
from api.service.ingest.spool import Spool
from api.service.ledgers import Ledgers
from ledger.draft import Draft
from ledger.opening import Ledger, create_ledger, open_ledger
from ledger.writer import Appended
from tests.support.kills import dies

__all__ = ["POINTS", "Kill", "KillingSpool", "check_each_once", "deliver_all", "spooled"]

POINTS = ("taking", "taken", "answered", "appending", "appended", "finished")
ACTOR = "service:airflow"


class Kill:
    """SIGKILL at the n-th time that `point` is reached."""

    def __init__(self, point: str, nth: int) -> None:
        self.point = point
        self.left = nth

    def at(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class KillingSpool(Spool):
    """The real spool, with a death before and after what it makes durable."""

    kill: Kill

    def take(self, *arguments: Any, **named: Any) -> bool:
        self.kill.at("taking")
        new = super().take(*arguments, **named)
        self.kill.at("taken")
        return new

    def done(self, delivery: int) -> None:
        super().done(delivery)
        self.kill.at("finished")


@dataclass
class _Here:
    """One ledger, as ingest needs it."""

    ledger: Ledger
    kill: Kill
    keyed: bool
    name: str = "acme"

    async def append(self, drafts: Sequence[Draft], *, key: str | None = None) -> Appended:
        self.kill.at("appending")
        done = await asyncio.to_thread(
            self.ledger.writer.append, drafts, idempotency_key=key if self.keyed else None
        )
        self.kill.at("appended")
        return done


def run_event(number: int) -> dict[str, Any]:
    """The end of a run, which records a beginning, a dataset and an end."""
    return {
        "eventType": "COMPLETE",
        "eventTime": "2026-11-20T09:00:00Z",
        "run": {"runId": f"run-{number}"},
        "job": {"namespace": "n", "name": "j"},
        "outputs": [{"namespace": "n", "name": f"made-{number}"}],
    }


def deliver_all(
    folder: Path,
    kill: Kill,
    *,
    count: int,
    spool: Callable[[Path], KillingSpool] = lambda path: KillingSpool(path),
    keyed: bool = True,
) -> int:
    """Send `count` deliveries; one child dies, the next goes on, alive. How many children died."""
    create_ledger(
        f"sqlite:///{folder}/asof.db", origin="ledger.example.com/acme", keys=folder / "keys"
    ).close()

    def deliver(one: Kill) -> bool:
        return dies(lambda: asyncio.run(_deliver(folder, one, count, spool, keyed)))

    return deliver(kill) + deliver(Kill("never", 1))


def spooled(folder: Path) -> Mapping[str, int]:
    """What the spool holds."""
    spool = Spool(folder / "spool.db")
    try:
        return spool.counts()
    finally:
        spool.close()


def check_each_once(folder: Path, count: int) -> None:
    """Each delivery that was answered is recorded, once: beginning, dataset and end. Raises
    AssertionError.
    """
    assert answered(folder) == set(range(count)), "the sender has an answer for each"
    with open_ledger(f"sqlite:///{folder}/asof.db", keys=folder / "keys") as ledger:
        told = sorted((r.type, r.stream) for r in ledger.reader.entries() if r.index > 0)
    expected = sorted(
        pair
        for n in range(count)
        for pair in (
            ("asset.version.recorded/1", f"asset/dataset/n/made-{n}"),
            ("run.finished/1", f"run/run-{n}"),
            ("run.started/1", f"run/run-{n}"),
        )
    )
    assert told == expected, "each once, none lost"
    assert spooled(folder)["waiting"] == 0 and spooled(folder)["dead"] == 0


def answered(folder: Path) -> set[int]:
    """What the sender knows to be taken."""
    journal = folder / "answers"
    return {int(line) for line in journal.read_text().split()} if journal.exists() else set()


async def _deliver(
    folder: Path, kill: Kill, count: int, spool: Callable[[Path], KillingSpool], keyed: bool
) -> None:
    """Take what the sender has no answer for, then record all that waits."""
    KillingSpool.kill = kill
    kept = spool(folder / "spool.db")
    with open_ledger(f"sqlite:///{folder}/asof.db", keys=folder / "keys") as ledger:
        here = cast("Any", _Here(ledger, kill, keyed))
        ingest = Ingest(kept, cast("Ledgers", {"acme": here}), ingest_translators())
        await ingest.drain()
        for number in sorted(set(range(count)) - answered(folder)):
            body = json.dumps(run_event(number)).encode()
            await ingest.take(
                here, "openlineage", delivery=f"d{number}", actor=ACTOR, headers={}, body=body
            )
            with (folder / "answers").open("a") as journal:
                journal.write(f"{number}\n")
            kill.at("answered")
            if number % 2:  # some are recorded while others come
                await ingest.drain()
        await ingest.drain()
