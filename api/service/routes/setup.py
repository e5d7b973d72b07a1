"""The page behind the one-time setup link: who shall administer this ledger?

Opening the link changes nothing, as mail programs and chats open links too; the button does.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import Query, Request
from starlette.responses import Response

from api.service.access.setup import Setup
from api.service.bodies import media_type_of, read_body
from api.service.describing import PROBLEM, described_as
from api.service.permissions import PUBLIC, needs
from api.service.problems import ProblemError
from api.service.requests import new_router
from ledger.errors import MalformedError

__all__ = ["router"]

router = new_router()

FORM: Final = "application/x-www-form-urlencoded"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"></head>
<body><main><h1>{title}</h1>
{body}
</main></body></html>
"""
_ASK: Final = """<p>Nobody administers the ledger <strong>{ledger}</strong> yet. Say who shall: an
id, never a person's name or address. Administrators give roles and make tokens; they cannot read
the ledger.</p> <form method="post" action="/setup">
<input type="hidden" name="ledger" value="{ledger}"><input type="hidden" name="key" value="{key}">
<p><label>Principal <input name="principal" value="user:admin" required maxlength="200"
pattern="(user|service):\\S+"></label></p>
<p><button type="submit">Make the administrator and show the first token</button></p>
</form>"""
_DONE: Final = """<p><strong>{principal}</strong> administers <strong>{ledger}</strong> now. This
is the first token. Keep it: it is not shown again.</p>
<p><code>{token}</code></p>
<p>It is valid until {until}. With it:</p>
<pre>curl -H "Authorization: Bearer $ASOF_TOKEN" {url}v1/whoami</pre>"""


@router.get(
    "/setup",
    summary="The setup page of a ledger that nobody administers yet",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/html") | PROBLEM,
)
async def ask(
    request: Request,
    ledger: Annotated[str, Query(max_length=200)],
    key: Annotated[str, Query(max_length=200)],
) -> Response:
    """Changes nothing."""
    _check(request, ledger, key)
    body = _ASK.format(ledger=escape(ledger), key=escape(key))
    return _page("Set up asof", body)


@router.post(
    "/setup",
    summary="Make the first administrator",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/html") | PROBLEM,
)
async def make(request: Request) -> Response:
    """Once: the key is used up."""
    media_type_of(request, FORM)
    body = await read_body(request, request.app.state.body_limits)
    try:
        given = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=10)
        ledger, key, principal = (given[name][0] for name in ("ledger", "key", "principal"))
    except (ValueError, KeyError):
        raise MalformedError("the form has ledger, key and principal") from None
    _check(request, ledger, key)
    setup: Setup = request.app.state.setup
    made = await setup.use(request.app.state.ledgers[ledger], key, principal)
    done = _DONE.format(
        principal=escape(principal),
        ledger=escape(ledger),
        token=escape(made.token),
        until=escape(str(made.told["expires_at"])),
        url=escape(str(request.base_url)),
    )
    return _page("asof is set up", done)


def _check(request: Request, ledger: str, key: str) -> None:
    setup: Setup = request.app.state.setup
    if not setup.is_open(ledger, key):
        raise ProblemError(
            "refused", "this setup link was used, is too old, or is another server's"
        )


def _page(title: str, body: str) -> Response:
    text = _PAGE.format(title=escape(title), body=body)
    return Response(text, media_type="text/html", headers=_HEADERS)
