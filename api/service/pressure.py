"""More work than fits is refused at the door, in two layers that cost microseconds.

* `CapacityLayer`, outside: at most so many requests at once; the next one is answered 503 with
  `Retry-After` before anything of it is read.
* `RateLayer`, behind access: each principal has a budget of requests a second; beyond it, 429.

Health and figures are let through, so that whoever looks sees an overloaded server and not none.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from api.service.metrics import Metrics
from api.service.problems import ProblemError, problem_response

__all__ = ["CapacityLayer", "RateLayer"]

ALWAYS: Final = frozenset(("/healthz", "/readyz", "/metrics"))
MOST_PRINCIPALS: Final = 10_000


class CapacityLayer:
    """At most `most` requests at once; streams that stay open are bounded by their own route."""

    def __init__(self, app: ASGIApp, *, most: int, metrics: Metrics) -> None:
        self._app = app
        self._most = most
        self._metrics = metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS or scope["path"].endswith("/stream"):
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._most:
            self._metrics.refused.labels("capacity").inc()
            error = ProblemError(
                "unavailable",
                f"{self._most} requests are being answered already",
                headers={"Retry-After": "1"},
            )
            await problem_response(error, _id(scope))(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1


class RateLayer:
    """`rate` requests a second for each principal, `burst` at once: a token bucket."""

    def __init__(self, app: ASGIApp, *, rate: float, burst: int, metrics: Metrics) -> None:
        self._app = app
        self._rate = rate
        self._burst = float(burst)
        self._metrics = metrics
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get("state", {}).get("caller") if scope["type"] == "http" else None
        if caller is None or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        wait = self._taken(self._who(caller.id, scope), time.monotonic())
        if wait == 0.0:
            await self._app(scope, receive, send)
            return
        self._metrics.refused.labels("rate").inc()
        error = ProblemError(
            "too-many-requests",
            f"{self._rate:g} requests a second are allowed to each principal",
            headers={"Retry-After": str(int(wait) + 1)},
        )
        await problem_response(error, _id(scope))(scope, receive, send)

    def _who(self, principal: str, scope: Scope) -> str:
        """Whoever is unknown is told apart by address."""
        client = scope.get("client")
        return f"{principal} {client[0]}" if principal == "anonymous" and client else principal

    def _taken(self, who: str, now: float) -> float:
        """Take one; 0, or the seconds after which there is one again."""
        level, last = self._buckets.pop(who, (self._burst, now))
        level = min(self._burst, level + (now - last) * self._rate)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self._rate
        self._buckets[who] = (level - 1.0 if wait == 0.0 else level, now)
        if len(self._buckets) > MOST_PRINCIPALS:
            self._buckets.popitem(last=False)
        return wait


def _id(scope: Scope) -> str:
    found: str = scope.get("state", {}).get("request_id", "unknown")
    return found
