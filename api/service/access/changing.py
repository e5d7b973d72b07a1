"""Changes of access, decided by rules and recorded as entries: roles and tokens.

::

    decision = grant_role(registry, "user:81f3", "auditor", by="user:ada", now=now)
    writer.append(decision.drafts)                       # at the version that was read

Nobody gives a role to themselves: it takes two administrators. The first is made by `first_admin`,
through the setup link or on the command line beside the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from api.service.access.registry import STREAM, Registry, Token
from api.service.access.tokens import digest_of, new_token
from api.service.permissions import ROLES
from ledger.canonical import format_time
from ledger.errors import ConflictError, MalformedError, NotFoundError, RefusedError
from ledger.events import draft

if TYPE_CHECKING:
    from ledger.draft import Draft

__all__ = [
    "DAY",
    "MOST_DAYS",
    "Decision",
    "Issued",
    "first_admin",
    "grant_role",
    "issue_token",
    "revoke_role",
    "revoke_token",
    "rotate_token",
]

DAY: Final = 86_400_000_000
MOST_DAYS: Final = 400
DEFAULT_DAYS: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be recorded; nothing where it holds already."""

    drafts: Sequence[Draft]
    told: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Decision):
    """A new token. `token` is the only copy there will ever be."""

    token: str
    id: str


def grant_role(
    registry: Registry,
    principal: str,
    role: str,
    *,
    by: str,
    now: int,
    reason: str | None = None,
    beside_the_store: bool = False,
) -> Decision:
    """Give a role. Raises MalformedError; RefusedError for one's own principal, unless it is done
    by whoever has the store and its key, and could write the entry anyway.
    """
    _check_role(role)
    held = registry.roles_of(principal)
    if principal == by and not beside_the_store:
        raise RefusedError(
            f"{by} cannot give a role to themselves: another administrator has to do it"
        )
    if role in held:
        return Decision(drafts=(), told=_told(principal, held))
    after = held | {role}
    return Decision(
        drafts=[_role_draft(registry, "access.granted/1", principal, role, after, by, now, reason)],
        told=_told(principal, after),
    )


def first_admin(registry: Registry, principal: str, *, by: str, now: int) -> Decision:
    """Make the first administrator. Raises ConflictError where there is one."""
    if registry.has_admin():
        raise ConflictError("somebody administers this ledger already: ask them for a role")
    after = registry.roles_of(principal) | {"admin"}
    return Decision(
        drafts=[
            _role_draft(registry, "access.granted/1", principal, "admin", after, by, now, "setup")
        ],
        told=_told(principal, after),
    )


def revoke_role(
    registry: Registry, principal: str, role: str, *, by: str, now: int, reason: str | None = None
) -> Decision:
    """Take a role away; the last one takes the principal's tokens with it.

    Raises MalformedError; RefusedError for the last administrator.
    """
    _check_role(role)
    held = registry.roles_of(principal)
    if role not in held:
        return Decision(drafts=(), told=_told(principal, held))
    admins = [who for who, roles in registry.principals().items() if "admin" in roles]
    if role == "admin" and admins == [principal]:
        raise RefusedError(f"{principal} is the only administrator: make another one first")
    after = held - {role}
    return Decision(
        drafts=[_role_draft(registry, "access.revoked/1", principal, role, after, by, now, reason)],
        told=_told(principal, after),
    )


def issue_token(
    registry: Registry,
    principal: str,
    *,
    roles: Sequence[str],
    days: int | None,
    by: str,
    now: int,
) -> Issued:
    """Make a token for some of a principal's roles (all of them where none is named).

    Raises RefusedError for roles that the principal does not have, MalformedError.
    """
    held = registry.roles_of(principal)
    for role in roles:
        _check_role(role)
    wanted = frozenset(roles) or held
    if not wanted or not wanted <= held:
        lacking = ", ".join(sorted(wanted - held)) or "any role"
        raise RefusedError(f"{principal} does not have {lacking}: grant it first")
    lasts = DEFAULT_DAYS if days is None else days
    if not 1 <= lasts <= MOST_DAYS:
        raise MalformedError(f"a token lasts 1 to {MOST_DAYS} days", where="/days")
    token, token_id = new_token()
    until = format_time(now + lasts * DAY)
    data: dict[str, Any] = {
        "principal": principal,
        "token": token_id,
        "token_digest": digest_of(token, registry.pepper),
        "roles": sorted(wanted),
        "expires_at": until,
    }
    made = draft(
        ("access.granted/1", data),
        stream=STREAM,
        actor=by,
        expected_version=registry.version,
        now=now,
    )
    told = {"id": token_id, "principal": principal, "roles": sorted(wanted), "expires_at": until}
    return Issued(drafts=[made], told=told, token=token, id=token_id)


def rotate_token(registry: Registry, token_id: str, *, by: str, now: int) -> Issued:
    """A second token like the first; both live until the first is revoked. Raises NotFoundError,
    RefusedError for one that lives no more.
    """
    held = _found(registry, token_id)
    if held.revoked_at is not None or held.expires_at <= now:
        raise RefusedError(f"the token {token_id} lives no more: make a new one")
    days = max(1, -(-(held.expires_at - held.created_at) // DAY))
    return issue_token(
        registry, held.principal, roles=sorted(held.roles), days=days, by=by, now=now
    )


def revoke_token(
    registry: Registry, token_id: str, *, by: str, now: int, reason: str | None = None
) -> Decision:
    """End a token. Raises NotFoundError."""
    held = _found(registry, token_id)
    told = {"id": token_id, "principal": held.principal, "revoked": True}
    if held.revoked_at is not None:
        return Decision(drafts=(), told=told)
    data: dict[str, Any] = {"principal": held.principal, "token": token_id}
    if reason is not None:
        data["reason"] = reason
    made = draft(
        ("access.revoked/1", data),
        stream=STREAM,
        actor=by,
        expected_version=registry.version,
        now=now,
    )
    return Decision(drafts=[made], told=told)


def _found(registry: Registry, token_id: str) -> Token:
    held = registry.token(token_id)
    if held is None:
        raise NotFoundError(f"there is no token {token_id!r}")
    return held


def _role_draft(
    registry: Registry,
    type_name: str,
    principal: str,
    role: str,
    after: frozenset[str],
    by: str,
    now: int,
    reason: str | None,
) -> Draft:
    data: dict[str, Any] = {
        "principal": principal,
        "role": role,
        "before": sorted(registry.roles_of(principal)),
        "after": sorted(after),
    }
    if reason is not None:
        data["reason"] = reason
    return draft(
        (type_name, data), stream=STREAM, actor=by, expected_version=registry.version, now=now
    )


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise MalformedError(f"{role!r} is none of {', '.join(sorted(ROLES))}", where="/role")


def _told(principal: str, roles: frozenset[str]) -> dict[str, Any]:
    return {"principal": principal, "roles": sorted(roles)}
