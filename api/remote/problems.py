"""What an answer that is no good means: the house's errors, made of problems, gateways and silence.

::

    raise error_of(response, server="https://ledger.example.com", asks=False)

The question that matters after a POST is whether it happened. A connection that was never made has
changed nothing; one that was lost after that may have: this is called unknown, and never
unreachable. No message repeats a token.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2

from api.hints import hinted
from ledger.errors import (
    AsofError,
    ConflictError,
    IncompleteError,
    KeyReusedError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["BusyError", "error_of", "lost", "object_of"]

_ERRORS: Final[dict[str, type[AsofError]]] = {
    "conflict": ConflictError,
    "idempotency-key-reused": KeyReusedError,
    "incomplete": IncompleteError,
    "not-allowed": RefusedError,
    "not-found": NotFoundError,
    "outcome-unknown": UnknownOutcomeError,
    "precondition-failed": ConflictError,
    "refused": RefusedError,
}
_BUSY: Final = frozenset(("too-many-requests", "unavailable"))
MOST_SECONDS: Final = 60.0
_GATEWAYS: Final = frozenset((502, 503, 504))

# What is raised before anything of a request can have arrived.
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.LocalProtocolError,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class BusyError(UnreachableError):
    """The server took nothing, and says when to come again."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


def lost(error: httpx2.HTTPError, *, server: str, asks: bool) -> AsofError:
    """The error for an answer that did not come. `asks`: the request changes nothing."""
    told = str(error) or type(error).__name__
    if asks or isinstance(error, _NEVER_SENT):
        return UnreachableError(f"{server} does not answer: {told}")
    return UnknownOutcomeError(f"{server} took the request, and its answer was lost: {told}")


def error_of(response: httpx2.Response, *, server: str, asks: bool) -> AsofError:
    """The error for an answer that is not 2xx and has been read. `asks`: as for `lost`."""
    status = response.status_code
    if status < 400:
        where = response.headers.get("location", "elsewhere")
        told = f"{server} sends on to {where}, which is not followed with a token"
        return MalformedError(f"{told}: name that server itself", where="--server")
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "/problems/" in str(body.get("type")):
        return _of_problem(body, response, server)
    if status not in _GATEWAYS:
        return StoreError(f"{server} answers {status}, and is no asof server")
    if asks:
        return UnreachableError(f"what stands before {server} answers {status}")
    return UnknownOutcomeError(f"what stands before {server} answers {status}")


def object_of(response: httpx2.Response, *, server: str) -> dict[str, Any]:
    """The object of a good answer. Raises StoreError where another program answers."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise StoreError(f"{server} answers with something else than JSON: it is no asof server")
    return body


def _of_problem(body: dict[str, Any], response: httpx2.Response, server: str) -> AsofError:
    slug, status = str(body["type"]).rpartition("/")[2], response.status_code
    detail = str(body.get("detail") or f"HTTP {status}")
    if slug == "unauthenticated":
        return hinted(
            RefusedError(f"{server}: the token is not taken"),
            "a valid one in ASOF_TOKEN; an admin makes it: asof tokens create",
        )
    if slug == "tampered":
        evidence = body.get("evidence")
        index = evidence.get("index") if isinstance(evidence, dict) else None
        found = TamperError(detail)
        found.index = index if type(index) is int else None
        return found
    if slug in _BUSY:
        told = response.headers.get("retry-after", "")
        return BusyError(detail, min(float(told), MOST_SECONDS) if told.isdecimal() else None)
    kind = _ERRORS.get(slug)
    if kind is not None:
        return kind(detail)
    return MalformedError(detail) if status < 500 else StoreError(f"{server}: {detail}")
