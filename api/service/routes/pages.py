"""What the server says of itself: the OpenAPI description, and a page for each kind of problem."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.service.describing import JSON_OBJECT, PROBLEM, described, described_page
from api.service.permissions import PUBLIC, needs, permission_of
from api.service.problems import PROBLEMS, Problem, ProblemError
from api.service.requests import answer, new_router

__all__ = ["PAGE_HEADERS", "describe", "html_page", "router"]

router = new_router()

PAGE_HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
}
SECURITY: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of this server: asof_live_…, made by an administrator.",
    }
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/docs/asof.css"></head>
<body><main>{body}</main></body></html>
"""


@router.get(
    "/openapi.json",
    summary="This description",
    openapi_extra=needs(PUBLIC),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def openapi(request: Request) -> Response:
    """OpenAPI 3.1."""
    headers = {"Cache-Control": "public, max-age=60"}
    return answer(request, describe(request.app), headers=headers)


@router.get(
    "/problems",
    summary="The kinds of problems",
    openapi_extra=needs(PUBLIC),
    responses=described_page(JSON_OBJECT) | PROBLEM,
)
async def problems(request: Request) -> Response:
    """Each with its page."""
    if _wants_html(request):
        items = "".join(
            f'<li><a href="/problems/{slug}">{escape(one.title)}</a> ({one.status})</li>'
            for slug, one in PROBLEMS.items()
        )
        return html_page("Problems", f"<h1>Problems</h1><ul>{items}</ul>")
    return answer(request, {"problems": [_told(one) for one in PROBLEMS.values()]})


@router.get(
    "/problems/{slug}",
    summary="What a kind of problem means, and what to do",
    openapi_extra=needs(PUBLIC),
    responses=described_page(JSON_OBJECT) | PROBLEM,
)
async def problem(request: Request, slug: str) -> Response:
    """The page that `type` of a problem points to; JSON for programs."""
    found = PROBLEMS.get(slug)
    if found is None:
        raise ProblemError("not-found", "there is no problem of this name; /problems lists them")
    if not _wants_html(request):
        return answer(request, _told(found))
    body = (
        f"<p><a href='/problems'>Problems</a></p><h1>{escape(found.title)}</h1>"
        f"<p>HTTP status {found.status} · type <code>/problems/{escape(slug)}</code></p>"
        f"<h2>What it means</h2><p>{_prose(found.meaning)}</p>"
        f"<h2>What to do</h2><p>{_prose(found.remedy)}</p>"
    )
    return html_page(found.title, body)


def describe(app: Any) -> dict[str, Any]:
    """The description of the application, with how to authenticate; in `x-asof-methods` the routes
    of methods that OpenAPI 3.1 does not know (LOCK, UNLOCK).
    """
    found: dict[str, Any] = app.openapi()
    found.setdefault("components", {})["securitySchemes"] = SECURITY
    found["x-asof-methods"] = [
        {
            "path": route.path,
            "method": method,
            "summary": route.summary,
            "description": route.description,
            "x-asof-permission": list(permission_of(route.openapi_extra)),
        }
        for route in app.routes
        if isinstance(route, APIRoute) and not route.include_in_schema
        for method in sorted(route.methods or ())
    ]
    return found


def html_page(title: str, body: str) -> Response:
    """A page without scripts; `body` is HTML that is escaped already."""
    text = _PAGE.format(title=escape(title), body=body)
    return Response(text, media_type="text/html", headers=PAGE_HEADERS)


def _told(one: Problem) -> dict[str, Any]:
    return {
        "type": f"/problems/{one.slug}",
        "title": one.title,
        "status": one.status,
        "meaning": one.meaning,
        "remedy": one.remedy,
    }


def _prose(text: str) -> str:
    """Escaped, with `code` between backticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
