"""Logging in with a browser, at the provider of the configuration, and out again.

The browser is sent to the provider and comes back with a code; what it keeps then is a cookie that
scripts cannot read and that no other site can make it send (docs/access.md).
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.service.access.login import LOGIN_SECONDS, Login
from api.service.access.sessions import Sessions, cookie_of
from api.service.describing import PROBLEM, described_as
from api.service.permissions import ANY_ROLE, PUBLIC, needs
from api.service.problems import ProblemError
from api.service.requests import new_router
from api.service.routes.pages import html_page
from ledger.errors import MalformedError

__all__ = ["router"]

router = new_router()
_open = APIRouter()  # providers send parameters of their own: the callback takes them all

FIRST_PAGE: Final = "/v1/whoami"
NOT_KEPT: Final = {"Cache-Control": "no-store"}
SENT: Final[dict[int | str, Any]] = {302: {"description": "To the provider"}}
ENDED: Final[dict[int | str, Any]] = {204: {"description": "It has ended"}}


@router.get(
    "/auth/login",
    status_code=302,
    summary="Log in at the identity provider",
    openapi_extra=needs(PUBLIC),
    responses=SENT | PROBLEM,
    response_class=Response,
)
async def begin(
    request: Request, to: Annotated[str, Query(max_length=500)] = FIRST_PAGE
) -> Response:
    """`to` is the path of this server at which the login ends."""
    login = _login(request)
    begun = login.begin(to)
    answer = Response(status_code=302, headers={"Location": begun.address, **NOT_KEPT})
    answer.set_cookie(
        login.cookie,
        begun.cookie,
        max_age=LOGIN_SECONDS,
        httponly=True,
        secure=login.is_tls,
        samesite="lax",  # the way back from the provider is one from another site
    )
    return answer


@_open.get(
    "/auth/callback",
    summary="Where the provider sends the browser back to",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/html") | PROBLEM,
)
async def end(request: Request) -> Response:
    """Begins the session. A page, and no redirect: a browser that comes from another site would not
    send its new cookie along with the next step of that same journey.
    """
    login = _login(request)
    try:
        ended = await login.end(_query(request), cookie_of(request.scope, login.cookie))
    except ProblemError:
        request.app.state.refused("login", None, None)
        raise
    request.app.state.logged_in(ended.caller, ended.ledgers)
    sessions: Sessions = request.app.state.sessions
    to = escape(ended.return_to, quote=True)
    answer = html_page("Logged in", f'<h1>Logged in</h1><p><a href="{to}">Go on</a></p>')
    answer.headers.update({"Refresh": f"0;url={ended.return_to}", **NOT_KEPT})
    answer.set_cookie(
        sessions.cookie,
        sessions.open(ended.caller),
        httponly=True,
        secure=login.is_tls,
        samesite="strict",
    )
    answer.delete_cookie(login.cookie, httponly=True, secure=login.is_tls, samesite="lax")
    return answer


@router.post(
    "/auth/logout",
    status_code=204,
    summary="End the session",
    openapi_extra=needs(ANY_ROLE),
    responses=ENDED | PROBLEM,
    response_class=Response,
)
async def logout(request: Request) -> Response:
    """The session here; what the browser has at the provider is the provider's. With a token there
    is nothing to end.
    """
    login = _login(request)
    sessions: Sessions = request.app.state.sessions
    sessions.close(request.scope)
    answer = Response(status_code=204, headers=NOT_KEPT)
    answer.delete_cookie(sessions.cookie, httponly=True, secure=login.is_tls, samesite="strict")
    return answer


def _login(request: Request) -> Login:
    found: Login | None = request.app.state.login
    if found is None:
        raise ProblemError("not-found", "no identity provider is configured for browsers")
    return found


def _query(request: Request) -> dict[str, str]:
    """The parameters, each once. Raises MalformedError."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a parameter is given more than once", where="query")
    return found


router.routes.extend(_open.routes)
