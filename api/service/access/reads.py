"""The audit of the audit: who read what entries say, and who was turned away, as entries.

Reads are summed up by principal and kind and recorded once in `FLUSH_SECONDS`, so that a page view
is not an append; an export is recorded for itself, before its first byte leaves (`routes.reports`).
What happens if we die here: the sums of the last seconds are lost, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from api.service.problems import ProblemError
from api.service.requests import now_micros
from ledger.errors import AsofError
from ledger.events import draft

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.service.ledgers import Ledgers
    from api.service.principal import Caller

__all__ = ["READS_STREAM", "Reads"]

READS_STREAM: Final = "access/reads"
FLUSH_SECONDS: Final = 30.0
MOST_KINDS: Final = 1_000
BY: Final = "service:asof"


class _Kind(NamedTuple):
    ledger: str
    principal: str | None
    action: str
    outcome: str


class Reads:
    """Used in the event loop. `watch` runs as a task; `flush` is called once more at the end."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers
        self._counts: Counter[_Kind] = Counter()

    def logged_in(self, caller: Caller, ledgers: Iterable[str]) -> None:
        """Somebody began a session: told in each ledger in which they have a role."""
        for ledger in ledgers:
            self._add(_Kind(ledger, caller.id, "login", "allowed"), 1)

    async def note(self, request: Request, action: str, count: int) -> None:
        """Somebody was shown what `count` entries say."""
        caller: Caller = request.scope["state"]["caller"]
        if count and caller.ledger is not None:
            self._add(_Kind(caller.ledger, caller.id, action, "allowed"), count)

    def refused(self, why: str, caller: Caller | None, ledger: str | None) -> None:
        """Somebody was turned away: in the ledger that was asked for, or where only one is
        served.
        """
        name = ledger or (next(iter(self._ledgers)) if len(self._ledgers) == 1 else None)
        if name is not None:
            principal = None if caller is None else caller.id
            self._add(_Kind(name, principal, why.replace("-", "_"), "refused"), 1)

    async def watch(self) -> None:
        """Record what has come together, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Record it now. What cannot be recorded is kept for the next time."""
        counts, self._counts = self._counts, Counter()
        for ledger in {kind.ledger for kind in counts}:
            mine = {kind: count for kind, count in counts.items() if kind.ledger == ledger}
            now = now_micros()
            drafts = [
                draft(
                    ("access.recorded/1", _data(kind, count)),
                    stream=READS_STREAM,
                    actor=BY,
                    now=now,
                )
                for kind, count in mine.items()
            ]
            try:
                await self._ledgers[ledger].append(drafts)
            except (AsofError, ProblemError) as error:
                self._counts.update(mine)
                structlog.get_logger("asof").warning("reads", ledger=ledger, problem=str(error))

    def _add(self, kind: _Kind, count: int) -> None:
        """Bounded: beyond so many kinds, strangers are summed up as one."""
        if len(self._counts) >= MOST_KINDS and kind not in self._counts:
            kind = kind._replace(principal=None)
        self._counts[kind] += count


def _data(kind: _Kind, count: int) -> dict[str, Any]:
    told: dict[str, Any] = {"action": kind.action, "outcome": kind.outcome, "count": count}
    if kind.principal is not None:
        told["principal"] = kind.principal
    return told
