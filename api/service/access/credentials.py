"""What a request can come with: a token of ours, a JWT of the provider, or a browser's session.

A request that has an `Authorization` is decided by it alone: where it does not hold, a cookie
beside it does not stand in. Terraform can only send a name and a password: under its paths, and
nowhere else, the password is the token.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Scope

    from api.service.access.authenticating import TokenAuthenticator
    from api.service.access.granting import Grants
    from api.service.access.oidc import JwtAuthenticator
    from api.service.access.sessions import Sessions
    from api.service.principal import Caller

__all__ = ["Credentials"]

AUTHORIZATION: Final = b"authorization"
BASIC_PATHS: Final = "/terraform/"


class Credentials:
    """Called for each request, in the event loop."""

    def __init__(
        self,
        tokens: TokenAuthenticator,
        grants: Grants,
        jwts: JwtAuthenticator | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._tokens = tokens
        self._grants = grants
        self._jwts = jwts
        self._sessions = sessions

    def authenticate(self, scope: Scope) -> Caller | None:
        """The caller of a request, or None where it has no valid credential."""
        header = _authorization(scope)
        if header is None:
            session = None if self._sessions is None else self._sessions.authenticate(scope)
            return self._granted(session)
        found = self._tokens.authenticate(header)
        if found is not None or self._jwts is None:
            return found
        return self._granted(self._jwts.authenticate(header))

    def _granted(self, known: Caller | None) -> Caller | None:
        """Whom the provider knows, with what the ledgers grant them."""
        return None if known is None else self._grants.of(known)


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == AUTHORIZATION:
            header = str(value, "latin-1")
            basic = header[:5].lower() == "basic" and scope["path"].startswith(BASIC_PATHS)
            return _as_bearer(header) if basic else header
    return None


def _as_bearer(header: str) -> str:
    """The password, as if it had come as a token; the header as it is where there is none."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return header
    try:
        pair = base64.b64decode(given.strip(), validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        return header
    return f"Bearer {pair.partition(':')[2]}"
