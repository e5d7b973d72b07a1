"""The first administrator of a ledger, through a link that is printed once. No default password.

While nobody administers a ledger, `asof serve` holds a random key for it: in memory, for an hour,
for one use. Whoever sees the server's output is who may use it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from api.service.access.changing import Issued, first_admin, issue_token
from ledger.errors import RefusedError

if TYPE_CHECKING:
    from api.service.access.access import Access
    from api.service.ledgers import Served

__all__ = ["Setup"]

VALID: Final = 3_600_000_000
BY: Final = "service:asof"


class Setup:
    """The keys that are open. Used in the event loop."""

    def __init__(self, access: Access, *, clock: Callable[[], int]) -> None:
        self._access = access
        self._clock = clock
        self._until = clock() + VALID
        self._keys = {
            name: secrets.token_urlsafe(32)
            for name, registry in access.registries.items()
            if not registry.has_admin()
        }

    def open_keys(self) -> dict[str, str]:
        """The keys of the ledgers that nobody administers."""
        return dict(self._keys)

    def is_open(self, ledger: str, key: str) -> bool:
        """Whether the key opens that ledger's setup now. The same time for a wrong one."""
        held = self._keys.get(ledger, "")
        same = hmac.compare_digest(held.encode(), key.encode())
        return same and bool(held) and self._clock() < self._until

    async def use(self, here: Served, key: str, principal: str) -> Issued:
        """Make the first administrator, and a token. Raises RefusedError for a key that is wrong,
        used or too old, MalformedError for what is no principal, ConflictError where somebody was
        faster.
        """
        if not self.is_open(here.name, key):
            raise RefusedError("this setup link was used, is too old, or is another server's")
        await self._access.decide(
            here, lambda registry: first_admin(registry, principal, by=BY, now=self._clock())
        )
        self._keys.pop(here.name, None)
        return await self._access.decide(
            here,
            lambda registry: issue_token(
                registry, principal, roles=["admin"], days=None, by=BY, now=self._clock()
            ),
        )
