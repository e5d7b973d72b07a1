"""What the ledgers grant to somebody whom the identity provider knows, beside what the
configuration gives to their claims.

::

    grants.of(caller)      # the caller with both; None where neither gives a role in any ledger

A grant or its revocation holds from the next request on, also for sessions that are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from api.service.access.registry import Registry
from api.service.permissions import permissions_of
from api.service.principal import Caller

__all__ = ["Grants"]

REMEMBERED: Final = 10_000


class Grants:
    """Used in the event loop. The same caller gives the same answer, until `forget`."""

    def __init__(self, registries: Mapping[str, Registry]) -> None:
        self._registries = registries
        self._seen: dict[int, tuple[Caller, Caller | None]] = {}

    def forget(self) -> None:
        """Access has changed."""
        self._seen.clear()

    def of(self, caller: Caller) -> Caller | None:
        """The caller with the roles of its claims and of its grants; None without any."""
        seen = self._seen.get(id(caller))
        if seen is not None and seen[0] is caller:
            return seen[1]
        found = self._together(caller)
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[id(caller)] = (caller, found)
        return found

    def _together(self, caller: Caller) -> Caller | None:
        roles = dict(caller.roles)
        for name, registry in self._registries.items():
            if granted := registry.roles_of(caller.id):
                roles[name] = roles.get(name, frozenset()) | granted
        if not roles:
            return None
        permissions = {name: permissions_of(held) for name, held in roles.items()}
        return replace(caller, roles=roles, permissions=permissions)
