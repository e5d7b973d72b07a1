"""The task that delivers: entry after entry, each subscription for itself, again until it is taken.

A receiver that answers 2xx has taken it. Anything else is tried again after growing pauses, up to
some hours; after `PATIENCE` without a success the subscription is disabled, and says so. Nothing
is skipped: what comes later waits behind what was not taken. Each subscription has its turn in a
task of its own, and each delivery a time in which it must be through: a receiver that is slow, or
answers a byte at a time, keeps no other waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx2
import orjson
import structlog
from standardwebhooks.webhooks import Webhook

from api.service.outgoing.addresses import Address, Allowed, resolved
from api.service.outgoing.subscriptions import Subscription
from api.service.problems import ProblemError
from api.service.requests import now_micros
from ledger.canonical import format_time
from ledger.errors import AsofError, RefusedError

if TYPE_CHECKING:
    from api.service.ledgers import Ledgers
    from api.service.outgoing.subscriptions import Subscriptions
    from ledger.record import Record

__all__ = ["Sending"]

LOOK_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 15.0
FIRST_PAUSE: Final = 2.0
MOST_PAUSE: Final = 6 * 3_600.0
PATIENCE: Final = 5 * 86_400
PAGE: Final = 50
MOST_AT_ONCE: Final = 256
RESOLVERS: Final = 4
MOST_REPLY: Final = 64 << 10


class Sending:
    """Used in the event loop; `watch` runs as a task."""

    def __init__(self, kept: Subscriptions, ledgers: Ledgers, allowed: Allowed) -> None:
        self.kept = kept
        self.allowed = allowed
        self._ledgers = ledgers
        self._tls = httpx2.create_ssl_context()
        # Threads of their own: a name server that does not answer must not hold up the disk's.
        self._resolvers = ThreadPoolExecutor(RESOLVERS, "asof-resolve")

    def client(self) -> httpx2.AsyncClient:
        """A client for one subscription. Connections are made to addresses, so one client for
        several hosts would use the connection of one name for another at the same address.
        """
        return httpx2.AsyncClient(
            timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, verify=self._tls
        )

    async def watch(self) -> None:
        """Deliver what comes, until cancelled."""
        busy: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                busy = {name: task for name, task in busy.items() if not task.done()}
                for one in await self._due():
                    if one.id not in busy and len(busy) < MOST_AT_ONCE:
                        busy[one.id] = asyncio.create_task(self._turn(one))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in busy.values():
                task.cancel()
            await asyncio.gather(*busy.values(), return_exceptions=True)

    def close(self) -> None:
        """End the threads that ask for names."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def send(
        self, http: httpx2.AsyncClient, one: Subscription, record: Record
    ) -> tuple[int | None, str | None]:
        """Deliver one entry now; the status, and what was wrong."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                loop = asyncio.get_running_loop()
                address = await loop.run_in_executor(
                    self._resolvers, resolved, one.url, self.allowed
                )
                status = await _post(http, address, one, record)
        except TimeoutError:
            return None, f"it was not through within {TIMEOUT_SECONDS:.0f} s"
        except (RefusedError, OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            return None, f"{type(error).__name__}: {error}"[:300]
        return status, None if 200 <= status < 300 else f"it answers {status}"

    async def _due(self) -> list[Subscription]:
        """Whose turn it is."""
        now, known = int(time.time()), list[Subscription]()
        with _told_when_wrong():
            known = await asyncio.to_thread(self.kept.every)
        return [
            one
            for one in known
            if one.state == "live" and one.not_before <= now and one.ledger in self._ledgers
        ]

    async def _turn(self, one: Subscription) -> None:
        """Deliver page after page while there is something and it is taken."""
        with _told_when_wrong():
            async with self.client() as http:
                current: Subscription | None = one
                while current is not None and await self._deliver(http, current):
                    current = await asyncio.to_thread(self.kept.get, one.ledger, one.id)

    async def _deliver(self, http: httpx2.AsyncClient, one: Subscription) -> bool:
        """One page; whether there was something and all of it was taken."""
        from api.paging import entries_since

        here = self._ledgers[one.ledger]
        records, after = await here.asked(
            lambda rooms: entries_since(
                rooms, one.query, start=one.position, limit=PAGE, now=now_micros()
            )
        )
        for place, record in enumerate(records):
            status, problem = await self.send(http, one, record)
            await asyncio.to_thread(
                self.kept.note, one.id, record.index, status=status, problem=problem
            )
            if problem is not None:
                await asyncio.to_thread(self._later, one, first=place == 0)
                return False
            await asyncio.to_thread(self.kept.moved, one.id, record.index + 1)
        if after > one.position:
            await asyncio.to_thread(self.kept.moved, one.id, after)
        return bool(records)

    def _later(self, one: Subscription, *, first: bool) -> None:
        """Again after a pause. Where it is not the first of its page, others were just taken, and
        the failures before them count no more.
        """
        failures, since = (one.failures, one.failing_since) if first else (0, None)
        pause = min(MOST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 14))
        disable = since is not None and time.time() - since > PATIENCE
        self.kept.failed(one.id, again_in=pause, disable=disable)


@contextmanager
def _told_when_wrong() -> Iterator[None]:
    """What goes wrong in one turn is told in the log, and is nobody else's trouble: the next look
    tries again.
    """
    try:
        yield
    except (AsofError, ProblemError) as error:
        structlog.get_logger("asof").warning("webhooks", problem=str(error))
    except Exception:
        structlog.get_logger("asof").exception("webhooks")


async def _post(
    http: httpx2.AsyncClient, address: Address, one: Subscription, record: Record
) -> int:
    """Send to the address that was looked at, under the name that was asked for."""
    message, now = f"{one.id}-{record.index}", datetime.now(UTC)
    body = orjson.dumps(_told(one, record))
    signature = Webhook(one.secret).sign(message, now, body.decode())
    path = httpx2.URL(one.url).raw_path.decode("ascii")
    async with http.stream(
        "POST",
        f"{address.base}{path}",
        content=body,
        headers={
            "Host": address.authority,
            "Content-Type": "application/json",
            "User-Agent": "asof",
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        },
        extensions={"sni_hostname": address.host} if address.tls else {},
    ) as answer:
        size = 0
        async for piece in answer.aiter_raw():
            size += len(piece)
            if size > MOST_REPLY:
                break
        return answer.status_code


def _told(one: Subscription, record: Record) -> dict[str, Any]:
    """What is sent: that an entry is there, and where; what it says is asked for with a token."""
    return {
        "type": f"entry.{record.type.partition('/')[0]}",
        "timestamp": format_time(record.recorded_at),
        "data": {
            "ledger": one.ledger,
            "index": record.index,
            "type": record.type,
            "stream": record.stream,
            "version": record.version,
            "actor": record.actor,
            "leaf_hash": record.leaf_hash.hex(),
        },
    }
