"""What every route begins with: which ledger, who asks, and questions in no other words than those
that there are.

::

    @router.get("/v1/ledgers/{ledger}/pipelines", openapi_extra=needs("state:read"))
    async def pipelines(request: Request) -> Response:
        here = served(request)
        found = await here.asked(…)
        return answer(request, found)

`StrictRoute` refuses a query parameter that the route does not know, or one that is given twice: a
mistyped `at` must not be answered with the state of now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.service.ledgers import Ledgers, Served
from api.service.problems import ProblemError
from ledger.errors import MalformedError

__all__ = [
    "StrictRoute",
    "answer",
    "idempotency_key",
    "new_router",
    "now_micros",
    "request_id_of",
    "served",
]

MOST_KEY: Final = 255
TAG_DIGITS: Final = 32


class StrictRoute(APIRoute):
    """A route whose query parameters are all known. One that takes nothing but the request is
    called without the detour over FastAPI's dependencies, which would double the cost of an append.
    """

    is_direct: bool
    handler: Callable[[Request], Coroutine[Any, Any, Response]]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        self.is_direct = _takes_only_the_request(self)
        if self.is_direct:
            handle = self.endpoint
        known = frozenset(field.alias for field in self.dependant.query_params)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_names(request, known)
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise _explained(error) from None

        self.handler = strict
        return strict


def new_router() -> APIRouter:
    """A router of strict routes."""
    return APIRouter(route_class=StrictRoute)


def served(request: Request) -> Served:
    """The ledger that the path names. The access layer has let nobody in who has no role in it;
    raises ProblemError `not-found` all the same where there is none.
    """
    ledgers: Ledgers = request.app.state.ledgers
    name = request.path_params["ledger"]
    try:
        return ledgers[name]
    except KeyError:
        raise ProblemError("not-found", "there is no such ledger, or none for you") from None


def now_micros() -> int:
    """The one 'now' of a request, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def request_id_of(request: Request) -> str:
    """The id under which the log has this request."""
    found: str = request.scope.get("state", {}).get("request_id", "unknown")
    return found


def idempotency_key(request: Request, principal: str) -> str:
    """The key under which the caller's batch is recorded: its own, in a space of the principal.

    Raises ProblemError: `idempotency-key-missing`, `malformed`.
    """
    given = request.headers.get("idempotency-key", "")
    if not given:
        raise ProblemError(
            "idempotency-key-missing",
            "send Idempotency-Key: 1 to 255 visible ASCII characters, new for each new request",
        )
    if len(given) > MOST_KEY or not all("!" <= letter <= "~" for letter in given):
        raise ProblemError(
            "malformed",
            f"Idempotency-Key must be 1 to {MOST_KEY} visible ASCII characters",
        )
    return f"http/{principal}/{given}"


def answer(
    request: Request,
    body: Any,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """The answer as JSON. Of a GET it has an ETag, a digest of the answer, and 304 answers whoever
    has it already.
    """
    told = {"Cache-Control": "no-store", **(headers or {})}
    content = orjson.dumps(body)
    if request.method == "GET":
        told["ETag"] = tag = f'"{sha256(content).hexdigest()[:TAG_DIGITS]}"'
        told["Cache-Control"] = "private, no-cache"
        if _has(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=told)
    return Response(content, status_code=status, media_type="application/json", headers=told)


def _takes_only_the_request(route: APIRoute) -> bool:
    wanted = route.dependant
    parts = (wanted.path_params, wanted.query_params, wanted.header_params, wanted.cookie_params)
    return not any(parts) and not wanted.body_params and not wanted.dependencies


def _has(given: str, tag: str) -> bool:
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in given.split(","))


def _check_names(request: Request, known: frozenset[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise MalformedError(_unknown(name, known), where="query")
        if names.count(name) > 1:
            raise MalformedError(f"{name} is given more than once", where="query")


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1)
    hint = (
        f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(known)) or 'none'}"
    )
    return f"there is no parameter {name[:100]!r}; {hint}"


def _explained(error: RequestValidationError) -> ProblemError:
    """The first thing that is wrong, in words; never the input itself."""
    first = error.errors()[0]
    kind, *place = [str(part) for part in first["loc"]]
    name = "/".join(place)
    return ProblemError("malformed", f"{kind} {name}: {first['msg']}")
