"""The state backend of Terraform and OpenTofu, as their `http` backend speaks (docs/terraform.md).

What is answered here decides what Terraform builds next, so two rules stand above the house's own:
a state that is not there is 204 and nothing else is (a 404 is taken for an empty state too), and a
state that was sent is kept whatever the ledger says.
"""

from __future__ import annotations

import asyncio
import base64
from hashlib import md5
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from api.service.bodies import BodyLimits, read_body
from api.service.describing import JSON_OBJECT, PROBLEM, described, described_body, page_of
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.requests import answer, new_router, now_micros, served
from api.service.terraform.reading import MOST_LOCK_BYTES, parse_lock, stream_of
from ledger.errors import IncompleteError, MalformedError
from ledger.secrets import refuse_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.service.terraform.backend import Backend
    from api.service.terraform.states import Held

__all__ = ["router"]

router = new_router()

ADDRESS: Final = "/terraform/{ledger}/{state}"
VERSIONS: Final = "/v1/ledgers/{ledger}/terraform/{state}/versions"
NEEDED: Final = needs("terraform:state")
NO_STATE: Final[dict[int | str, Any]] = {204: {"description": "There is no state yet"}}
LOCKED: Final[dict[int | str, Any]] = {423: PROBLEM["default"]}
STATE_EXAMPLE: Final = {"version": 4, "serial": 1, "lineage": "fcbb51db", "resources": []}

StateName = Annotated[str, Path(pattern="^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$")]


@router.get(
    ADDRESS,
    summary="The newest state, for Terraform's http backend",
    openapi_extra=NEEDED,
    responses=described(JSON_OBJECT) | NO_STATE | PROBLEM,
)
async def read(request: Request, state: StateName) -> Response:
    """The bytes as they were sent; 204 before the first. A state that the ledger knows and this
    server does not keep is a 500: Terraform would build everything again. LOCK and UNLOCK of the
    same path take and give back the lock: `x-asof-methods` has them, as OpenAPI 3.1 has no word for
    them."""
    found = await _found(request, state, None)
    if found is None:
        await asyncio.to_thread(_check_that_there_is_none, request, state)
        return Response(status_code=204)
    return found


@router.post(
    ADDRESS,
    summary="Keep a state",
    openapi_extra=NEEDED | described_body(JSON_OBJECT, STATE_EXAMPLE),
    responses=described(JSON_OBJECT) | LOCKED | PROBLEM,
)
async def write(
    request: Request,
    state: StateName,
    lock_id: Annotated[str, Query(alias="ID", max_length=200)] = "",
) -> Response:
    """`ID` is that of the lock, if there is one; somebody else's lock is a 423 with its holder.
    Otherwise what is a JSON object is kept: it says what has been built already."""
    origin, backend = _origin(request, state), _backend(request)
    body = await _body(request, request.app.state.terraform_limits)
    told, held = await asyncio.to_thread(
        backend.write,
        origin,
        state,
        body,
        lock_id=lock_id or None,
        actor=caller_of(request).id,
        now=now_micros(),
    )
    _changed(request)
    if held is not None:
        raise _locked(held)
    return answer(request, {"version": told.version, "digest": f"sha256:{told.digest}"})


@router.delete(
    ADDRESS,
    summary="Delete a state, with all its kept versions",
    openapi_extra=NEEDED,
    responses=described(JSON_OBJECT) | LOCKED | PROBLEM,
)
async def delete(request: Request, state: StateName) -> Response:
    """Where it is locked, 423 with the holder. What the ledger says of the versions stays."""
    await _change(request, _backend(request).delete, _origin(request, state), state)
    return answer(request, {})


@router.api_route(
    ADDRESS,
    methods=["LOCK"],
    summary="Take the lock of a state",
    openapi_extra=NEEDED,
    include_in_schema=False,
)
async def lock(request: Request, state: StateName) -> Response:
    """The body is Terraform's lock info. 200, or 423 with the holder's. Refused too while a state
    could not be sealed: nothing has been built yet."""
    origin, backend = _origin(request, state), _backend(request)
    wanted = parse_lock(await _body(request, LOCK_LIMITS))
    await _change(request, backend.lock, origin, state, wanted)
    return answer(request, wanted.as_terraform())


