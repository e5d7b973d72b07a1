"""Sessions of browsers: a random cookie here, who it stands for there.

::

    value = sessions.open(caller)            # for Set-Cookie; what is kept is its SHA-256
    sessions.authenticate(scope)             # the caller, while the session lives

A session lives in the memory of this server process: at most `hours`, at most `IDLE_SECONDS`
without a request, and until the process ends. Several processes behind one address need a proxy
that sends a browser to the same one.

A cookie comes along with whatever a browser sends, also with what another site made it send. So it
counts for GET and HEAD, which change nothing, and for anything else only where `Origin` says that
a page of this server sent it; otherwise it is as if no cookie were there.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from api.service.principal import Caller

__all__ = ["Sessions", "Site"]

IDLE_SECONDS: Final = 3_600.0
MOST_SESSIONS: Final = 10_000
SAFE: Final = frozenset(("GET", "HEAD"))
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Site:
    """What browsers reach this server by, and what follows for its cookies."""

    url: str

    @property
    def is_tls(self) -> bool:
        """Whether cookies are for TLS only."""
        return self.url.lower().startswith("https:")

    @property
    def origin(self) -> bytes:
        """As browsers write it: lower case, the port only where it is not the usual one."""
        parts = urlsplit(self.url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}".encode()

    def cookie_name(self, name: str) -> str:
        """Over TLS with the prefix that no other host, and no page without TLS, can set."""
        return f"__Host-asof-{name}" if self.is_tls else f"asof-{name}"

    def address(self, path: str) -> str:
        """The absolute address of a path of this server."""
        return self.url.rstrip("/") + path


@dataclass(slots=True)
class _Session:
    caller: Caller
    until: float
    last: float


class Sessions:
    """Used in the event loop; never waits. `clock` counts seconds and never goes back."""

    def __init__(self, site: Site, *, hours: int, clock: Callable[[], float]) -> None:
        self.cookie = site.cookie_name("session")
        self._origin = site.origin
        self._seconds = hours * 3_600.0
        self._clock = clock
        self._open: OrderedDict[bytes, _Session] = OrderedDict()

    def open(self, caller: Caller) -> str:
        """Begin a session; the value of its cookie, of which no copy is kept."""
        value = secrets.token_urlsafe(32)
        mark, now = _mark(value), self._clock()
        named = replace(caller, credential=f"session:{mark.hex()[:10]}")
        self._open[mark] = _Session(named, now + self._seconds, now)
        if len(self._open) > MOST_SESSIONS:
            self._open.popitem(last=False)
        return value

    def authenticate(self, scope: Scope) -> Caller | None:
        """Whose session the request carries; None where it has none that lives, or may not use
        it for what it asks.
        """
        mark = self._presented(scope)
        session = None if mark is None else self._open.get(mark)
        if mark is None or session is None:
            return None
        now = self._clock()
        if now >= session.until or now >= session.last + IDLE_SECONDS:
            del self._open[mark]
            return None
        if scope["method"] not in SAFE and not self._is_ours(scope):
            return None
        session.last = now
        return session.caller

    def close(self, scope: Scope) -> None:
        """End the session that the request carries, if it carries one."""
        mark = self._presented(scope)
        if mark is not None:
            self._open.pop(mark, None)

    def _presented(self, scope: Scope) -> bytes | None:
        value = cookie_of(scope, self.cookie)
        return None if value is None or _VALUE.fullmatch(value) is None else _mark(value)

    def _is_ours(self, scope: Scope) -> bool:
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        return origins == [self._origin]


def cookie_of(scope: Scope, wanted: str) -> str | None:
    """The value of a cookie; None where it is missing, or there more than once."""
    found = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, held = part.strip().partition("=")
                if key == wanted:
                    found.append(held)
    return found[0] if len(found) == 1 else None


def _mark(value: str) -> bytes:
    return hashlib.sha256(value.encode("ascii")).digest()
