"""What may be done, and which role may do it: the one table (docs/spec/http.md).

::

    @router.get("/v1/ledgers/{ledger}/pipelines", openapi_extra=needs("state:read"))

A route that carries no permission does not start the server; what everybody may see says `PUBLIC`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, get_args

from ledger.errors import RefusedError

__all__ = [
    "ANY_ROLE",
    "PERMISSIONS",
    "PUBLIC",
    "RESERVED",
    "ROLES",
    "Permission",
    "Role",
    "check_recordable",
    "needs",
    "permission_of",
    "permissions_of",
]

Role = Literal["recorder", "auditor", "operator", "approver", "compliance", "admin", "provisioner"]
Permission = Literal[
    "access:manage",
    "access:read",
    "entries:append",
    "entries:read",
    "entries:read-own",
    "ingest",
    "ingest:read",
    "metrics:read",
    "proof:read",
    "report:create",
    "report:read",
    "rollback:approve",
    "rollback:execute",
    "rollback:request",
    "state:read",
    "terraform:state",
    "tiles:read",
    "verify",
    "webhooks:manage",
]
PERMISSIONS: Final[tuple[str, ...]] = get_args(Permission)

PUBLIC: Final = "public"
"""For everybody, without a token."""

ANY_ROLE: Final = "any-role"
"""For whoever is known, in whatever role."""

_READS: Final = ("entries:read", "proof:read", "state:read", "tiles:read")

ROLES: Final[dict[str, frozenset[str]]] = {
    "recorder": frozenset(
        ("entries:append", "entries:read-own", "ingest", "proof:read", "state:read", "tiles:read")
    ),
    "auditor": frozenset((*_READS, "verify", "report:read", "access:read", "ingest:read")),
    "operator": frozenset(
        (
            *_READS,
            "entries:append",
            "verify",
            "rollback:request",
            "rollback:execute",
            "webhooks:manage",
            "ingest:read",
        )
    ),
    "approver": frozenset((*_READS, "rollback:approve")),
    "compliance": frozenset((*_READS, "verify", "report:read", "report:create", "access:read")),
    "admin": frozenset(
        ("access:read", "access:manage", "webhooks:manage", "metrics:read", "ingest:read")
    ),
    "provisioner": frozenset(("terraform:state",)),  # states hold secrets: no other role has it
}

RESERVED: Final = (
    "access.",
    "approval.",
    "checkpoint.",
    "epoch.",
    "erasure.",
    "hold.",
    "key.",
    "ledger.",
    "migration.",
    "payload.",
    "policy.",
    "record.",
    "release.",
    "report.",
    "rollback.",
    "subject.",
)
"""Families of events that only the service records, each by its own rules: who could append them
freely could give themselves a role, or approve what they asked for."""

_KEY: Final = "x-asof-permission"


def needs(*permissions: str) -> dict[str, Any]:
    """What a route is declared with: `openapi_extra=needs("state:read")`. One of several is enough.

    `needs(PUBLIC)` and `needs(ANY_ROLE)` stand alone. Raises AssertionError for an unknown one.
    """
    for permission in permissions:
        known = permission in PERMISSIONS or (
            len(permissions) == 1 and permission in (PUBLIC, ANY_ROLE)
        )
        if not known:
            raise AssertionError(f"{permission!r} is no permission")
    security: list[dict[str, list[str]]] = [] if permissions == (PUBLIC,) else [{"token": []}]
    return {_KEY: list(permissions), "security": security}


def permission_of(openapi_extra: dict[str, Any] | None) -> tuple[str, ...]:
    """What a route was declared with; empty where nobody said."""
    return tuple((openapi_extra or {}).get(_KEY, ()))


def check_recordable(type_name: str, where: str) -> None:
    """Raises RefusedError for an event that has a route of its own, or none."""
    if type_name.startswith(RESERVED):
        raise RefusedError(
            f"{where}{type_name} is recorded by the service itself, by the rules of its own route"
        )


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """All that these roles may do together. Raises KeyError for an unknown role."""
    return frozenset().union(*(ROLES[role] for role in roles))
