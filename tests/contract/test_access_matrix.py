"""Every route × method × role × ledger, asked of the guard; generated from the routes themselves.

The guard stands before an application that says "reached", so that what is asked is only whether it
lets through. The expected answer is worked out from the table of roles by other means than the
guard's. The controls at the end change one route, or one role, and must be seen.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from api.service.access.guard import AccessLayer, rules_of
from api.service.permissions import ANY_ROLE, PERMISSIONS, PUBLIC, ROLES, needs, permission_of
from api.service.principal import Caller
from api.service.routes import ROUTERS

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "LOCK", "UNLOCK")
ROUTES = [route for router in ROUTERS for route in router.routes]
LEDGERS = ("acme", "other")


async def reached(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("reached")(scope, receive, send)


def answered(layer: AccessLayer, method: str, path: str) -> int:
    """The status of a request; 200 where the guard let it through."""
    found: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    asyncio.run(layer(scope, receive, send))
    return found[0]


def layer(routes: list[Any], caller: Caller | None, **more: Any) -> AccessLayer:
    return AccessLayer(reached, rules=rules_of(routes), authenticate=lambda scope: caller, **more)


def caller_in(roles: tuple[str, ...], ledger: str = "acme") -> Caller:
    held = frozenset(itertools.chain.from_iterable(ROLES[role] for role in roles))
    return Caller(id="user:x", roles={ledger: frozenset(roles)}, permissions={ledger: held})


def paths_of(route: APIRoute) -> Iterator[tuple[str, str | None]]:
    """Paths of a route, each with the ledger that it names."""
    filled = route.path.replace("{asset_version:path}", "model/a/b@1")
    for ledger in LEDGERS if "{ledger}" in filled else (None,):
        path = filled.replace("{ledger}", ledger or "")
        while "{" in path:
            start = path.index("{")
            path = path[:start] + "1" + path[path.index("}", start) + 1 :]
        yield path, ledger


def expected(route: APIRoute, roles: tuple[str, ...] | None, ledger: str | None) -> int:
    wanted = set(permission_of(route.openapi_extra))
    if wanted == {PUBLIC}:
        return 200
    if roles is None:
        return 401
    if ledger == "other":  # Terraform takes a 404 for a state that is empty, and builds it again
        return 403 if route.path.startswith("/terraform/") else 404
    if wanted == {ANY_ROLE}:
        return 200
    held = {permission for role in roles for permission in ROLES[role]}
    return 200 if held & wanted else 403


def test_every_cell() -> None:
    who: list[tuple[str, ...] | None] = [None, *((role,) for role in ROLES)]
    cells = 0
    for roles in who:
        guard = layer(ROUTES, None if roles is None else caller_in(roles))
        for route in ROUTES:
            assert isinstance(route, APIRoute)
            for path, ledger in paths_of(route):
                for method in METHODS:
                    there = [
                        one
                        for one in ROUTES
                        if isinstance(one, APIRoute) and one.path == route.path
                    ]
                    mine = next((one for one in there if method in (one.methods or ())), None)
                    if mine is None:
                        public = any(permission_of(one.openapi_extra) == (PUBLIC,) for one in there)
                        want = 405 if roles is not None or public else 401
                    else:
                        want = expected(mine, roles, ledger)
                    got = answered(guard, method, path)
                    assert got == want, f"{method} {path} as {roles}: {got}, expected {want}"
                    cells += 1
    assert cells > 2_000


def test_a_role_in_another_ledger_is_no_role_here() -> None:
    guard = layer(ROUTES, caller_in(("auditor",), "other"))
    assert answered(guard, "GET", "/v1/ledgers/acme/pipelines") == 404
    assert answered(guard, "GET", "/v1/ledgers/other/pipelines") == 200


def test_unknown_paths_tell_strangers_nothing() -> None:
    for path in ("/", "/v1", "/v1/ledgers/acme/secret", "/v2/ledgers", "//", "/v1/ledgers//state"):
        assert answered(layer(ROUTES, None), "GET", path) == 401
        assert answered(layer(ROUTES, caller_in(("admin",))), "GET", path) == 404


def test_terraform_is_never_told_that_there_is_nothing() -> None:
    """Its paths answer 403 where others answer 404; the controls are those others."""
    known = layer(ROUTES, caller_in(("admin",)))
    for path in ("/terraform", "/terraform/acme", "/terraform/acme/a/b", "/terraform/nowhere/a"):
        for method in ("GET", "POST", "LOCK"):
            assert answered(known, method, path) == 403, path
            assert answered(layer(ROUTES, None), method, path) == 401, path
    assert answered(known, "GET", "/v1/ledgers/nowhere/pipelines") == 404
    assert answered(known, "GET", "/v1/ledgers/nowhere/terraform/prod/versions") == 404


def test_only_one_role_sees_the_secrets_of_states() -> None:
    assert [role for role, held in ROLES.items() if "terraform:state" in held] == ["provisioner"]
    assert ROLES["provisioner"] == {"terraform:state"}


def test_only_reading_roles_cannot_write() -> None:
    """Written out by hand, against the table: no role that reads everything writes anything."""
    assert not ROLES["auditor"] & {
        "access:manage",
        "entries:append",
        "ingest",
        "report:create",
        "rollback:approve",
        "rollback:execute",
        "rollback:request",
        "webhooks:manage",
    }
    assert "entries:read" not in ROLES["admin"] and "entries:append" not in ROLES["admin"]
    both = [r for r, held in ROLES.items() if {"rollback:request", "rollback:approve"} <= held]
    assert not both, "who asks may not approve"
    assert {permission for held in ROLES.values() for permission in held} == set(PERMISSIONS)


def test_the_test_would_notice() -> None:
    """Controls: a route that says nothing, one that is none of ours, one that became public."""
    router = APIRouter()
    router.get("/v1/open", openapi_extra={})(reached)
    with pytest.raises(AssertionError, match="does not say which permission"):
        rules_of(router.routes)
    for foreign in (Route("/x", reached), Mount("/static", reached)):
        with pytest.raises(AssertionError, match="no route that can be guarded"):
            rules_of([foreign])
    with pytest.raises(AssertionError, match="is no permission"):
        needs("state:raed")
    loose = APIRouter()
    loose.get("/v1/ledgers/{ledger}/entries", openapi_extra=needs(PUBLIC))(reached)
    assert answered(layer(list(loose.routes), None), "GET", "/v1/ledgers/acme/entries") == 200
    assert answered(layer(ROUTES, None), "GET", "/v1/ledgers/acme/entries") == 401


def test_tiles_of_a_public_ledger_are_for_everybody() -> None:
    router = APIRouter()
    router.get("/t/{ledger}/checkpoint", openapi_extra=needs("tiles:read"))(reached)
    guard = layer(list(router.routes), None, public=("acme",))
    assert answered(guard, "GET", "/t/acme/checkpoint") == 200
    assert answered(guard, "GET", "/t/other/checkpoint") == 401
