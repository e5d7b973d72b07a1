"""The verifications that run, each in a process of its own, and their reports."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from api.service.requests import now_micros
from ledger.canonical import format_time

__all__ = ["Verification", "Verifications"]

MOST_KEPT: Final = 100

Start = Callable[[str], Awaitable[asyncio.subprocess.Process]]
"""Starts `asof verify -o json` on the ledger of that name."""


@dataclass(slots=True)
class Verification:
    """One verification: running, done (there is a report) or failed (there is none)."""

    id: str
    by: str
    begun_at: int
    ended_at: int | None = None
    status: str = "running"
    report: dict[str, Any] | None = None
    problem: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Unknown is None, never left out."""
        return {
            "id": self.id,
            "status": self.status,
            "by": self.by,
            "begun_at": format_time(self.begun_at),
            "ended_at": None if self.ended_at is None else format_time(self.ended_at),
            "report": self.report,
            "problem": self.problem,
        }


class Verifications:
    """Owns the processes: `close` ends those that run."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._kept: dict[str, deque[Verification]] = {}
        self._count = 0

    async def begin(self, ledger: str, *, by: str) -> Verification:
        """The one that runs already, or a new one."""
        kept = self._kept.setdefault(ledger, deque(maxlen=MOST_KEPT))
        if kept and kept[-1].status == "running":
            return kept[-1]
        self._count += 1
        job = Verification(str(self._count), by, now_micros())
        kept.append(job)
        job.task = asyncio.create_task(self._run(ledger, job))
        return job

    def every(self, ledger: str) -> Iterator[Verification]:
        """Newest first."""
        return reversed(self._kept.get(ledger, deque()))

    def get(self, ledger: str, wanted: str) -> Verification | None:
        """The one of that id, or None."""
        return next((job for job in self.every(ledger) if job.id == wanted), None)

    async def close(self) -> None:
        """End what runs and wait for it."""
        running = [job.task for kept in self._kept.values() for job in kept if job.task]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, ledger: str, job: Verification) -> None:
        try:
            process = await self._start(ledger)
            try:
                out, err = await process.communicate()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            self._ended(job, out, err)
        except OSError as error:
            job.status, job.problem = "failed", f"the verifier could not be started: {error}"
        finally:
            job.ended_at = now_micros()
            if job.status == "running":
                job.status, job.problem = "failed", "the server was stopped"

    def _ended(self, job: Verification, out: bytes, err: bytes) -> None:
        try:
            job.report = orjson.loads(out)
            job.status = "done"
        except orjson.JSONDecodeError:
            job.status = "failed"
            job.problem = err.decode("utf-8", "replace").strip()[-2_000:] or "it said nothing"
