"""The outermost layer: a request's id, its line in the log, and its place in the figures.

::

    {"event": "request", "request_id": "9f0c…", "method": "POST", "status": 201, "ms": 3.1,
     "route": "/v1/ledgers/{ledger}/entries", "actor": "service:trainer-0", "index": 1204, …}

Never in the log: bodies, queries, headers, tokens (docs/spec/http.md, rule 11). The route is its
template, so that neither the log's fields nor the figures' labels grow with what callers type.
"""

from __future__ import annotations

import os
import re
import time
from itertools import count
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.service.metrics import Metrics

__all__ = ["TellingLayer"]

_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
QUIET: Final = frozenset(("/healthz", "/readyz", "/metrics"))


class TellingLayer:
    """Gives the request its id, counts it, and writes its line when it has ended."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger("asof")
        self._begun = os.urandom(8).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or f"{self._begun}-{next(self._numbers):x}"
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        begun = time.perf_counter()
        status = 500

        async def telling(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self._metrics.begun()
        try:
            await self._app(scope, receive, telling)
        finally:
            seconds = time.perf_counter() - begun
            route = _route(scope)
            self._metrics.ended(scope["method"], route, status, seconds)
            if route not in QUIET:
                self._tell(scope, state, route, status, seconds)

    def _tell(
        self, scope: Scope, state: dict[str, Any], route: str, status: int, seconds: float
    ) -> None:
        caller = state.get("caller")
        fields: dict[str, Any] = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "actor": getattr(caller, "id", None),
            "credential": getattr(caller, "credential", None),
            "ledger": getattr(caller, "ledger", None),
        }
        if "index" in state:
            fields["index"] = state["index"]
        self._log.info("request", **fields)


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _ID.fullmatch(value) else None
    return None


def _route(scope: Scope) -> str:
    """The template of the path; where no route was reached, one word for all of them."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else "unmatched"
