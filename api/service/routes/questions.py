"""The questions: what a ledger is, its pipelines, state, diff, history, lineage, impact, runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from api.service.describing import (
    DIFF,
    HISTORY,
    IMPACT,
    JSON_OBJECT,
    LEDGER,
    LINEAGE,
    PIPELINES,
    PROBLEM,
    STATE,
    described,
    described_list,
    page_of,
)
from api.service.forms import listed_page
from api.service.ledgers import Served
from api.service.permissions import ANY_ROLE, needs
from api.service.principal import caller_of
from api.service.requests import answer, new_router, now_micros, served
from ledger.errors import NotFoundError
from ledger.note import format_vkey

if TYPE_CHECKING:
    from api.main import Rooms

__all__ = ["router"]

router = new_router()

WAIT_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.02

Name = Annotated[str, Path(min_length=1, max_length=512)]
At = Annotated[
    str | None, Query(max_length=600, description="when: a time with offset, '2h ago', index:N, …")
]
KnownAt = Annotated[str | None, Query(max_length=600, description="as known when")]
BasisSize = Annotated[int | None, Query(ge=1, le=2**53 - 1, description="the first N entries")]
WaitFor = Annotated[
    int | None, Query(ge=0, le=2**53 - 1, description="wait until this entry can be read")
]
CHANGE_COLUMNS: Final = (
    "index",
    "effective_at",
    "recorded_at",
    "type",
    "slot",
    "asset_version",
    "by",
)
RUN_COLUMNS: Final = (
    "run",
    "kind",
    "pipeline",
    "stage",
    "status",
    "started_at",
    "finished_at",
    "by",
)
STATE_PATH: Final = "/v1/ledgers/{ledger}/pipelines/{pipeline}/stages/{stage}"


@router.get(
    "/v1/ledgers",
    summary="The ledgers in which the caller has a role",
    openapi_extra=needs(ANY_ROLE),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def ledgers(request: Request) -> Response:
    """By the names that paths use."""
    caller = caller_of(request)
    found = [
        {"ledger": name, "origin": one.reader.origin, "roles": sorted(caller.roles.get(name, ()))}
        for name, one in request.app.state.ledgers.items()
        if caller.permissions.get(name)
    ]
    return answer(request, {"ledgers": found})


@router.get(
    "/v1/ledgers/{ledger}",
    summary="What the ledger is and how far it has come",
    openapi_extra=needs("state:read"),
    responses=described(LEDGER) | PROBLEM,
)
async def ledger(request: Request) -> Response:
    """Its origin, the key that verifies it, and its newest checkpoint."""
    here = served(request)

    def question(rooms: Rooms) -> dict[str, Any]:
        basis = rooms.reader.basis()
        return {
            "ledger": here.name,
            "origin": rooms.reader.origin,
            "vkey": format_vkey(rooms.reader.vkey),
            "checkpoint": rooms.reader.checkpoint().decode(),
            "basis": basis.as_json(),
        }

    found = await here.asked(question)
    return answer(request, found)


@router.get(
    "/v1/ledgers/{ledger}/pipelines",
    summary="The pipelines and their stages",
    openapi_extra=needs("state:read"),
    responses=described(PIPELINES) | PROBLEM,
)
async def pipelines(request: Request, wait_for: WaitFor = None) -> Response:
    """Whatever an entry is about."""
    here = served(request)
    await _awaited(here, wait_for)

    def question(rooms: Rooms) -> dict[str, Any]:
        basis = rooms.reader.basis()
        with rooms.index.reading(basis.tree_size):
            found = rooms.index.pipelines(basis.tree_size)
        return {
            "pipelines": [{"pipeline": name, "stage": stage} for name, stage in sorted(found)],
            "basis": basis.as_json(),
        }

    found = await here.asked(question)
    return answer(request, found)


@router.get(
    f"{STATE_PATH}/state",
    summary="What was bound, running and served",
    openapi_extra=needs("state:read"),
    responses=described(STATE) | PROBLEM,
)
async def state(
    request: Request,
    pipeline: Name,
    stage: Name,
    at: At = None,
    known_at: KnownAt = None,
    basis: BasisSize = None,
    wait_for: WaitFor = None,
    replay: Annotated[bool, Query(description="fold the entries too, and compare")] = False,
) -> Response:
    """Now, or at any instant, as known now or at any other instant."""
    from api.asking import state as asked

    here = served(request)
    await _awaited(here, wait_for)
    now = now_micros()
    found = await here.asked(
        lambda rooms: asked(
            rooms, pipeline, stage, at=at, known_at=known_at, basis=basis, now=now, replay=replay
        ).as_json()
    )
    return answer(request, found)


@router.get(
    f"{STATE_PATH}/diff",
    summary="What changed between two states, and which entries did it",
    openapi_extra=needs("state:read"),
    responses=described(DIFF) | PROBLEM,
)
async def diff(
    request: Request,
    pipeline: Name,
    stage: Name,
    start: Annotated[str, Query(alias="from", max_length=600)],
    to: At = None,
    basis: BasisSize = None,
    wait_for: WaitFor = None,
) -> Response:
    """Field by field."""
    from api.asking import diff as asked

    here = served(request)
    await _awaited(here, wait_for)
    now = now_micros()
    found = await here.asked(
        lambda rooms: asked(
            rooms, pipeline, stage, start=start, end=to, basis=basis, now=now
        ).as_json()
    )
    return answer(request, found)


@router.get(
    f"{STATE_PATH}/history",
    summary="Every change of a pipeline, in the order in which it took effect",
    openapi_extra=needs("state:read"),
    responses=described_list(HISTORY) | PROBLEM,
)
async def history(
    request: Request,
    pipeline: Name,
    stage: Name,
    slot: Annotated[str | None, Query(max_length=512)] = None,
    at: At = None,
    known_at: KnownAt = None,
    basis: BasisSize = None,
    wait_for: WaitFor = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    format: Annotated[str | None, Query(pattern="^(json|jsonl|csv)$")] = None,
) -> Response:
    """Oldest first. A cursor stands for its basis too, so the pages fit together."""
    from api.paging import history_page

    here = served(request)
    await _awaited(here, wait_for)
    now = now_micros()
    found = await here.asked(
        lambda rooms: history_page(
            rooms,
            pipeline,
            stage,
            slot=slot,
            at=at,
            known_at=known_at,
            basis=basis,
            cursor=cursor,
            limit=limit,
            now=now,
        )
    )
    return listed_page(request, found, columns=CHANGE_COLUMNS, name="changes", form=format)


@router.get(
    "/v1/ledgers/{ledger}/lineage/{asset_version:path}",
    summary="What a version was made from, and what was made from it",
    openapi_extra=needs("state:read"),
    responses=described(LINEAGE) | PROBLEM,
)
async def lineage(
    request: Request,
    asset_version: Annotated[str, Path(min_length=1, max_length=1_600)],
    direction: Annotated[str, Query(pattern="^(up|down|both)$")] = "both",
    depth: Annotated[int, Query(ge=1, le=100)] = 1,
    at: At = None,
    known_at: KnownAt = None,
    basis: BasisSize = None,
    wait_for: WaitFor = None,
) -> Response:
    """As of any instant."""
    from api.asking import lineage as asked

    here = served(request)
    await _awaited(here, wait_for)
    now = now_micros()
    found = await here.asked(
        lambda rooms: asked(
            rooms,
            asset_version,
            up=direction == "up",
            down=direction == "down",
            depth=depth,
            at=at,
            known_at=known_at,
            basis=basis,
            now=now,
        ).as_json()
    )
    return answer(request, found)


@router.get(
    "/v1/ledgers/{ledger}/impact/{asset_version:path}",
    summary="What stood on a version: runs, bindings, traffic, and when",
    openapi_extra=needs("state:read"),
    responses=described(IMPACT) | PROBLEM,
)
async def impact(
    request: Request,
    asset_version: Annotated[str, Path(min_length=1, max_length=1_600)],
    at: At = None,
    known_at: KnownAt = None,
    basis: BasisSize = None,
    wait_for: WaitFor = None,
) -> Response:
    """As of any instant."""
    from api.asking import impact as asked

    here = served(request)
    await _awaited(here, wait_for)
    now = now_micros()
    found = await here.asked(
        lambda rooms: asked(
            rooms, asset_version, at=at, known_at=known_at, basis=basis, now=now
        ).as_json()
    )
    return answer(request, found)


@router.get(
    "/v1/ledgers/{ledger}/runs",
    summary="The runs, newest first",
    openapi_extra=needs("state:read"),
    responses=described_list(page_of("runs", JSON_OBJECT)) | PROBLEM,
)
async def runs(
    request: Request,
    pipeline: Annotated[str | None, Query(max_length=512)] = None,
    stage: Annotated[str | None, Query(max_length=512)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    format: Annotated[str | None, Query(pattern="^(json|jsonl|csv)$")] = None,
) -> Response:
    """What ran, on what, and how it ended; `status` is `running` where no end was recorded."""
    from api.paging import runs_page

    now = now_micros()
    found = await served(request).asked(
        lambda rooms: runs_page(
            rooms, pipeline=pipeline, stage=stage, cursor=cursor, limit=limit, now=now
        )
    )
    return listed_page(request, found, columns=RUN_COLUMNS, name="runs", form=format)


async def _awaited(here: Served, entry: int | None) -> None:
    """Wait a moment for an entry that another process has just appended. Questions bring the index
    up to date themselves, so an entry that can be read is answered from.

    Raises NotFoundError where it does not come.
    """
    if entry is None:
        return
    until = time.monotonic() + WAIT_SECONDS
    while (size := await here.asked(lambda rooms: rooms.reader.size())) <= entry:
        if time.monotonic() >= until:
            raise NotFoundError(f"wait_for={entry}: the ledger has {size} entries and not that one")
        await asyncio.sleep(LOOK_SECONDS)
