"""What every answer carries, and which Host and Origin are answered at all.

No sniffing, no framing, no referrer; nothing is cached unless the route says so; HSTS over TLS. A
Host that is not trusted is refused before anything is looked at, where the configuration names
any; but for what supervisors ask at the address itself (`PROBES`), which makes no link and tells
nothing without a token. Browsers of other origins get nothing (CORS is closed) unless an origin is
named, and then never with cookies.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.service.problems import ProblemError, problem_response

__all__ = ["GzipLayer", "HeadersLayer"]

_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=63072000")
LEAST_PACKED: Final = 2_048
PLAIN: Final = ("/t/", "/terraform/")
PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS: Final = b"GET, POST, DELETE, OPTIONS"
_HEADERS: Final = (
    b"Authorization, Content-Type, Content-Encoding, Idempotency-Key, If-Match, If-None-Match, "
    b"Last-Event-ID, Prefer, X-Request-Id"
)
_EXPOSED: Final = b"ETag, Link, Location, Retry-After, X-Request-Id, Idempotent-Replayed"


class GzipLayer:
    """Packs answers that are large enough, for whoever accepts it; tiles and states go as they
    lie."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._packing = GZipMiddleware(app, minimum_size=LEAST_PACKED, compresslevel=4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] != "http" or scope["path"].startswith(PLAIN)
        await (self._app if plain else self._packing)(scope, receive, send)


class HeadersLayer:
    """Adds what is missing, refuses what is not trusted."""

    def __init__(
        self, app: ASGIApp, *, trusted_hosts: Collection[str] = (), origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in trusted_hosts)
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = self._origin(scope)
        more = [_HSTS] if scope.get("scheme") == "https" else []
        if origin is not None:
            more += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"Origin"),
            ]

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name for name, _ in headers}  # lower case, as ASGI has them
                headers += [pair for pair in _ALWAYS if pair[0] not in there]
                message["headers"] = headers + more
            await send(message)

        if self._hosts and scope["path"] not in PROBES and not self._trusted(scope):
            error = ProblemError("malformed", "this server does not answer for that Host")
            await _answer(error, scope)(scope, receive, completed)
        elif origin is not None and _is_preflight(scope):
            allowed = {
                "Access-Control-Allow-Methods": _METHODS.decode(),
                "Access-Control-Allow-Headers": _HEADERS.decode(),
                "Access-Control-Max-Age": "600",
            }
            await Response(status_code=204, headers=allowed)(scope, receive, completed)
        else:
            await self._app(scope, receive, completed)

    def _trusted(self, scope: Scope) -> bool:
        """The name in Host, without its port; exactly one Host."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        host = hosts[0].decode("latin-1").lower()
        name = host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0]
        return name in self._hosts

    def _origin(self, scope: Scope) -> bytes | None:
        if not self._origins:
            return None
        return next(
            (
                value
                for name, value in scope["headers"]
                if name == b"origin" and value in self._origins
            ),
            None,
        )


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _answer(error: ProblemError, scope: Scope) -> Response:
    return problem_response(error, scope.get("state", {}).get("request_id", "unknown"))
