"""The OpenID provider: its keys, what its signatures vouch for, and whom its claims stand for.

::

    provider = Provider(settings)                       # `watch` keeps the keys fresh
    claims = provider.checked(token, audience="asof")   # None where anything does not hold
    caller = provider.caller_of(claims, credential="oidc")

Pinned: issuer, audience, asymmetric algorithms; keys come from the configured address alone, never
from what a token says (`jku`, `x5u`), and are fetched again at most once a minute. The identity is
issuer and subject, as `user:` or `service:` with a digest of both; an e-mail address never is.
Which roles a claim stands for is written in the configuration, and is not an entry of the ledger;
what the ledgers grant to the same principal comes to it (`access.granting`): docs/access.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
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

__all__ = ["MOST_AGE_SECONDS", "SKEW_SECONDS", "LoginSettings", "OidcSettings", "Provider"]

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
YEAR_10000: Final = 253_402_300_800


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSettings:
    """How people log in with a browser. `site` is what they reach this server by."""

    site: str
    client_id: str
    authorization_url: str
    token_url: str
    client_secret: str | None = field(default=None, repr=False)
    scope: str = "openid"
    session_hours: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """One provider. `roles` maps a value of the claim to (ledger, role) pairs."""

    issuer: str
    audience: str
    jwks_url: str
    role_claim: str = "groups"
    service_claim: str = "client_id"
    roles: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    login: LoginSettings | None = None


class Provider:
    """Used in the event loop. `generation` grows when the keys were fetched: what was checked with
    older ones is checked again.
    """

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.generation = 0
        self._keys: KeySet | None = None
        self._fetched = -LEAST_PAUSE_SECONDS
        self._wanted = asyncio.Event()

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

    def checked(self, token: str, *, audience: str) -> dict[str, Any] | None:
        """The claims of a token whose signature, issuer, audience and times hold; `exp` and `iat`
        among them are numbers. None for any other.
        """
        if token.count(".") != 2 or len(token) > MOST_TOKEN:
            return None
        if self._keys is None:
            self._wanted.set()
            return None
        try:
            found = jwt.decode(token, self._keys, algorithms=list(ALGORITHMS))
            self._rules(audience).validate(found.claims)
        except ValueError:
            self._wanted.set()  # perhaps a key that is new there
            return None
        except (JoseError, TypeError, KeyError):
            return None
        claims = dict(found.claims)
        if not all(0 <= claims[name] < YEAR_10000 for name in ("exp", "iat")):
            return None  # also what is no number (NaN), and what no float holds
        age = self.clock() - claims["iat"]
        return claims if -SKEW_SECONDS <= age <= MOST_AGE_SECONDS else None

    def caller_of(self, claims: Mapping[str, Any], *, credential: str) -> Caller | None:
        """Whom checked claims stand for, with the roles that are written for them in the
        configuration, perhaps none. None where the subject is no text.
        """
        told = claims.get(self.settings.role_claim, [])
        values = [told] if isinstance(told, str) else told if isinstance(told, list) else []
        roles: dict[str, set[str]] = {}
        for value in values:
            for ledger, role in self.settings.roles.get(str(value), ()):
                roles.setdefault(ledger, set()).add(role)
        if not isinstance(claims["sub"], str):
            return None
        identity = f"{self.settings.issuer}\n{claims['sub']}".encode()
        kind = "service" if claims["sub"] == claims.get(self.settings.service_claim) else "user"
        return Caller(
            id=f"{kind}:{hashlib.sha256(identity).hexdigest()[:24]}",
            roles={name: frozenset(held) for name, held in roles.items()},
            permissions={name: permissions_of(held) for name, held in roles.items()},
            credential=credential,
        )

    def _rules(self, audience: str) -> JWTClaimsRegistry:
        return JWTClaimsRegistry(
            now=lambda: int(self.clock()),
            leeway=SKEW_SECONDS,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    async def _fetch(self, http: httpx2.AsyncClient) -> None:
        self._fetched = time.monotonic()
        try:
            answer = await http.get(self.settings.jwks_url)
            answer.raise_for_status()
            self._keys = KeySet.import_key_set(answer.json())
            self.generation += 1
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, JoseError) as error:
            structlog.get_logger("asof").warning("oidc", problem=f"keys: {type(error).__name__}")
