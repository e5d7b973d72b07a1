"""Who has which role and which token, as the ledger's own stream `access/roles` tells.

::

    registry = Registry(reader, pepper)
    registry.refresh()                                   # what another process changed
    registry.token("7Kq2mWc0Ab")                         # Token(principal=…, roles=…, expires_at=…)
    registry.roles_of("user:81f3")                       # frozenset({"auditor"})

The state is a fold of `access.granted` and `access.revoked` in that one stream, in order; so every
change of access is an entry, and any number of server processes see the same. `access.grant` and
its neighbours decide changes; they are recorded at the version that was read, so two who decide at
once never both succeed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from api.service.permissions import ROLES
from ledger.canonical import parse_rfc3339
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.record import Record

__all__ = ["STREAM", "Registry", "Token"]

STREAM: Final = "access/roles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is known: whose it is, for which of their roles, until when (microseconds)."""

    id: str
    principal: str
    digest: str
    roles: frozenset[str]
    expires_at: int
    created_at: int
    created_by: str
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """The fold up to a version. Replaced as a whole, so readers need no lock."""

    version: int
    roles: dict[str, frozenset[str]]
    tokens: dict[str, Token]


class Registry:
    """The access of one ledger. `refresh` may be called from any thread."""

    def __init__(self, reader: Reader, pepper: bytes) -> None:
        self.reader = reader
        self.pepper = pepper
        self._known = _Known(0, {}, {})
        self._mutex = threading.Lock()

    @property
    def version(self) -> int:
        """The version of the stream that is known."""
        return self._known.version

    def refresh(self) -> bool:
        """Take in what is new; whether there was anything. One look at the stream where not.

        Raises StoreError, TamperError.
        """
        with self._mutex:
            known = self._known
            if self.reader.stream_version(STREAM) == known.version:
                return False
            version, roles, tokens = known.version, dict(known.roles), dict(known.tokens)
            for record in self.reader.stream(STREAM, known.version):
                _apply(record, roles, tokens)
                version = record.version
            self._known = _Known(version, roles, tokens)
            return version != known.version

    def token(self, token_id: str) -> Token | None:
        """The token of that id, revoked or not."""
        return self._known.tokens.get(token_id)

    def tokens(self) -> Iterator[Token]:
        """All tokens, in the order in which they were made."""
        return iter(tuple(self._known.tokens.values()))

    def roles_of(self, principal: str) -> frozenset[str]:
        """The roles that a principal has now."""
        return self._known.roles.get(principal, frozenset())

    def principals(self) -> dict[str, frozenset[str]]:
        """Everybody who has a role."""
        return {who: roles for who, roles in self._known.roles.items() if roles}

    def has_admin(self) -> bool:
        """Whether somebody administers this ledger already."""
        return any("admin" in roles for roles in self._known.roles.values())


def _apply(record: Record, roles: dict[str, frozenset[str]], tokens: dict[str, Token]) -> None:
    """One entry. What it does not say well gives nobody anything."""
    data = record.data or {}
    principal, token_id = data.get("principal"), data.get("token")
    if not isinstance(principal, str):
        return
    if record.type.startswith("access.granted/"):
        if isinstance(token_id, str):
            _add_token(record, principal, token_id, tokens)
        elif isinstance(data.get("role"), str) and data["role"] in ROLES:
            roles[principal] = roles.get(principal, frozenset()) | {data["role"]}
    elif record.type.startswith("access.revoked/"):
        if isinstance(token_id, str):
            held = tokens.get(token_id)
            if held is not None and held.revoked_at is None:
                tokens[token_id] = replace(held, revoked_at=record.recorded_at)
        elif isinstance(data.get("role"), str):
            roles[principal] = roles.get(principal, frozenset()) - {data["role"]}
            if not roles[principal]:
                _end_tokens(principal, record.recorded_at, tokens)


def _add_token(record: Record, principal: str, token_id: str, tokens: dict[str, Token]) -> None:
    """An id is used once: a second grant of it, by whatever mistake, changes nothing."""
    data = record.data or {}
    digest, until, roles = data.get("token_digest"), data.get("expires_at"), data.get("roles", [])
    if token_id in tokens or not isinstance(until, str) or not isinstance(roles, list):
        return
    if not isinstance(digest, str) or not digest.isascii():
        return
    try:
        expires_at = parse_rfc3339(until)
    except MalformedError:
        return
    tokens[token_id] = Token(
        id=token_id,
        principal=principal,
        digest=digest,
        roles=frozenset(role for role in roles if isinstance(role, str) and role in ROLES),
        expires_at=expires_at,
        created_at=record.recorded_at,
        created_by=record.actor,
    )


def _end_tokens(principal: str, at: int, tokens: dict[str, Token]) -> None:
    """Who has no role any more has no token any more: coming back does not revive the old ones."""
    for token_id, token in tokens.items():
        if token.principal == principal and token.revoked_at is None:
            tokens[token_id] = replace(token, revoked_at=at)
