"""Rollbacks that this server runs: in the background, and only where the configuration lets them.

A plan touches files of this machine at places that recorded entries name, and whoever may record is
not whoever may change files. So each step's place must lie under one of the `rollback_roots` of the
ledger; without any, the server runs nothing. What happens if we die here: the plan stands where its
entries say, and `begin` again goes on from there, reading back before it acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import structlog

from api.service.problems import ProblemError
from ledger.asset_ref import split_asset_ref
from ledger.errors import AsofError, RefusedError

if TYPE_CHECKING:
    from api.main import Rooms
    from api.service.ledgers import Served
    from ledger.events.rollbacks import PlanStep

__all__ = ["Executions"]

LOOKS_ONLY: Final = frozenset({"environment"})
"""Systems whose connector only compares: there is no place that it could touch."""


class Executions:
    """Owns the tasks; `close` waits for the steps that are being taken. What became of each is
    known until the process ends.
    """

    def __init__(self, roots: Mapping[str, Sequence[Path]]) -> None:
        self._roots = {
            name: [path.resolve() for path in paths] for name, paths in roots.items() if paths
        }
        self._tasks: dict[tuple[str, str], asyncio.Task[str | None]] = {}

    def check(self, ledger: str, rooms: Rooms, rollback: str) -> None:
        """Raises RefusedError where the plan may not run here, or not now; NotFoundError."""
        from api.rolling_back import find
        from api.service.requests import now_micros

        found = find(rooms, rollback, actor="service:asof")
        roots = self._roots.get(ledger)
        if roots is None:
            raise RefusedError(
                f"this server runs no rollback of {ledger}: its configuration names no "
                f"rollback_roots; run it beside the systems: asof rollback run {rollback}"
            )
        if not found.begun:
            found.check_may_run(now_micros())
        for step in found.steps:
            _check_place(rooms, step, roots)

    def begin(self, here: Served, rollback: str, *, actor: str) -> None:
        """Run it in the background; where it runs already, nothing happens. `check` it before."""
        task = self._tasks.get((here.name, rollback))
        if task is None or task.done():
            self._tasks[here.name, rollback] = asyncio.create_task(_run(here, rollback, actor))

    def told(self, ledger: str, rollback: str) -> dict[str, Any] | None:
        """Whether this process runs it, and what was in the way the last time; None where it never
        did.
        """
        task = self._tasks.get((ledger, rollback))
        if task is None:
            return None
        over = task.done() and not task.cancelled()
        return {"running": not task.done(), "problem": task.result() if over else None}

    async def close(self) -> None:
        """Wait for what runs."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _run(here: Served, rollback: str, actor: str) -> str | None:
    """What was in the way, or None: the plan's own entries say what was done."""
    from api.rolling_back import run

    log = structlog.get_logger("asof")
    try:
        done = await here.asked(
            lambda rooms: run(rooms, rollback, actor=actor, settled=lambda count: None)
        )
        log.info("rollback", ledger=here.name, rollback=rollback, status=done.status)
    except (AsofError, ProblemError) as error:
        log.warning("rollback", ledger=here.name, rollback=rollback, problem=str(error))
        return str(error)
    except Exception as error:  # a mistake of ours: whoever waits must learn that nobody runs it
        log.exception("rollback", ledger=here.name, rollback=rollback)
        return f"the server failed ({type(error).__name__}): see its log"
    return None


def _check_place(rooms: Rooms, step: PlanStep, roots: Sequence[Path]) -> None:
    if step.system in LOOKS_ONLY:
        return
    for ref in filter(None, (step.from_, step.to)):
        for location in _locations(rooms, ref):
            if not _is_under(location, roots):
                raise RefusedError(
                    f"step {step.id}: {ref} lies at {location}, which is under none of this "
                    "server's rollback_roots: nothing was run"
                )


def _locations(rooms: Rooms, ref: str) -> Iterator[str]:
    kind, name, version = split_asset_ref(ref)
    for record in rooms.reader.stream(f"asset/{kind}/{name}"):
        data = record.data or {}
        if data.get("version") == version and isinstance(data.get("location"), str):
            yield data["location"]


def _is_under(location: str, roots: Sequence[Path]) -> bool:
    parts = urlsplit(location)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return False
    path = Path(unquote(parts.path)).resolve()
    return any(path.is_relative_to(root) for root in roots)
