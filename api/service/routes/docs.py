"""The description as a page that can be tried out: Swagger UI from files of our own, without a
CDN.
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Final

from fastapi import Path, Request
from starlette.responses import Response

from api.service.describing import PROBLEM, described_as
from api.service.permissions import PUBLIC, needs
from api.service.problems import ProblemError
from api.service.requests import new_router

__all__ = ["router"]

router = new_router()

FOLDER: Final = FilePath(__file__).parents[1] / "vendored"
FILES: Final = {
    "asof.css": ("asof.css", "text/css"),
    "docs.js": ("docs.js", "text/javascript"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css"),
}
HEADERS: Final = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>asof: the API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="ui"></div><noscript>This page needs JavaScript; the description itself is
<a href="/openapi.json">openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/docs.js"></script></body></html>
"""


@router.get(
    "/docs",
    summary="The API as a page",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/html") | PROBLEM,
)
async def docs(request: Request) -> Response:
    """Swagger UI; nothing is loaded from elsewhere. Its styles need 'unsafe-inline', its scripts do
    not."""
    return Response(PAGE, media_type="text/html", headers=HEADERS)


@router.get(
    "/docs/{file}",
    summary="A file of that page",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/javascript", "text/css") | PROBLEM,
)
async def docs_file(
    request: Request, file: Annotated[str, Path(min_length=1, max_length=100)]
) -> Response:
    """By its name; there is no way to any other file."""
    found = FILES.get(file)
    if found is None:
        raise ProblemError("not-found", "there is no such file")
    name, media = found
    return Response((FOLDER / name).read_bytes(), media_type=media, headers=HEADERS)
