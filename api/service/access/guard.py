"""The layer that lets in: deny by default, decided before a route is reached.

::

    guard = AccessLayer(app, rules=rules_of(routes), authenticate=…, ledgers=…, public=…, refused=…)

Each route says which permission it needs (`needs(…)`), and a route that says nothing does not start
the server. A ledger in which the caller has no role answers as one that does not exist; an unknown
path answers whoever is unknown with 401, so that nothing can be told from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.service.permissions import ANY_ROLE, PUBLIC, permission_of
from api.service.principal import ANONYMOUS, Caller
from api.service.problems import ProblemError, problem_response

__all__ = ["AccessLayer", "Rules", "rules_of"]

Authenticate = Callable[[Scope], Caller | None]
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="asof"'}
NEVER_ABSENT: Final = "/terraform"
"""Terraform takes a 404 for a state that is empty, and builds everything a second time."""


class _Node:
    """A segment of a path. `rest` takes whatever follows, slashes included."""

    __slots__ = ("children", "methods", "param", "param_name", "path", "rest", "rest_name")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.param_name = ""
        self.rest: _Node | None = None
        self.rest_name = ""
        self.methods: dict[str, tuple[str, ...]] = {}
        self.path = ""


class Rules:
    """Which permission a method of a path needs: a tree over the segments of the routes' paths."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, path: str, methods: Iterable[str], permissions: tuple[str, ...]) -> None:
        """Raises AssertionError where one of the methods is there already."""
        node = self._root
        for segment in path.strip("/").split("/"):
            node = _step(node, segment)
        for method in methods:
            if method in node.methods:
                raise AssertionError(f"{method} {path} is declared twice")
            node.methods[method] = permissions
        node.path = path

    def find(self, path: str) -> tuple[str, Mapping[str, tuple[str, ...]], dict[str, str]] | None:
        """The template of a path, its methods with their permissions, and its parameters."""
        segments = path.lstrip("/").split("/")
        found: dict[str, str] = {}
        node = _walk(self._root, segments, 0, found)
        return None if node is None else (node.path, node.methods, found)


def _step(node: _Node, segment: str) -> _Node:
    if not segment.startswith("{"):
        return node.children.setdefault(segment, _Node())
    name = segment[1:-1]
    if name.endswith(":path"):
        node.rest, node.rest_name = node.rest or _Node(), name.removesuffix(":path")
        return node.rest
    node.param, node.param_name = node.param or _Node(), node.param_name or name
    return node.param


def _walk(node: _Node, segments: list[str], at: int, found: dict[str, str]) -> _Node | None:
    if at == len(segments):
        return node if node.methods else None
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None:
        end = _walk(child, segments, at + 1, found)
        if end is not None:
            return end
    if node.param is not None and segment:
        end = _walk(node.param, segments, at + 1, found)
        if end is not None:
            found[node.param_name] = segment
            return end
    if node.rest is not None:
        found[node.rest_name] = "/".join(segments[at:])
        return node.rest
    return None


def rules_of(routes: Iterable[BaseRoute]) -> Rules:
    """The rules of these routes. Raises AssertionError for a route that does not say what it needs,
    or is none of FastAPI's: such a thing must not be served.
    """
    rules = Rules()
    for route in routes:
        if not isinstance(route, APIRoute):
            raise AssertionError(f"{route!r} is no route that can be guarded")
        permissions = permission_of(route.openapi_extra)
        if not permissions:
            raise AssertionError(f"{route.path} does not say which permission it needs")
        rules.add(route.path, route.methods or (), permissions)
    return rules


class AccessLayer:
    """Puts the caller into the request's state, or answers 401, 403, 404, 405.

    `authenticate` gives the caller of a request or None; `public` are the ledgers whose tiles are
    for everybody; `refused` is told each refusal: why, who, route parameters.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Rules,
        authenticate: Authenticate,
        public: Collection[str] = (),
        refused: Callable[[str, Caller | None, str | None], None] = lambda why, who, ledger: None,
    ) -> None:
        self._app = app
        self._rules = rules
        self._authenticate = authenticate
        self._public = frozenset(public)
        self._refused = refused
        self._placed: dict[tuple[int, str], tuple[Caller, Caller]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        try:
            state["caller"] = self._admitted(scope)
        except ProblemError as error:
            request_id = state.get("request_id", "unknown")
            told = _never_absent(error) if scope["path"].startswith(NEVER_ABSENT) else error
            await problem_response(told, request_id)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Caller:
        caller = self._authenticate(scope)
        found = self._rules.find(scope["path"])
        if found is None:
            raise self._unknown_path(caller)
        template, methods, parameters = found
        scope["state"]["matched"] = template, parameters
        permissions = methods.get(scope["method"])
        if permissions is None:
            if caller is None and all(PUBLIC not in needed for needed in methods.values()):
                raise self._unauthenticated()
            allowed = ", ".join(sorted(methods))
            raise ProblemError(
                "method-not-allowed", f"this path takes {allowed}", headers={"Allow": allowed}
            )
        if permissions == (PUBLIC,):
            return caller or ANONYMOUS
        ledger = parameters.get("ledger")
        if ledger in self._public and "tiles:read" in permissions:
            return caller or ANONYMOUS
        if caller is None:
            raise self._unauthenticated()
        if ledger is None:
            return self._anywhere(caller, permissions)
        return self._there(caller, permissions, ledger)

    def _there(self, caller: Caller, permissions: tuple[str, ...], ledger: str) -> Caller:
        held = caller.permissions.get(ledger)
        if not held:
            self._refused("not-found", caller, None)
            raise ProblemError("not-found", "there is no such ledger, or none for you")
        if held.isdisjoint(permissions) and permissions != (ANY_ROLE,):
            self._refused("not-allowed", caller, ledger)
            raise ProblemError("not-allowed", f"this needs {' or '.join(permissions)} in {ledger}")
        return self._in(caller, ledger)

    def _anywhere(self, caller: Caller, permissions: tuple[str, ...]) -> Caller:
        if permissions == (ANY_ROLE,):
            return caller
        names = [name for name in caller.permissions if caller.may(*permissions, ledger=name)]
        if not names:
            self._refused("not-allowed", caller, None)
            raise ProblemError("not-allowed", f"this needs {' or '.join(permissions)}")
        return self._in(caller, names[0]) if len(names) == 1 else caller

    def _in(self, caller: Caller, ledger: str) -> Caller:
        """The caller in a ledger; kept while the authenticator gives the same caller."""
        kept = self._placed.get((id(caller), ledger))
        if kept is not None and kept[0] is caller:
            return kept[1]
        placed = replace(caller, ledger=ledger)
        if len(self._placed) > 10_000:
            self._placed.clear()
        self._placed[id(caller), ledger] = (caller, placed)
        return placed

    def _unauthenticated(self) -> ProblemError:
        self._refused("unauthenticated", None, None)
        return ProblemError(
            "unauthenticated",
            "send Authorization: Bearer with a token of this server",
            headers=CHALLENGE,
        )

    def _unknown_path(self, caller: Caller | None) -> ProblemError:
        if caller is None:
            return self._unauthenticated()
        return ProblemError("not-found", "there is nothing at this path")


def _never_absent(error: ProblemError) -> ProblemError:
    """403 instead of 404: a ledger or a path that is mistyped must stop Terraform."""
    if error.problem.slug != "not-found":
        return error
    return ProblemError(
        "not-allowed", "there is no such state address, or none for you: /terraform/LEDGER/STATE"
    )
