"""Requests that are repeated under their Idempotency-Key, where the ledger itself does not know
the key.

::

    return await once(request, given, lambda: _requested(request, given))
    return await once(request, given, lambda: _created(request, given), shown_once="token")

Appends are remembered by the ledger, for ever. What is decided or made beside them (a plan, an
approval, a token) is remembered here, in memory, for a day: the same key and body give the first
answer again, also while it is still being made; another body is a 422. A server that is restarted
has forgotten, which the answer's absence of `Idempotent-Replayed` tells. A secret is shown once and
not kept: repeated, it is null.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.requests import idempotency_key
from ledger.canonical import format_json

__all__ = ["Remembered", "once"]

KEPT_SECONDS: Final = 86_400.0
MOST: Final = 10_000


class _Answer(NamedTuple):
    at: float
    body: bytes
    made: asyncio.Future[Response]


class Remembered:
    """The answers of this process. Used in the event loop."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, _Answer] = OrderedDict()

    async def once(
        self,
        key: str,
        body: bytes,
        make: Callable[[], Awaitable[Response]],
        *,
        shown_once: str | None = None,
    ) -> tuple[Response, bool]:
        """The answer, and whether it is an earlier one, without its member `shown_once`. What
        failed is not remembered: it may be tried again. Raises ProblemError
        `idempotency-key-reused` for another body.
        """
        now = time.monotonic()
        held = self._held.get(key)
        if held is not None and now - held.at < KEPT_SECONDS:
            if held.body != body:
                raise ProblemError(
                    "idempotency-key-reused", "this Idempotency-Key stands for another request"
                )
            return await asyncio.shield(held.made), True
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._held[key] = _Answer(now, body, future)
        if len(self._held) > MOST:
            self._held.popitem(last=False)
        try:
            answer = await make()
        except BaseException as error:
            self._held.pop(key, None)
            future.set_exception(error)
            future.exception()  # whoever waits gets it; nobody else need
            raise
        future.set_result(answer if shown_once is None else _without(shown_once, answer))
        return answer, False


async def once(
    request: Request,
    given: Any,
    make: Callable[[], Awaitable[Response]],
    *,
    shown_once: str | None = None,
) -> Response:
    """The answer to this request, made once for its key, path and body; its member `shown_once`
    is there the first time only. Raises ProblemError `idempotency-key-missing`, and what `make`
    does.
    """
    remembered: Remembered = request.app.state.remembered
    key = f"{idempotency_key(request, caller_of(request).id)} {request.url.path}"
    digest = sha256(format_json(given)).digest()
    answer, again = await remembered.once(key, digest, make, shown_once=shown_once)
    if not again:
        return answer
    repeated = Response(answer.body, status_code=answer.status_code, headers=dict(answer.headers))
    repeated.headers["Idempotent-Replayed"] = "true"
    return repeated


def _without(secret: str, answer: Response) -> Response:
    told = orjson.loads(answer.body)
    body = orjson.dumps(told | {secret: None})
    headers = {"Cache-Control": "no-store"}
    return Response(body, answer.status_code, headers, media_type="application/json")
