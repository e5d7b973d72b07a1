"""Whether the server lives, whether it can serve, and its figures."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request
from starlette.responses import Response

from api.service.describing import JSON_OBJECT, PROBLEM, described, described_as
from api.service.ledgers import Served
from api.service.permissions import PUBLIC, needs
from api.service.principal import caller_of
from api.service.requests import answer, new_router
from ledger.errors import AsofError, StoreError
from ledger.guard import Guard

if TYPE_CHECKING:
    from api.service.witnessing.witness import Fork

__all__ = ["router"]

router = new_router()

LEAST_FREE_BYTES: Final = 256 << 20
SECONDS: Final = 5.0


@router.get(
    "/healthz",
    summary="The process answers",
    openapi_extra=needs(PUBLIC),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def healthz(request: Request) -> Response:
    """Nothing else is looked at: whoever restarts processes asks here."""
    return answer(request, {"status": "ok"})


@router.get(
    "/readyz",
    summary="The server can serve: schema, head, guard, lag, disk",
    openapi_extra=needs(PUBLIC),
    responses=described(JSON_OBJECT) | {503: {"description": "Not ready"}} | PROBLEM,
)
async def readyz(request: Request) -> Response:
    """200 or 503. A word for each check; the figures only for whoever may see them."""
    checks: dict[str, dict[str, Any]] = {}
    for name, here in request.app.state.ledgers.items():
        checks[name] = await _checks(here)
    witnessing = getattr(request.app.state, "witness_status", None)
    ready = all(one["ok"] for found in checks.values() for one in found.values())
    caller = caller_of(request)
    told: dict[str, Any] = {"status": "ready" if ready else "not ready"}
    if any("metrics:read" in held for held in caller.permissions.values()):
        told["ledgers"] = checks
        if witnessing is not None:
            told["witnesses"] = witnessing()
            told["forks"] = await asyncio.to_thread(_forks, request.app.state.forks)
    headers = {} if ready else {"Retry-After": "1"}
    return answer(request, told, status=200 if ready else 503, headers=headers)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    openapi_extra=needs("metrics:read"),
    responses=described_as("text/plain") | PROBLEM,
)
async def metrics(request: Request) -> Response:
    """Labels are route templates and names of ledgers."""
    text = await asyncio.to_thread(request.app.state.metrics.text)
    return Response(
        text, media_type="text/plain; version=0.0.4", headers={"Cache-Control": "no-store"}
    )


def _forks(kept: Callable[[], list[Fork]]) -> list[dict[str, Any]]:
    """What this server has seen as a witness: both checkpoints of each, to be kept elsewhere."""
    return [
        {**fork._asdict(), "seen": fork.seen.decode(), "shown": fork.shown.decode()}
        for fork in kept()
    ]


async def _checks(here: Served) -> dict[str, dict[str, Any]]:
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.to_thread(_looked, here)
    except TimeoutError:
        return {"store": {"ok": False, "detail": f"no answer within {SECONDS:g} seconds"}}


def _looked(here: Served) -> dict[str, dict[str, Any]]:
    try:
        head = here.reader.head()
    except AsofError as error:
        return {"store": {"ok": False, "detail": str(error)}}
    found: dict[str, dict[str, Any]] = {
        "store": {"ok": True, "entries": head.size},
        "guard": _guard(here),
        "index": _index(here, head.size),
    }
    if isinstance(here.ledger.guard, Guard):
        free = shutil.disk_usage(here.ledger.guard.path.parent).free
        found["disk"] = {"ok": free >= LEAST_FREE_BYTES, "free_bytes": free}
    return found


def _guard(here: Served) -> dict[str, Any]:
    """The guard is not ahead of the store: a restored backup would be."""
    try:
        here.ledger.guard.check(here.reader.head, here.reader.root)
    except (AsofError, StoreError) as error:
        return {"ok": False, "detail": str(error)}
    return {"ok": True}


def _index(here: Served, size: int) -> dict[str, Any]:
    if here.index_trouble is not None:
        return {"ok": False, "detail": here.index_trouble}
    lag = max(0, size - here.indexed)
    return {"ok": True, "lag_entries": lag}
