"""From the file of the states to the ledger: each fact is brought to the spool of deliveries, again
and again until it is there, in the order in which it happened.

The spool knows a fact that comes twice by its mark, and the ledger by the keys of its recordings;
so dying between the spool and `told` records nothing twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import orjson
import structlog

if TYPE_CHECKING:
    from api.service.ingest.recording import Ingest
    from api.service.ledgers import Ledgers
    from api.service.terraform.states import States

__all__ = ["SYSTEM", "Telling"]

SYSTEM: Final = "terraform-state"
"""What the translator is called (`api.main.ingest_translators`)."""

LOOK_SECONDS: Final = 1.0
MOST_AT_ONCE: Final = 100


class Telling:
    """Used in the event loop; `watch` runs as a task."""

    def __init__(self, states: States, ingest: Ingest, ledgers: Ledgers) -> None:
        self._states = states
        self._ingest = ingest
        self._ledgers = ledgers
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """There is something new."""
        self._wanted.set()

    async def watch(self) -> None:
        """Tell what there is to tell, until cancelled."""
        while True:
            self._wanted.clear()
            try:
                found = await self.drain()
            except Exception as error:  # the facts stay where they are, and are told later
                structlog.get_logger("asof").warning("terraform", problem=str(error))
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if found == 0:
                await self._rest()

    async def drain(self) -> int:
        """Bring what waits now to the spool; how many facts those were. Raises StoreError where the
        spool does not take one: those before it are there."""
        found = 0
        for here in self._ledgers.values():
            facts = await asyncio.to_thread(
                self._states.untold, here.reader.origin, limit=MOST_AT_ONCE
            )
            for fact in facts:
                await self._ingest.take(
                    here,
                    SYSTEM,
                    delivery=orjson.loads(fact.body)["mark"],
                    actor=fact.actor,
                    headers={},
                    body=fact.body,
                    happened=True,
                )
                await asyncio.to_thread(self._states.told, fact.id)
            found += len(facts)
        return found

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wanted.wait()
        except TimeoutError:
            pass
