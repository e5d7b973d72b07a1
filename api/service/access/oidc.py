"""JWT of an OpenID provider as a credential: for services that have one already.

::

    [oidc]
    issuer = "https://login.example.com"
    audience = "asof"
    jwks_url = "https://login.example.com/keys"
    role_claim = "groups"
    [oidc.roles]
    "ml-auditors" = ["acme:auditor"]

What holds of a token is decided by `access.provider`. A token that was checked before is remembered
(its SHA-256, never itself) until it ends, or the provider's keys are fetched again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from api.service.access.provider import MOST_AGE_SECONDS, SKEW_SECONDS, Provider
from api.service.principal import Caller

__all__ = ["JwtAuthenticator"]

REMEMBERED: Final = 1_000


class JwtAuthenticator:
    """Checks tokens in the event loop, with keys that the provider's task keeps fresh."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._generation = 0
        self._seen: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def authenticate(self, authorization: str | None) -> Caller | None:
        """The caller, or None where there is no valid token of this provider."""
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        if self._generation != self._provider.generation:
            self._generation = self._provider.generation
            self._seen.clear()
        token = authorization[7:].strip()
        mark = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        seen = self._seen.get(mark)
        if seen is not None:
            return seen[0] if seen[1] > self._provider.clock() else None
        claims = self._provider.checked(token, audience=self._provider.settings.audience)
        caller = None if claims is None else self._provider.caller_of(claims, credential="oidc")
        if caller is not None and claims is not None:
            until = min(claims["exp"] + SKEW_SECONDS, claims["iat"] + MOST_AGE_SECONDS)
            self._seen[mark] = (caller, until)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return caller
