"""The task that delivers: entry after entry, each subscription for itself, again until it is taken.

A receiver that answers 2xx has taken it. Anything else is tried again after growing pauses, up to
some hours; after `PATIENCE` without a success the subscription is disabled, and says so. Nothing
is skipped: what comes later waits behind what was not taken.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx2
import orjson
import structlog
from standardwebhooks.webhooks import Webhook

from api.service.outgoing.addresses import Address, Allowed, resolved
from api.service.requests import now_micros
from ledger.canonical import format_time
from ledger.errors import AsofError, RefusedError

if TYPE_CHECKING:
    from api.service.ledgers import Ledgers
    from api.service.outgoing.subscriptions import Subscription, Subscriptions
    from ledger.record import Record

__all__ = ["Sending"]

LOOK_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 15.0
FIRST_PAUSE: Final = 2.0
MOST_PAUSE: Final = 6 * 3_600.0
PATIENCE: Final = 5 * 86_400
PAGE: Final = 50
MOST_REPLY: Final = 64 << 10


class Sending:
    """Used in the event loop; `watch` runs as a task."""

    def __init__(self, kept: Subscriptions, ledgers: Ledgers, allowed: Allowed) -> None:
        self.kept = kept
        self.allowed = allowed
        self._ledgers = ledgers

    async def watch(self) -> None:
        """Deliver what comes, until cancelled."""
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
            while True:
                try:
                    busy = await self.round(http)
                except Exception:
                    structlog.get_logger("asof").exception("webhooks")
                    busy = False
                if not busy:
                    await asyncio.sleep(LOOK_SECONDS)

    async def round(self, http: httpx2.AsyncClient) -> bool:
        """One look at every subscription whose turn it is; whether anything was delivered."""
        now = int(time.time())
        due = [
            one
            for one in await asyncio.to_thread(self.kept.every)
            if one.state == "live" and one.not_before <= now and one.ledger in self._ledgers
        ]
        return any(await asyncio.gather(*(self._deliver(http, one) for one in due)))

    async def send(
        self, http: httpx2.AsyncClient, one: Subscription, record: Record
    ) -> tuple[int | None, str | None]:
        """Deliver one entry now; the status, and what was wrong."""
        try:
            address = await asyncio.to_thread(resolved, one.url, self.allowed)
            status = await _post(http, address, one, record)
        except (RefusedError, OSError, httpx2.HTTPError) as error:
            return None, f"{type(error).__name__}: {error}"[:300]
        return status, None if 200 <= status < 300 else f"it answers {status}"

    async def _deliver(self, http: httpx2.AsyncClient, one: Subscription) -> bool:
        from api.paging import entries_since

        here = self._ledgers[one.ledger]
        try:
            records, after = await here.asked(
                lambda rooms: entries_since(
                    rooms, one.query, start=one.position, limit=PAGE, now=now_micros()
                )
            )
        except AsofError as error:
            structlog.get_logger("asof").warning("webhooks", problem=str(error))
            return False
        for record in records:
            status, problem = await self.send(http, one, record)
            await asyncio.to_thread(
                self.kept.note, one.id, record.index, status=status, problem=problem
            )
            if problem is not None:
                await asyncio.to_thread(self._later, one)
                return False
            await asyncio.to_thread(self.kept.moved, one.id, record.index + 1)
        if after > one.position:
            await asyncio.to_thread(self.kept.moved, one.id, after)
        return bool(records)

    def _later(self, one: Subscription) -> None:
        pause = min(MOST_PAUSE, FIRST_PAUSE * 2 ** min(one.failures, 14))
        since = one.failing_since
        disable = since is not None and time.time() - since > PATIENCE
        self.kept.failed(one.id, again_in=pause, disable=disable)


async def _post(
    http: httpx2.AsyncClient, address: Address, one: Subscription, record: Record
) -> int:
    """Send to the address that was looked at, under the name that was asked for."""
    message, now = f"{one.id}-{record.index}", datetime.now(UTC)
    body = orjson.dumps(_told(one, record))
    signature = Webhook(one.secret).sign(message, now, body.decode())
    host = f"[{address.ip}]" if ":" in address.ip else address.ip
    path = httpx2.URL(one.url).raw_path.decode("ascii")
    scheme = "https" if address.tls else "http"
    async with http.stream(
        "POST",
        f"{scheme}://{host}:{address.port}{path}",
        content=body,
        headers={
            "Host": address.host,
            "Content-Type": "application/json",
            "User-Agent": "asof",
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        },
        extensions={"sni_hostname": address.host} if address.tls else {},
    ) as answer:
        size = 0
        async for piece in answer.aiter_bytes():
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
