"""The witness of other logs (C2SP tlog-witness): POST /witness/add-checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fastapi import Request
from starlette.responses import Response

from api.service.bodies import read_body
from api.service.describing import PROBLEM, described_as
from api.service.permissions import PUBLIC, needs
from api.service.problems import ProblemError
from api.service.requests import new_router
from api.service.witnessing.witness import MOST_BODY_BYTES, RefusalError
from ledger.cosignature import format_witness_vkey

if TYPE_CHECKING:
    from api.service.bodies import BodyLimits
    from api.service.witnessing.door import Door

__all__ = ["router"]

router = new_router()

SIZE: Final = {"Content-Type": "text/x.tlog.size"}
"""To the letter, as clients compare it: given as a media type, a charset would be added to it."""


@router.post(
    "/witness/add-checkpoint",
    summary="Have a checkpoint cosigned",
    openapi_extra=needs(PUBLIC)
    | {"requestBody": {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    responses=described_as("text/plain")
    | {
        409: {
            "description": "The size that was seen last",
            "content": {"text/x.tlog.size": {"schema": {"type": "string"}}},
        },
        "4XX": {
            "description": "Refused, with the reason",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/problem+json": {"schema": {"type": "object"}},
            },
        },
    }
    | PROBLEM,
)
async def add_checkpoint(request: Request) -> Response:
    """Who may ask is whose signature is on the checkpoint. 409 answers with the size seen last."""
    door = _door(request)
    limits: BodyLimits = request.app.state.body_limits
    most = min(limits.max_bytes, MOST_BODY_BYTES)
    body = await read_body(request, replace(limits, max_bytes=most))
    try:
        line = await door.add_checkpoint(body)
    except RefusalError as refusal:
        if refusal.size is not None:
            return Response(f"{refusal.size}\n", status_code=409, headers=SIZE)
        return Response(f"{refusal.detail}\n", status_code=refusal.status, media_type="text/plain")
    return Response(line, media_type="text/plain")


@router.get(
    "/witness/vkey",
    summary="The key of this witness",
    openapi_extra=needs(PUBLIC),
    responses=described_as("text/plain") | PROBLEM,
)
async def vkey(request: Request) -> Response:
    """For the policies of others."""
    text = format_witness_vkey(_door(request).witness.cosigner.key)
    return Response(f"{text}\n", media_type="text/plain")


def _door(request: Request) -> Door:
    found: Door | None = request.app.state.witness
    if found is None:
        raise ProblemError("not-found", "this server is no witness: [witness] is not configured")
    return found
