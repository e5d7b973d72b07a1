"""The service as one ASGI application: the layers around the routes.

::

    app = build_app(ledgers, layers)

    request ─▶ request id, log, metrics ─▶ headers ─▶ limits ─▶ access ─▶ route
    answer  ◀─ problem+json for whatever was raised ◀────────────────────┘

A layer is pure ASGI: it costs microseconds, and sees streams as they are. What a route raises
becomes a problem here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import __version__
from api.service.ledgers import Ledgers
from api.service.problems import ProblemError, problem_of, problem_response
from api.service.requests import StrictRoute, request_id_of
from ledger.errors import AsofError, KeyReusedError

__all__ = ["DirectLayer", "Layer", "build_app", "layered"]

Layer = Callable[[ASGIApp], ASGIApp]

DESCRIPTION: Final = """\
What ran at time T? An event-sourced audit and compliance ledger for machine-learning pipelines.

Every answer carries its `basis`; every error is `application/problem+json` with a page of its own
under `/problems/`. Times have an offset. POST that appends needs an `Idempotency-Key`.
"""

_STATUS_SLUGS: Final = {
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "too-large",
    415: "unsupported-media-type",
}


def build_app(
    ledgers: Ledgers,
    routers: Sequence[APIRouter],
    *,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    **state: Any,
) -> FastAPI:
    """The application with these routes, without layers. `state` is what routes find in
    `request.app.state` beside `ledgers`; `lifespan` starts and ends what works in the background.
    """
    app = FastAPI(
        lifespan=lifespan,
        title="asof",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.router.route_class = StrictRoute
    app.state.ledgers = ledgers
    for name, value in state.items():
        setattr(app.state, name, value)
    for router in routers:
        app.router.routes.extend(router.routes)  # flat, so that the guard sees each of them
    _handle_errors(app)
    return app


def layered(app: ASGIApp, layers: Sequence[Layer]) -> ASGIApp:
    """The application with these layers around it, the outermost first."""
    for layer in reversed(layers):
        app = layer(app)
    return app


class DirectLayer:
    """Calls routes that take nothing but the request at once, as the guard has found them already.

    FastAPI's own way to them is a second matching and half a dozen wrappers, which together cost as
    much as an append; for every other route it is the way. Errors become problems by the same
    table.
    """

    def __init__(self, app: ASGIApp, inner: FastAPI) -> None:
        self._app = app
        self._inner = inner
        self._direct = {
            (route.path, method): route
            for route in inner.routes
            if isinstance(route, StrictRoute) and route.is_direct
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        matched = scope.get("state", {}).get("matched")
        route = None if matched is None else self._direct.get((matched[0], scope["method"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._inner
        scope["route"] = route
        scope["path_params"] = matched[1]
        request = Request(scope, receive, send)
        try:
            response = await route.handler(request)
        except Exception as error:
            response = _problem_response(request, error)
        await response(scope, receive, send)


def _problem_response(request: Request, error: Exception) -> Response:
    """The answer to whatever a route raised."""
    if isinstance(error, ProblemError):
        return problem_response(error, request_id_of(request))
    if isinstance(error, AsofError):
        return problem_response(_as_problem(error), request_id_of(request))
    log = structlog.get_logger("asof")
    log.error("unexpected", request_id=request_id_of(request), exc_info=error)
    told = ProblemError("internal", "the server met a case that it does not know")
    return problem_response(told, request_id_of(request))


def _handle_errors(app: FastAPI) -> None:
    for kind in (AsofError, ProblemError, Exception):

        @app.exception_handler(kind)
        async def ours(request: Request, error: Exception) -> Response:
            return _problem_response(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        slug = _STATUS_SLUGS.get(error.status_code, "malformed")
        detail = "there is nothing at this path" if slug == "not-found" else str(error.detail)
        told = ProblemError(slug, detail, headers=dict(error.headers or {}))
        return problem_response(told, request_id_of(request))


def _as_problem(error: AsofError) -> ProblemError:
    if isinstance(error, KeyReusedError):
        return ProblemError("idempotency-key-reused", str(error))
    return problem_of(error)
