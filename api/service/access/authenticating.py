"""From a request's Authorization header to the caller: in microseconds, and in the same time for a
token that is wrong as for one that is unknown.

A token that was checked before is remembered (its SHA-256, never itself) until any registry
changes; its expiry is looked at each time. Registries are refreshed by `watch`, about once a
second, and at once by whoever changes access in this process.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from api.service.access.registry import Registry
from api.service.access.tokens import digest_of, id_of
from api.service.permissions import permissions_of
from api.service.principal import Caller

__all__ = ["TokenAuthenticator"]

REMEMBERED: Final = 10_000
_SCHEME: Final = "bearer "


class _Seen(NamedTuple):
    caller: Caller
    expires_at: int


class TokenAuthenticator:
    """Tokens of all ledgers of this server. Called in the event loop; never waits for a store."""

    def __init__(self, registries: Mapping[str, Registry], *, clock: Callable[[], int]) -> None:
        self._registries = registries
        self._clock = clock
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self.last_used: dict[str, int] = {}

    def forget(self) -> None:
        """Check everybody again: access has changed."""
        self._seen.clear()

    def authenticate(self, authorization: str | None) -> Caller | None:
        """The caller, or None where there is no valid token."""
        if authorization is None or authorization[:7].lower() != _SCHEME:
            return None
        token = authorization[7:].strip()
        mark = sha256(token.encode("utf-8", "surrogateescape")).digest()
        now = self._clock()
        seen = self._seen.get(mark)
        if seen is None:
            seen = self._checked(token, now)
            if seen is None:
                return None
            self._seen[mark] = seen
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if seen.expires_at <= now:
            return None
        if seen.caller.credential is not None:
            self.last_used[seen.caller.credential] = now
        return seen.caller

    def _checked(self, token: str, now: int) -> _Seen | None:
        """Each ledger's digest is made and compared, whether or not it knows the id."""
        token_id = id_of(token)
        found: _Seen | None = None
        for name, registry in self._registries.items():
            held = None if token_id is None else registry.token(token_id)
            digest = digest_of(token, registry.pepper)
            if not hmac.compare_digest(digest, held.digest if held else digest[::-1]):
                continue
            if held is None or held.revoked_at is not None:
                continue
            roles = held.roles & registry.roles_of(held.principal)
            if roles:
                caller = Caller(
                    id=held.principal,
                    roles={name: roles},
                    permissions={name: permissions_of(roles)},
                    credential=held.id,
                )
                found = _Seen(caller, held.expires_at)
        return found
