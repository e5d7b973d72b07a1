"""A load generator in a process of its own: many connections, one request each at a time.

::

    python -m scripts.benches.api_load HOST:PORT TOKEN LEDGER --kind single --connections 64

It reads answers with `httptools`, so that it costs the two cores as little as it can: it shares
them with the server and PostgreSQL. What it prints is one JSON object: answers by status,
latencies, and (`--journal`) the keys that were acknowledged, each with the index it was given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httptools

PAYLOAD = "x" * 480
BATCH = 500

Request = tuple[str, bytes]
"""The idempotency key (or ""), and the bytes to send."""


class Load:
    """What all connections share."""

    def __init__(self, requests: Iterator[Request], *, until: float, pace: float | None) -> None:
        self.requests = requests
        self.until = until
        self.pace = pace
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.failed = 0
        self.keep = False


class Connection(asyncio.Protocol):
    """One connection: sends, waits for the answer, sends the next until the time is over."""

    def __init__(self, load: Load, done: asyncio.Future[None]) -> None:
        self._load = load
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._key = ""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._load.failed += 1
            self._done.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._load.keep:
            self._body.append(body)

    def on_message_complete(self) -> None:
        load, now = self._load, time.perf_counter()
        status = self._parser.get_status_code()
        load.statuses[status] += 1
        load.latencies.append(now - self._sent)
        if load.keep and status in (200, 201):
            load.acknowledged.append((self._key, _first_index(b"".join(self._body))))
        self._body.clear()
        if now >= load.until:
            self._done.set_result(None)
            self._transport.close()
        elif status in (429, 503):
            asyncio.get_running_loop().call_later(0.05, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        self._key, request = next(self._load.requests)
        self._sent = time.perf_counter()
        self._transport.write(request)


def _first_index(body: bytes) -> int:
    start = body.index(b'"first_index":') + 14
    return int(body[start : body.index(b",", start)])


def appends(host: str, token: str, ledger: str, *, size: int, minimal: bool) -> Iterator[Request]:
    """Appends of `size` events of 0.5 kB, each under a key of its own."""
    seed = random.randrange(1 << 40)
    prefer = "Prefer: return=minimal\r\n" if minimal else ""
    for number in count():
        events = [
            {
                "type": "note.added/1",
                "stream": f"note/{(number * size + place) % 50}",
                "data": {"text": PAYLOAD},
            }
            for place in range(size)
        ]
        body = json.dumps(events[0] if size == 1 else {"events": events}).encode()
        key = f"{seed}-{number}"
        head = (
            f"POST /v1/ledgers/{ledger}/entries HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n{prefer}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield key, head.encode() + body


def gets(host: str, token: str, paths: list[str]) -> Iterator[Request]:
    """The paths in a random order, again and again."""
    while True:
        path = random.choice(paths)
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        yield "", head.encode()


async def run(load: Load, host: str, connections: int) -> None:
    """All connections until the time is over."""
    loop = asyncio.get_running_loop()
    name, _, port = host.partition(":")
    waiting = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        factory: Callable[[], Connection] = lambda done=done: Connection(load, done)  # type: ignore[misc]  # noqa: E731
        try:
            await loop.create_connection(factory, name, int(port))
            waiting.append(done)
        except OSError:
            load.failed += 1
    await asyncio.gather(*waiting)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("token")
    parser.add_argument("ledger")
    parser.add_argument("--kind", choices=["single", "batch", "get"], default="single")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minimal", action="store_true")
    parser.add_argument("--paths", type=Path)
    parser.add_argument("--journal", type=Path)
    given = parser.parse_args()
    if given.kind == "get":
        requests = gets(given.host, given.token, given.paths.read_text().split())
    else:
        size = 1 if given.kind == "single" else BATCH
        requests = appends(given.host, given.token, given.ledger, size=size, minimal=given.minimal)
    begun = time.perf_counter()
    load = Load(requests, until=begun + given.seconds, pace=None)
    load.keep = given.journal is not None
    try:
        import uvloop

        uvloop.run(run(load, given.host, given.connections))
    except ModuleNotFoundError:
        asyncio.run(run(load, given.host, given.connections))
    took = time.perf_counter() - begun
    if given.journal is not None:
        given.journal.write_text(json.dumps(load.acknowledged))
    ranked = sorted(load.latencies) or [0.0]
    print(
        json.dumps(
            {
                "seconds": took,
                "statuses": {str(status): n for status, n in load.statuses.items()},
                "failed": load.failed,
                "p50_ms": ranked[len(ranked) // 2] * 1000,
                "p99_ms": ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)] * 1000,
                "max_ms": ranked[-1] * 1000,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
