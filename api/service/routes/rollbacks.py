"""Rollbacks: plan and request, approve, run, look. The rules are the aggregate's.

Whoever asked may not approve: over HTTP every plan wants a separate approver. Running touches the
systems of this server's machine, so it happens only where the configuration names the folders that
rollbacks may touch (`rollback_roots`); everywhere else the plan is made here and run by `asof
rollback run` beside the systems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path, Query, Request
from starlette.responses import Response

from api.rollback_json import rollback_json
from api.service.bodies import read_object
from api.service.describing import (
    JSON_OBJECT,
    PROBLEM,
    described,
    described_body,
    described_list,
    page_of,
    shape,
)
from api.service.forms import listed_page
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.remembering import once
from api.service.requests import answer, idempotency_key, new_router, now_micros, served
from api.service.texts import optional_flag, optional_text, optional_texts, text, whole
from ledger.errors import RefusedError

if TYPE_CHECKING:
    from api.main import Rooms
    from api.service.executing import Executions

__all__ = ["router"]

router = new_router()

PATH = "/v1/ledgers/{ledger}/rollbacks"
COLUMNS = ("rollback", "status", "pipeline", "stage", "requested_by", "plan_digest", "reason")
PlanPath = Annotated[str, Path(min_length=1, max_length=500)]

PLAN_BODY = shape(
    {
        "pipeline": {"type": "string"},
        "stage": {"type": "string"},
        "to": {"type": "string"},
        "slots": {"type": "array", "items": {"type": "string"}},
        "reason": {"type": ["string", "null"]},
        "id": {"type": ["string", "null"]},
        "dry_run": {"type": "boolean"},
    }
)
PLAN_BODY["required"] = ["pipeline", "stage", "to"]
PLAN_EXAMPLE = {"pipeline": "demand-forecast", "stage": "production", "to": "tag:release-7"}
APPROVAL_BODY = shape({"plan_digest": {"type": "string"}, "reason": {"type": ["string", "null"]}})
APPROVAL_BODY["required"] = ["plan_digest"]


@router.get(
    PATH,
    summary="All plans with their status",
    openapi_extra=needs("state:read"),
    responses=described_list(page_of("rollbacks", JSON_OBJECT)) | PROBLEM,
)
async def every(
    request: Request,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    format: Annotated[str | None, Query(pattern="^(json|jsonl|csv)$")] = None,
) -> Response:
    """In the order of their ids."""
    from api.paging import rollbacks_page

    who = caller_of(request).id
    found = await served(request).asked(
        lambda rooms: rollbacks_page(rooms, cursor=cursor, limit=limit, actor=who)
    )
    return listed_page(request, found, columns=COLUMNS, name="rollbacks", form=format)


@router.get(
    PATH + "/{rollback}",
    summary="One plan: its steps, and what was read back",
    openapi_extra=needs("state:read"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def one(request: Request, rollback: PlanPath) -> Response:
    """How far it is. `execution` says whether this server process runs it, and what was in the way
    the last time; null where it never did.
    """
    who, here = caller_of(request).id, served(request)
    told: Executions = request.app.state.executions
    execution = told.told(here.name, rollback)  # first: what it did is in the entries by then
    found = await here.asked(lambda rooms: _found(rooms, rollback, who))
    return answer(request, found | {"execution": execution})


@router.post(
    PATH,
    status_code=201,
    summary="Plan a rollback and request it",
    openapi_extra=needs("rollback:request") | described_body(PLAN_BODY, PLAN_EXAMPLE),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def request_one(request: Request) -> Response:
    """Each target is looked at now. `dry_run` records nothing; an empty plan records nothing
    either, as there is nothing to do.
    """
    given = await read_object(request)
    return await once(request, given, lambda: _requested(request, given))


async def _requested(request: Request, given: dict[str, Any]) -> Response:
    from api.rolling_back import make_plan, propose

    caller = caller_of(request)
    pipeline, stage, to = text(given, "pipeline"), text(given, "stage"), text(given, "to")
    slots, reason = optional_texts(given, "slots"), optional_text(given, "reason")
    wanted, dry = optional_text(given, "id"), optional_flag(given, "dry_run")
    whole(given, PLAN_BODY["properties"])
    now = now_micros()

    def question(rooms: Rooms) -> tuple[dict[str, Any], bool]:
        made = make_plan(rooms, pipeline, stage, to=to, slots=slots, now=now)
        if made.is_empty or dry:
            return made.as_json() | {"rollback": None, "status": "proposed"}, False
        proposed = propose(
            rooms,
            made,
            rollback_id=wanted,
            actor=caller.id,
            reason=reason,
            now=now,
            requires_approval=True,
            separate_approver=True,
        )
        return rollback_json(proposed), True

    here = served(request)
    found, recorded = await here.asked(question)
    if not recorded:
        return answer(request, found)
    where = f"/v1/ledgers/{here.name}/rollbacks/{found['rollback']}"
    return answer(request, found, status=201, headers={"Location": where})


@router.post(
    PATH + "/{rollback}/approvals",
    status_code=201,
    summary="Approve exactly the plan of a digest",
    openapi_extra=needs("rollback:approve")
    | described_body(APPROVAL_BODY, {"plan_digest": "sha256:5f2c…", "reason": "reviewed"}),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def approve(request: Request, rollback: PlanPath) -> Response:
    """Whoever requested it cannot; a changed plan ends the approval."""
    given = await read_object(request)
    return await once(request, given, lambda: _approved(request, rollback, given))


async def _approved(request: Request, rollback: str, given: dict[str, Any]) -> Response:
    from api.rolling_back import approve as approved
    from api.rolling_back import find

    caller = caller_of(request)
    digest, reason = text(given, "plan_digest"), optional_text(given, "reason")
    whole(given, APPROVAL_BODY["properties"])

    def question(rooms: Rooms) -> dict[str, Any]:
        found = find(rooms, rollback, actor=caller.id)
        if caller.id == found.requester:
            raise RefusedError(f"{rollback}: {caller.id} asked for it, somebody else must approve")
        return rollback_json(approved(rooms, found, digest=digest, actor=caller.id, reason=reason))

    return answer(request, await served(request).asked(question), status=201)


@router.post(
    PATH + "/{rollback}/execution",
    status_code=202,
    summary="Run an approved plan, in the background; again, it goes on where it was",
    openapi_extra=needs("rollback:execute"),
    responses=described(JSON_OBJECT, status=202) | PROBLEM,
)
async def execute(request: Request, rollback: PlanPath) -> Response:
    """`GET` the rollback to see how far it is."""
    caller = caller_of(request)
    idempotency_key(request, caller.id)
    here = served(request)
    found = await here.asked(lambda rooms: _found(rooms, rollback, caller.id))
    await here.asked(lambda rooms: request.app.state.executions.check(here.name, rooms, rollback))
    request.app.state.executions.begin(here, rollback, actor=caller.id)
    where = f"/v1/ledgers/{here.name}/rollbacks/{rollback}"
    return answer(request, found, status=202, headers={"Location": where})


def _found(rooms: Rooms, rollback: str, who: str) -> dict[str, Any]:
    from api.rolling_back import find

    return rollback_json(find(rooms, rollback, actor=who))
