"""From the spool into the ledger: each delivery is translated and recorded, again and again until
the ledger has it or it is clear that it never can.

What waits is offered to the ledger in its order, many recordings at a time, so that one commit
takes in many. One that fails does not hold up the others; its keys make the next try the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from api.service.ingest.spool import Spool, Waiting
from api.service.permissions import check_recordable
from api.service.problems import ProblemError
from api.service.requests import now_micros
from ledger.errors import AsofError, KeyReusedError, MalformedError, RefusedError
from ledger.events.lines import draft_of

if TYPE_CHECKING:
    from api.service.ledgers import Ledgers, Served
    from ledger.draft import Draft

__all__ = ["Ingest", "Translate"]

LOOK_SECONDS: Final = 1.0
MOST_AT_ONCE: Final = 100
MOST_IN_FLIGHT: Final = 64
MOST_PAUSE: Final = 300.0


class Recordable(Protocol):
    """Events and the key under which they are recorded once (`connectors.arriving.Recording`)."""

    @property
    def key(self) -> str: ...
    @property
    def events(self) -> Any: ...
    @property
    def of_sender(self) -> bool: ...
    @property
    def otherwise(self) -> Any: ...


Translate = Callable[[Mapping[str, str], bytes], list[Any]]


class Ingest:
    """Owns the task that empties the spool. `translators` by the system's name; what the systems
    `in_order` tell is recorded one after the other, while the ledger takes it.
    """

    def __init__(
        self,
        spool: Spool,
        ledgers: Ledgers,
        translators: Mapping[str, Translate],
        *,
        in_order: Collection[str] = (),
    ) -> None:
        self.spool = spool
        self._in_order = frozenset(in_order)
        self._ledgers = ledgers
        self._translators = translators
        self._wanted = asyncio.Event()
        self._in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)

    async def take(
        self,
        here: Served,
        system: str,
        *,
        delivery: str,
        actor: str,
        headers: Mapping[str, str],
        body: bytes,
        happened: bool = False,
    ) -> bool:
        """Check that it can be translated, and keep it; durable when it returns. False where it was
        delivered before.

        Raises MalformedError with the place, RefusedError for events of the service's own,
        StoreError where the spool does not take it. With `happened` what cannot be translated is
        kept as dead instead: the sender tells a fact, and will not tell it again.
        """
        dead = None
        try:
            self._check(system, actor, headers, body)
        except (MalformedError, RefusedError) as error:
            if not happened:
                raise
            dead = str(error)
        new = await asyncio.to_thread(
            self.spool.take,
            here.name,
            system,
            delivery=delivery,
            actor=actor,
            headers=headers,
            body=body,
            dead=dead,
        )
        self._wanted.set()
        return new

    async def retry(self, ledger: str, delivery: int) -> bool:
        """Try a dead delivery again; whether there is such a one. Raises ConflictError where its
        body was not kept.
        """
        found = await asyncio.to_thread(self.spool.retry, ledger, delivery)
        self._wanted.set()
        return found

    def _check(self, system: str, actor: str, headers: Mapping[str, str], body: bytes) -> None:
        now = now_micros()
        for recording in self._translators[system](headers, body):
            for one in (recording, recording.otherwise):
                if one is not None:
                    list(_drafts(one, actor, now))

    async def watch(self) -> None:
        """Record what waits, until cancelled."""
        while True:
            try:
                found = await self.drain()
            except Exception:
                structlog.get_logger("asof").exception("ingest")
                found = 0
            if found == 0:
                await self._rest()

    async def drain(self) -> int:
        """Record what waits now; how many deliveries were dealt with."""
        waiting = await asyncio.to_thread(self.spool.waiting, limit=MOST_AT_ONCE)
        await asyncio.gather(*(self._record_all(group) for group in self._grouped(waiting)))
        return len(waiting)

    def _grouped(self, waiting: list[Waiting]) -> Iterable[list[Waiting]]:
        """What is recorded side by side; within a group one comes after the other."""
        groups: dict[object, list[Waiting]] = {}
        for one in waiting:
            follows = one.system in self._in_order
            groups.setdefault((one.ledger, one.system) if follows else one.id, []).append(one)
        return groups.values()

    async def _record_all(self, group: list[Waiting]) -> None:
        for one in group:
            await self._record(one)

    async def _rest(self) -> None:
        self._wanted.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _record(self, one: Waiting) -> None:
        here = self._ledgers.get(one.ledger)
        try:
            if here is None:
                raise ProblemError("unavailable", f"the ledger {one.ledger} is not served now")
            await self._append_all(
                here, self._translators[one.system](one.headers, one.body), one.actor
            )
        except (MalformedError, RefusedError) as error:
            await asyncio.to_thread(self.spool.dead, one.id, str(error))
            _tell("dead", one, error)
        except (AsofError, ProblemError) as error:
            pause = min(MOST_PAUSE, 0.5 * 2 ** min(one.attempts, 12))
            await asyncio.to_thread(self.spool.later, one.id, pause, str(error))
            _tell("later", one, error)
        except Exception as error:  # a mistake of ours: it must not keep the others from their turn
            structlog.get_logger("asof").exception("ingest")
            await asyncio.to_thread(self.spool.later, one.id, MOST_PAUSE, type(error).__name__)
            _tell("later", one, error)
        else:
            await asyncio.to_thread(self.spool.done, one.id)

    async def _append_all(self, here: Served, recordings: list[Any], actor: str) -> None:
        """Record them; raises the first thing that went wrong, once nothing is under way."""

        async def append(recording: Recordable) -> None:
            async with self._in_flight:  # first come, first served: the order stays
                await _append(here, recording, actor)

        tasks = [asyncio.create_task(append(one)) for one in recordings]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


async def _append(here: Served, recording: Recordable, actor: str) -> None:
    """Record it once. Where its key stands for other events, the first that arrived stand, and what
    the recording has for that case is recorded beside them.
    """
    drafts = list(_drafts(recording, actor, now_micros()))
    scope = f"{actor}/" if recording.of_sender else ""
    try:
        await here.append(drafts, key=f"ingest/{scope}{recording.key}")
    except KeyReusedError:
        if recording.otherwise is not None:
            await _append(here, recording.otherwise, actor)


def _drafts(recording: Recordable, actor: str, now: int) -> Iterator[Draft]:
    for event in recording.events:
        check_recordable(str(event.get("type", "")), "")
        yield draft_of(dict(event), actor, now)


def _tell(what: str, one: Waiting, error: Exception) -> None:
    structlog.get_logger("asof").warning(
        "ingest",
        outcome=what,
        ledger=one.ledger,
        system=one.system,
        delivery=one.delivery[:100],
        problem=type(error).__name__,
    )
