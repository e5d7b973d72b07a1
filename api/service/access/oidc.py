"""JWT of an OpenID provider as a credential: for services that have one already.

::

    [oidc]
    issuer = "https://login.example.com"
    audience = "asof"
    jwks_url = "https://login.example.com/keys"
    role_claim = "groups"
    [oidc.roles]
    "ml-auditors" = ["acme:auditor"]

Pinned: issuer, audience, asymmetric algorithms; keys come from the configured address alone, never
from what a token says (`jku`, `x5u`), and are fetched again at most once a minute. The identity is
issuer and subject, as `user:` or `service:` with a digest of both; an e-mail address never is.
Which roles a claim stands for is written in the configuration, and is not an entry of the ledger:
docs/access.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from api.service.permissions import permissions_of
from api.service.principal import Caller

__all__ = ["JwtAuthenticator", "OidcSettings"]

ALGORITHMS: Final = (
    "EdDSA",
    "Ed25519",
    "ES256",
    "ES384",
    "PS256",
    "PS384",
    "RS256",
    "RS384",
    "RS512",
)
SKEW_SECONDS: Final = 60
MOST_AGE_SECONDS: Final = 86_400
REFRESH_SECONDS: Final = 300.0
LEAST_PAUSE_SECONDS: Final = 60.0
MOST_TOKEN: Final = 8 << 10
REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """One provider. `roles` maps a value of the claim to (ledger, role) pairs."""

    issuer: str
    audience: str
    jwks_url: str
    role_claim: str = "groups"
    service_claim: str = "client_id"
    roles: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


class JwtAuthenticator:
    """Checks tokens in the event loop, with keys that a task keeps fresh."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched = -LEAST_PAUSE_SECONDS
        self._wanted = asyncio.Event()
        self._seen: OrderedDict[bytes, tuple[Caller, int]] = OrderedDict()
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=SKEW_SECONDS,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    def authenticate(self, authorization: str | None) -> Caller | None:
        """The caller, or None where there is no valid token of this provider."""
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        token = authorization[7:].strip()
        if token.count(".") != 2 or len(token) > MOST_TOKEN:
            return None
        mark = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        seen = self._seen.get(mark)
        if seen is not None:
            return seen[0] if seen[1] + SKEW_SECONDS > self._clock() else None
        claims = self._checked(token)
        caller = None if claims is None else self._caller(claims)
        if caller is not None and claims is not None:
            self._seen[mark] = (caller, int(claims["exp"]))
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return caller

    async def watch(self) -> None:
        """Keep the keys fresh, until cancelled; sooner where a token names a key that is not there,
        but never more often than once a minute.
        """
        async with httpx2.AsyncClient(timeout=10, follow_redirects=False) as http:
            while True:
                await self._fetch(http)
                self._wanted.clear()
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._wanted.wait()
                except TimeoutError:
                    continue
                rest = LEAST_PAUSE_SECONDS - (time.monotonic() - self._fetched)
                await asyncio.sleep(max(0.0, rest))

    async def _fetch(self, http: httpx2.AsyncClient) -> None:
        self._fetched = time.monotonic()
        try:
            answer = await http.get(self._settings.jwks_url)
            answer.raise_for_status()
            self._keys = KeySet.import_key_set(answer.json())
            self._seen.clear()
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, JoseError) as error:
            structlog.get_logger("asof").warning("oidc", problem=f"keys: {type(error).__name__}")

    def _checked(self, token: str) -> dict[str, Any] | None:
        """The claims of a token whose signature, issuer, audience and times hold."""
        if self._keys is None:
            self._wanted.set()
            return None
        try:
            found = jwt.decode(token, self._keys, algorithms=list(ALGORITHMS))
            self._claims.validate(found.claims)
        except ValueError:
            self._wanted.set()  # perhaps a key that is new there
            return None
        except (JoseError, TypeError, KeyError):
            return None
        claims = dict(found.claims)
        age = self._clock() - claims["iat"]
        return claims if -SKEW_SECONDS <= age <= MOST_AGE_SECONDS else None

    def _caller(self, claims: Mapping[str, Any]) -> Caller | None:
        told = claims.get(self._settings.role_claim, [])
        values = [told] if isinstance(told, str) else told if isinstance(told, list) else []
        roles: dict[str, set[str]] = {}
        for value in values:
            for ledger, role in self._settings.roles.get(str(value), ()):
                roles.setdefault(ledger, set()).add(role)
        if not roles or not isinstance(claims["sub"], str):
            return None
        identity = f"{self._settings.issuer}\n{claims['sub']}".encode()
        kind = "service" if claims["sub"] == claims.get(self._settings.service_claim) else "user"
        return Caller(
            id=f"{kind}:{hashlib.sha256(identity).hexdigest()[:24]}",
            roles={name: frozenset(held) for name, held in roles.items()},
            permissions={name: permissions_of(held) for name, held in roles.items()},
            credential="oidc",
        )
