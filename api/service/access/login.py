"""People log in at their provider: authorization code with PKCE (RFC 6749, 7636; OpenID Connect).

::

    begun = login.begin("/v1/whoami")        # begun.address: where the browser goes; begun.cookie
    ended = await login.end(query, cookie)   # ended.caller, ended.return_to

One secret of 256 bits in a cookie of the browser that began carries the whole login: `state`,
`nonce` and the PKCE verifier are derived from it, so that the server keeps nothing about logins
that nobody ends. Whoever sees one of the three learns neither the secret nor the other two.

What is checked when the browser comes back (`end`), in this order:

1. The cookie of a login is there.
2. `state` is derived from it: this browser began this login.
3. `iss`, where the provider sends it, is the issuer; and the provider says no error.
4. The login was not ended before, in this process. At the provider a code is good for once, too.
5. The token endpoint gives an ID token for the code and the verifier.
6. Signature, issuer, audience (our client id) and times hold; `nonce` is the one derived; `azp`,
   where it is there, is our client id; the token was made within the last minutes.
7. The configuration gives a role to one of its claims, or a ledger to its principal.

Only the configured addresses are ever asked, redirects are not followed, and neither code nor
token is written anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from asyncio import Semaphore
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import httpx2
import orjson

from api.service.access.sessions import Sessions, Site
from api.service.problems import ProblemError
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from api.service.access.granting import Grants
    from api.service.access.provider import LoginSettings, Provider
    from api.service.principal import Caller

__all__ = ["LOGIN_SECONDS", "Begun", "Ended", "Login", "logins_of"]

LOGIN_SECONDS: Final = 600
TIMEOUT_SECONDS: Final = 10
MOST_AT_ONCE: Final = 8
MOST_ENDED: Final = 10_000
MOST_ANSWER: Final = 64 << 10
MOST_CODE: Final = 4_096
CALLBACK: Final = "/auth/callback"
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{0,700})")
_RETURN_TO: Final = re.compile(r"/(?:[A-Za-z0-9_.~?=&%:@+,-][A-Za-z0-9_.~?=&%:@+,/-]{0,498})?")


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the browser goes, and the cookie that it keeps meanwhile."""

    address: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Who logged in, with the roles of their claims; the ledgers in which they have a role, and
    the path that they wanted.
    """

    caller: Caller
    ledgers: tuple[str, ...]
    return_to: str


class Login:
    """Used in the event loop; `close` gives the connections back."""

    def __init__(self, provider: Provider, grants: Grants, settings: LoginSettings) -> None:
        site = Site(settings.site)
        self.cookie = site.cookie_name("login")
        self.is_tls = site.is_tls
        self._provider = provider
        self._grants = grants
        self._settings = settings
        self._callback = site.address(CALLBACK)
        self._ended: OrderedDict[bytes, None] = OrderedDict()
        self._asking = Semaphore(MOST_AT_ONCE)
        self._http = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False)

    async def close(self) -> None:
        """Give the connections to the provider back."""
        await self._http.aclose()

    def begin(self, return_to: str) -> Begun:
        """A login that ends at `return_to`, a path of this server. Raises MalformedError."""
        if _RETURN_TO.fullmatch(return_to) is None:
            raise MalformedError("must be a path of this server", where="to")
        secret = secrets.token_urlsafe(32)
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._callback,
            "scope": self._settings.scope,
            "state": _derived(secret, "state"),
            "nonce": _derived(secret, "nonce"),
            "code_challenge": _encoded(hashlib.sha256(_derived(secret, "verifier").encode())),
            "code_challenge_method": "S256",
        }
        base = self._settings.authorization_url
        return Begun(
            address=f"{base}{'&' if '?' in base else '?'}{urlencode(asked)}",
            cookie=f"{secret}.{base64.urlsafe_b64encode(return_to.encode()).decode().rstrip('=')}",
        )

    async def end(self, query: Mapping[str, str], cookie: str | None) -> Ended:
        """Who came back from the provider.

        Raises ProblemError: `unauthenticated` where one of the checks fails, never saying which;
        `not-allowed` for somebody without a role; `unavailable` where the provider does not answer.
        """
        secret, return_to = _read_cookie(cookie)
        if not _same(query.get("state"), _derived(secret, "state")):
            raise _again()
        if query.get("iss", self._provider.settings.issuer) != self._provider.settings.issuer:
            raise _again()
        code = query.get("code", "")
        if "error" in query or not 0 < len(code) <= MOST_CODE:
            raise _again()
        self._end_once(secret)
        token = await self._exchanged(code, _derived(secret, "verifier"))
        claims = self._checked(token, _derived(secret, "nonce"))
        caller = self._provider.caller_of(claims, credential="session")
        if caller is None:
            raise _again()
        granted = self._grants.of(caller)
        if granted is None:
            raise ProblemError(
                "not-allowed",
                f"the provider knows you, and you have no role here: ask an administrator to grant "
                f"one to {caller.id}",
            )
        return Ended(caller, tuple(granted.roles), return_to)

    def _end_once(self, secret: str) -> None:
        """Before the provider is asked: of two who come back at once, one goes on."""
        mark = hashlib.sha256(secret.encode()).digest()
        if mark in self._ended:
            raise _again()
        self._ended[mark] = None
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    async def _exchanged(self, code: str, verifier: str) -> str:
        """The ID token that the provider gives for the code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "client_id": self._settings.client_id,
            "code_verifier": verifier,
        }
        if self._asking.locked():
            raise _unreachable("too many logins end at once")
        try:
            async with (
                self._asking,
                self._http.stream(
                    "POST",
                    self._settings.token_url,
                    content=urlencode(form),
                    headers=self._headers(),
                ) as answer,
            ):
                body = await _bounded(answer)
        except httpx2.HTTPError:
            raise _unreachable("the identity provider does not answer") from None
        if answer.status_code >= 500:
            raise _unreachable("the identity provider does not answer well")
        if answer.status_code != 200:
            raise _again()
        try:
            token = orjson.loads(body)["id_token"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise _unreachable("the identity provider gives no ID token") from None
        if not isinstance(token, str):
            raise _again()
        return token

    def _headers(self) -> dict[str, str]:
        told = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        secret = self._settings.client_secret
        if secret is not None:
            pair = f"{quote(self._settings.client_id, safe='')}:{quote(secret, safe='')}"
            told["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return told

    def _checked(self, token: str, nonce: str) -> dict[str, Any]:
        client = self._settings.client_id
        claims = self._provider.checked(token, audience=client)
        if claims is None or not _same(claims.get("nonce"), nonce):
            raise _again()
        if claims.get("azp", client) != client:
            raise _again()
        if self._provider.clock() - claims["iat"] > LOGIN_SECONDS:
            raise _again()
        return claims


def logins_of(provider: Provider | None, grants: Grants) -> tuple[Login | None, Sessions | None]:
    """Logins and sessions of browsers, where the configuration has them."""
    told = None if provider is None else provider.settings.login
    if provider is None or told is None:
        return None, None
    sessions = Sessions(Site(told.site), hours=told.session_hours, clock=time.monotonic)
    return Login(provider, grants, told), sessions


async def _bounded(answer: httpx2.Response) -> bytes:
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > MOST_ANSWER:
            raise _unreachable("the identity provider answers with too much")
    return body


def _read_cookie(cookie: str | None) -> tuple[str, str]:
    """The secret, and the path that was wanted. The path is checked again: it comes from outside
    once more.
    """
    found = None if cookie is None else _COOKIE.fullmatch(cookie)
    if found is None:
        raise _again()
    try:
        path = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)).decode("ascii")
    except ValueError:
        raise _again() from None
    if _RETURN_TO.fullmatch(path) is None:
        raise _again()
    return found[1], path


def _derived(secret: str, what: str) -> str:
    return _encoded(hmac.new(secret.encode(), f"asof login {what}".encode(), "sha256"))


def _encoded(made: Any) -> str:
    return base64.urlsafe_b64encode(made.digest()).decode().rstrip("=")


def _same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), wanted.encode())


def _again() -> ProblemError:
    return ProblemError(
        "unauthenticated",
        "this login was begun in another browser, is too old, was ended already, or the provider "
        "refused it: begin again at /auth/login",
    )


def _unreachable(why: str) -> ProblemError:
    return ProblemError("unavailable", f"{why}: begin again later", headers={"Retry-After": "5"})
