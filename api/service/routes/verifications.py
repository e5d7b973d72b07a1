"""Verifying the whole ledger on request, in a process of its own: it takes a core, not the server.

::

    POST /v1/ledgers/acme/verifications      202, Location: …/verifications/1
    GET  /v1/ledgers/acme/verifications/1    {"id": "1", "status": "running", "report": null, …}

One at a time for each ledger. The report is that of `asof verify -o json`, and is kept until the
server ends. Whoever does not trust this server verifies an export or a bundle on their own machine.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from api.service.describing import JSON_OBJECT, PROBLEM, described, page_of
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.remembering import once
from api.service.requests import answer, new_router, served
from api.service.verifying import Verifications

__all__ = ["router"]

router = new_router()

PATH = "/v1/ledgers/{ledger}/verifications"


@router.post(
    PATH,
    status_code=202,
    summary="Verify the whole ledger, in the background",
    openapi_extra=needs("verify"),
    responses=described(JSON_OBJECT, status=202) | PROBLEM,
)
async def begin(request: Request) -> Response:
    """Begins, or points to the one that runs."""
    return await once(request, {}, lambda: _begun(request))


async def _begun(request: Request) -> Response:
    here = served(request)
    jobs: Verifications = request.app.state.verifications
    job = await jobs.begin(here.name, by=caller_of(request).id)
    where = f"/v1/ledgers/{here.name}/verifications/{job.id}"
    return answer(request, job.as_json(), status=202, headers={"Location": where})


@router.get(
    PATH,
    summary="The verifications since the server started, newest first",
    openapi_extra=needs("verify"),
    responses=described(page_of("verifications", JSON_OBJECT)) | PROBLEM,
)
async def every(request: Request) -> Response:
    """At most the last hundred."""
    jobs: Verifications = request.app.state.verifications
    found: list[dict[str, Any]] = [job.as_json() for job in jobs.every(served(request).name)]
    return answer(request, {"verifications": found, "next": None, "basis": None})


@router.get(
    PATH + "/{verification}",
    summary="How far a verification is, and its report",
    openapi_extra=needs("verify"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def one(request: Request, verification: str) -> Response:
    """`status`: running, done, failed. `report.result`: VALID, INVALID, INCOMPLETE or ERROR."""
    jobs: Verifications = request.app.state.verifications
    job = jobs.get(served(request).name, verification)
    if job is None:
        raise ProblemError("not-found", f"there is no verification {verification[:40]!r}")
    return answer(request, job.as_json())
