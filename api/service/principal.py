"""Who is asking, as a request carries it after the access layer has decided.

::

    caller = caller_of(request)
    caller.id                     "service:trainer-0", the actor of what it appends
    caller.may("entries:read")    in the ledger that the path names

The access layer (`access.guard`) puts it into `scope["state"]["caller"]`; a route never makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import HTTPConnection

__all__ = ["ANONYMOUS", "Authenticator", "Caller", "caller_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A principal with its permissions in each ledger (by the server's name of the ledger).

    `credential` names what it came with, for the log and for `last used`: a token's id, a session;
    never the secret.
    """

    id: str
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    permissions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    credential: str | None = None
    ledger: str | None = None

    def may(self, *permissions: str, ledger: str | None = None) -> bool:
        """Whether it has one of these in the ledger (that of the path, unless another is named)."""
        name = ledger if ledger is not None else self.ledger
        held = self.permissions.get(name, frozenset()) if name is not None else frozenset()
        return not held.isdisjoint(permissions)


ANONYMOUS = Caller(id="anonymous")


class Authenticator(Protocol):
    """Tells who a credential belongs to. Called in the event loop: never waits for a disk."""

    def authenticate(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller, or None where there is no valid credential. Takes the same time for both."""
        ...


def caller_of(request: HTTPConnection) -> Caller:
    """Who asks. ANONYMOUS only on public routes."""
    caller: Caller = request.scope["state"]["caller"]
    return caller
