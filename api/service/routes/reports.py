"""Reports: what was made of the ledger for others, and the bundles that this server makes.

A bundle is one ZIP that a stranger checks offline (docs/spec/bundle.md). That it was made, by whom
and of what, is an entry of the ledger before the first byte leaves: `report.generated/1`.
"""

from __future__ import annotations

import asyncio
import tempfile
from hashlib import sha256
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

from fastapi import Query, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from api.service.bodies import read_object
from api.service.describing import (
    ENTRY,
    PROBLEM,
    described_as,
    described_body,
    described_list,
    page_of,
    shape,
)
from api.service.forms import listed_page
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.requests import idempotency_key, new_router, now_micros, served
from api.service.routes.entries import ENTRY_COLUMNS
from api.service.texts import optional_text, text, whole
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.main import Rooms

__all__ = ["router"]

router = new_router()

PATH: Final = "/v1/ledgers/{ledger}/reports"
PIECE: Final = 256 << 10
MOST_ENTRIES: Final = 10_000

BODY: Final = shape(
    {
        "kind": {"type": "string", "enum": ["state", "entries"]},
        "pipeline": {"type": "string"},
        "stage": {"type": "string"},
        "at": {"type": ["string", "null"]},
        "known_at": {"type": ["string", "null"]},
        "indexes": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "ground": {"type": ["string", "null"]},
    },
    required=False,
)
BODY["required"] = ["kind"]
EXAMPLE: Final = {
    "kind": "state",
    "pipeline": "demand-forecast",
    "stage": "production",
    "at": "2026-11-20T09:30:00Z",
    "ground": "External audit 2026",
}


@router.get(
    PATH,
    summary="What was reported and exported, newest first",
    openapi_extra=needs("report:read"),
    responses=described_list(page_of("reports", ENTRY)) | PROBLEM,
)
async def every(
    request: Request,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    format: Annotated[str | None, Query(pattern="^(json|jsonl|csv)$")] = None,
) -> Response:
    """The entries `report.generated`."""
    from api.paging import page

    now = now_micros()
    found = await served(request).asked(
        lambda rooms: page(
            rooms, "type:report.generated", cursor=cursor, limit=limit, order="desc", now=now
        )
    )
    return listed_page(request, found, columns=ENTRY_COLUMNS, name="reports", form=format)


@router.post(
    PATH,
    status_code=201,
    summary="Make a bundle of a state or of entries, to be checked offline",
    openapi_extra=needs("report:create") | described_body(BODY, EXAMPLE),
    responses=described_as("application/zip", status=201) | PROBLEM,
)
async def create(request: Request) -> Response:
    """The ZIP itself; `Asof-Report` names its stream. Asked again, it is made again."""
    from ledger.events import draft

    here, caller = served(request), caller_of(request)
    idempotency_key(request, caller.id)
    given = await read_object(request)
    whole(given, BODY["properties"])
    now = now_micros()
    folder = FilePath(await asyncio.to_thread(tempfile.mkdtemp, prefix="asof-report-"))
    path = folder / "report.zip"
    try:
        made = await here.asked(lambda rooms: _made(rooms, given, path, now))
        digest = await asyncio.to_thread(_digest, path)
        name = f"report/{uuid4().hex}"
        event = made | {"digest": f"sha256:{digest}"}
        ground = optional_text(given, "ground")
        if ground is not None:
            event["ground"] = ground
        await here.append(
            [draft(("report.generated/1", event), stream=name, actor=caller.id, now=now)]
        )
    except BaseException:
        await asyncio.to_thread(_removed, folder)
        raise
    return StreamingResponse(
        _pieces(path),
        status_code=201,
        media_type="application/zip",
        headers={
            "Content-Disposition": 'attachment; filename="asof-report.zip"',
            "Cache-Control": "no-store",
            "Asof-Report": name,
            "Content-Length": str(path.stat().st_size),
        },
        background=BackgroundTask(_removed, folder),
    )


def _made(rooms: Rooms, given: dict[str, Any], path: FilePath, now: int) -> dict[str, Any]:
    """Write the bundle; what the entry says of it."""
    kind = text(given, "kind")
    if kind == "state":
        return _state(rooms, given, path, now)
    if kind == "entries":
        return _entries(rooms, given, path, now)
    raise MalformedError("must be state or entries", where="/kind")


def _state(rooms: Rooms, given: dict[str, Any], path: FilePath, now: int) -> dict[str, Any]:
    from api.asking import state

    asked = {
        "pipeline": text(given, "pipeline"),
        "stage": text(given, "stage"),
        "at": optional_text(given, "at"),
        "known_at": optional_text(given, "known_at"),
    }
    found = state(
        rooms,
        asked["pipeline"] or "",
        asked["stage"] or "",
        at=asked["at"],
        known_at=asked["known_at"],
        basis=None,
        now=now,
        proof=path,
    )
    basis = found.basis.as_json()
    return {
        "kind": "state",
        "parameters": asked | {"state_digest": found.state_digest},
        "tree_size": basis["tree_size"],
        "root": f"sha256:{basis['root']}",
    }


def _entries(rooms: Rooms, given: dict[str, Any], path: FilePath, now: int) -> dict[str, Any]:
    from api.main import GENERATOR
    from ledger.bundle import build_bundle

    indexes = given.get("indexes")
    if not isinstance(indexes, list) or not 0 < len(indexes) <= MOST_ENTRIES:
        raise MalformedError(f"must be 1 to {MOST_ENTRIES} indexes", where="/indexes")
    for place, index in enumerate(indexes):
        if type(index) is not int or not 0 <= index < 1 << 53:
            raise MalformedError("must be the index of an entry", where=f"/indexes/{place}")
    basis = rooms.reader.basis()
    build_bundle(
        path,
        rooms.reader,
        indexes=indexes,
        made_at=now,
        generator=GENERATOR,
        signer=rooms.signer,
    )
    return {
        "kind": "entries",
        "tree_size": basis.tree_size,
        "root": f"sha256:{basis.root.hex()}",
        "indexes": sorted(set(indexes)),
    }


def _digest(path: FilePath) -> str:
    digest = sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: FilePath) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _removed(folder: FilePath) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