@router.api_route(
    ADDRESS,
    methods=["UNLOCK"],
    summary="Give the lock of a state back",
    openapi_extra=NEEDED,
    include_in_schema=False,
)
async def unlock(request: Request, state: StateName) -> Response:
    """The body is the lock info; without one, as `force-unlock` sends it, whoever holds the lock
    loses it. Another id than the holder's is a 423 with the holder."""
    origin = _origin(request, state)
    body = await _body(request, LOCK_LIMITS)
    lock_id = parse_lock(body).id if body.strip() else None
    await _change(request, _backend(request).unlock, origin, state, lock_id)
    return answer(request, {})


@router.get(
    VERSIONS,
    summary="The kept versions of a Terraform state, newest first",
    openapi_extra=NEEDED,
    responses=described(page_of("versions", JSON_OBJECT)) | PROBLEM,
)
async def versions(request: Request, state: StateName) -> Response:
    """Without what they hold; the ledger has those too that are not kept any more."""
    origin = _origin(request, state)
    found = await asyncio.to_thread(_backend(request).versions, origin, state)
    return answer(request, {"versions": found, "next": None, "basis": None})


@router.get(
    VERSIONS + "/{version}",
    summary="A kept version of a Terraform state",
    openapi_extra=NEEDED,
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def one_version(
    request: Request, state: StateName, version: Annotated[str, Path(max_length=100)]
) -> Response:
    """The bytes as they were sent. Pushing them back changes nothing that was built."""
    found = await _found(request, state, version)
    if found is None:
        raise ProblemError("not-found", "this version is not kept, or never was")
    return found


LOCK_LIMITS: Final = BodyLimits(max_bytes=MOST_LOCK_BYTES)


async def _change(request: Request, change: Callable[..., Held | None], *place: Any) -> None:
    """Make it, and let the ledger be told. Raises ProblemError `locked` where somebody else holds
    the lock.
    """
    held = await asyncio.to_thread(change, *place, actor=caller_of(request).id, now=now_micros())
    _changed(request)
    if held is not None:
        raise _locked(held)


async def _found(request: Request, state: str, version: str | None) -> Response | None:
    """A state as it was sent; that somebody was shown it is a read that the ledger is told."""
    origin = _origin(request, state)
    found = await asyncio.to_thread(_backend(request).read, origin, state, version)
    if found is None:
        return None
    await request.app.state.note_read(request, "terraform_state", 1)
    return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _body(request: Request, limits: BodyLimits) -> bytes:
    """The body, compared with its Content-MD5 where there is one. Raises ProblemError."""
    body = await read_body(request, limits)
    given = request.headers.get("content-md5")
    if given is not None and given.strip() != _md5_of(body):
        raise MalformedError(
            "the body is not what Content-MD5 says: it was changed on its way", where="header"
        )
    return body


def _md5_of(body: bytes) -> str:
    return base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()


def _origin(request: Request, state: str) -> str:
    """The ledger's origin, by which its states are known. Raises MalformedError for a name of a
    state that looks like a secret: it becomes part of the ledger, and nothing is built yet.
    """
    refuse_secrets({"state": state})
    return served(request).reader.origin


def _check_that_there_is_none(request: Request, state: str) -> None:
    """Raises IncompleteError where the ledger has versions of a state that is not kept here."""
    reader = served(request).reader
    if _backend(request).states.is_deleted(reader.origin, state):
        return
    if reader.stream_version(stream_of(state)):
        raise IncompleteError(
            f"the ledger knows versions of {state} and this server keeps none: another server "
            "does, or its terraform.db was lost. Ask that one, or bring the file back from the "
            "backup; DELETE says that there is no such state any more"
        )


def _locked(held: Held) -> ProblemError:
    """423 with the holder, in the words in which Terraform reads it."""
    holder: dict[str, Any] = held.lock.as_terraform()
    return ProblemError("locked", "somebody else holds the lock of this state", **holder)


def _backend(request: Request) -> Backend:
    found: Backend = request.app.state.terraform
    return found


def _changed(request: Request) -> None:
    changed: Callable[[], None] = request.app.state.terraform_changed
    changed()
