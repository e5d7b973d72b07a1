"""The access of this server: the registries of its ledgers, kept fresh, and changes to them.

::

    access = Access(ledgers, peppers)
    await access.decide(here, lambda registry: grant_role(registry, …))      # recorded, and in
    force

What another process changes is seen within `LOOK_SECONDS`; what this one changes, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from api.service.access.authenticating import TokenAuthenticator
from api.service.access.changing import Decision
from api.service.access.granting import Grants
from api.service.access.registry import Registry
from api.service.requests import now_micros
from ledger.errors import AsofError, ConflictError

if TYPE_CHECKING:
    from api.service.ledgers import Ledgers, Served

__all__ = ["Access"]

LOOK_SECONDS: Final = 1.0
ATTEMPTS: Final = 5

Made = TypeVar("Made", bound=Decision)


class Access:
    """Made when the ledgers are open; `watch` runs as a task of the server."""

    def __init__(self, ledgers: Ledgers, peppers: Mapping[str, bytes]) -> None:
        self.registries = {
            name: Registry(here.reader, peppers[name]) for name, here in ledgers.items()
        }
        for registry in self.registries.values():
            registry.refresh()
        self.authenticator = TokenAuthenticator(self.registries, clock=now_micros)
        self.grants = Grants(self.registries)

    async def decide(self, here: Served, decide: Callable[[Registry], Made]) -> Made:
        """Decide on the newest state, record it at that version, let it hold at once; again where
        somebody else was faster.

        Raises what `decide` does, and what appending does.
        """
        registry = self.registries[here.name]
        for attempt in range(ATTEMPTS):
            await self._refreshed(registry)
            made = decide(registry)
            if not made.drafts:
                return made
            try:
                await here.append(made.drafts)
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            await self._refreshed(registry)
            return made
        raise AssertionError("each attempt returns or raises")

    async def watch(self) -> None:
        """See what other processes change, until cancelled. A store that does not answer is asked
        again: what was known holds meanwhile, and expiry does not depend on it. Nothing ends the
        looking: without it a token that another process revoked would live on here.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, registry in self.registries.items():
                try:
                    await self._refreshed(registry)
                except AsofError as error:
                    structlog.get_logger("asof").warning("access", ledger=name, problem=str(error))
                except Exception:
                    structlog.get_logger("asof").exception("access", ledger=name)

    async def _refreshed(self, registry: Registry) -> None:
        if await asyncio.to_thread(registry.refresh):
            self.authenticator.forget()
            self.grants.forget()
