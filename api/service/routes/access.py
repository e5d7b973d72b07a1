"""Who may do what: whoami, roles, tokens. Every change is an entry of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Path, Request
from starlette.responses import Response

from api.service.access.access import Access
from api.service.access.changing import (
    Decision,
    grant_role,
    issue_token,
    revoke_role,
    revoke_token,
    rotate_token,
)
from api.service.access.listing import token_json
from api.service.bodies import read_object
from api.service.describing import JSON_OBJECT, PROBLEM, described, described_body, shape
from api.service.permissions import ANY_ROLE, ROLES, needs
from api.service.principal import caller_of
from api.service.remembering import once
from api.service.requests import answer, new_router, now_micros, served
from api.service.texts import optional_number, optional_text, optional_texts, text, whole

if TYPE_CHECKING:
    from api.service.access.registry import Registry

__all__ = ["router"]

router = new_router()

PATH: Final = "/v1/ledgers/{ledger}/access"
TokenPath = Annotated[str, Path(min_length=1, max_length=40)]
TEXT: Final = {"type": "string"}
ROLE: Final = {"type": "string", "enum": sorted(ROLES)}
ROLE_BODY: Final = shape({"principal": TEXT, "role": ROLE, "reason": {"type": ["string", "null"]}})
ROLE_BODY["required"] = ["principal", "role"]
ROLE_EXAMPLE: Final = {"principal": "user:81f3", "role": "auditor"}
TOKEN_BODY: Final = shape(
    {
        "principal": TEXT,
        "roles": {"type": "array", "items": ROLE},
        "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 400},
    }
)
TOKEN_BODY["required"] = ["principal"]
TOKEN_EXAMPLE: Final = {"principal": "service:trainer-0", "roles": ["recorder"], "days": 90}


@router.get(
    "/v1/whoami",
    summary="Who the server takes the caller for",
    openapi_extra=needs(ANY_ROLE),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def whoami(request: Request) -> Response:
    """Principal, and roles and permissions in each ledger."""
    caller = caller_of(request)
    ledgers = {
        name: {"roles": sorted(caller.roles.get(name, ())), "permissions": sorted(held)}
        for name, held in caller.permissions.items()
    }
    return answer(
        request,
        {"principal": caller.id, "credential": caller.credential, "ledgers": ledgers},
    )


@router.get(
    f"{PATH}/principals",
    summary="Who has which role",
    openapi_extra=needs("access:read"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def principals(request: Request) -> Response:
    """As the ledger's stream `access/roles` tells."""
    found = [
        {"principal": who, "roles": sorted(roles)}
        for who, roles in sorted(_registry(request).principals().items())
    ]
    return answer(request, {"principals": found})


@router.get(
    f"{PATH}/tokens",
    summary="The tokens, without their secrets",
    openapi_extra=needs("access:read"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def tokens(request: Request) -> Response:
    """`last_used_at` is what this server process saw since it started; null: not since then."""
    access: Access = request.app.state.access
    now = now_micros()
    used = access.authenticator.last_used
    found = [token_json(one, now, used.get(one.id)) for one in _registry(request).tokens()]
    return answer(request, {"tokens": found})


@router.post(
    f"{PATH}/grants",
    status_code=201,
    summary="Give a role",
    openapi_extra=needs("access:manage") | described_body(ROLE_BODY, ROLE_EXAMPLE),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def grant(request: Request) -> Response:
    """To somebody else: nobody gives a role to themselves."""
    return await _role_decided(request, grant_role)


@router.post(
    f"{PATH}/revocations",
    status_code=201,
    summary="Take a role away",
    openapi_extra=needs("access:manage") | described_body(ROLE_BODY, ROLE_EXAMPLE),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def revoke(request: Request) -> Response:
    """From the next request on. With the last role go the tokens."""
    return await _role_decided(request, revoke_role)


@router.post(
    f"{PATH}/tokens",
    status_code=201,
    summary="Make a token; it is shown once",
    openapi_extra=needs("access:manage") | described_body(TOKEN_BODY, TOKEN_EXAMPLE),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def create_token(request: Request) -> Response:
    """For some of the principal's roles, or all of them. Repeated under its key, the answer names
    the same token, and its secret is null: whoever lost it ends that one and makes another.
    """
    given = await read_object(request)
    principal, roles = text(given, "principal"), optional_texts(given, "roles")
    days = optional_number(given, "days", least=1, most=400)
    whole(given, TOKEN_BODY["properties"])

    def decide(registry: Registry, by: str, now: int) -> Decision:
        return issue_token(registry, principal, roles=roles, days=days, by=by, now=now)

    return await once(request, given, lambda: _decided(request, decide), shown_once="token")


@router.post(
    f"{PATH}/tokens/{{token}}/rotation",
    status_code=201,
    summary="Make a second token like it; revoke the first when the second is in use",
    openapi_extra=needs("access:manage"),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def rotate(request: Request, token: TokenPath) -> Response:
    """Both live until one is revoked. Repeated under its key as the making of one is."""

    def decide(registry: Registry, by: str, now: int) -> Decision:
        return rotate_token(registry, token, by=by, now=now)

    return await once(request, {}, lambda: _decided(request, decide), shown_once="token")


@router.delete(
    f"{PATH}/tokens/{{token}}",
    summary="End a token",
    openapi_extra=needs("access:manage"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def end_token(request: Request, token: TokenPath) -> Response:
    """From the next request on; an id is never used again."""
    return await _decided(
        request,
        lambda registry, by, now: revoke_token(registry, token, by=by, now=now),
        status=200,
    )


Decide = Callable[["Registry", str, int], Decision]


async def _decided(request: Request, decide: Decide, *, status: int = 201) -> Response:
    """Decide on what is known now, record it at that version, and let it hold at once."""
    here, caller = served(request), caller_of(request)
    access: Access = request.app.state.access
    done = await access.decide(here, lambda registry: decide(registry, caller.id, now_micros()))
    told = dict(done.told)
    token = getattr(done, "token", None)
    if token is not None:
        told["token"] = token
    return answer(request, told, status=status)


def _registry(request: Request) -> Registry:
    access: Access = request.app.state.access
    return access.registries[served(request).name]


async def _role_decided(request: Request, change: Callable[..., Decision]) -> Response:
    """Give or take the role that the body names."""
    given = await read_object(request)
    principal, role = text(given, "principal"), text(given, "role")
    reason = optional_text(given, "reason")
    whole(given, ROLE_BODY["properties"])

    def decide(registry: Registry, by: str, now: int) -> Decision:
        return change(registry, principal, role, by=by, now=now, reason=reason)

    return await once(request, given, lambda: _decided(request, decide))
