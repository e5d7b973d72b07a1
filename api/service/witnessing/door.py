"""The way of requests to the witness: one after another, in a thread of their own.

Anybody may send the newest checkpoint of a log again, and each time costs a write to the disk. So
what waits is bounded, and it waits in no thread that answers anybody else.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.service.ledgers import too_much
from api.service.witnessing.witness import Witness

__all__ = ["Door"]

MOST_WAITING: Final = 64


class Door:
    """Used in the event loop. It owns its thread, and not the witness."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self._thread = ThreadPoolExecutor(1, "asof-witness")
        self._waiting = 0

    async def add_checkpoint(self, body: bytes) -> bytes:
        """What the witness answers. Raises what it raises; ProblemError `unavailable` where too
        many wait already.
        """
        if self._waiting >= MOST_WAITING:
            raise too_much("more checkpoints wait to be cosigned than the witness takes")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self.witness.add_checkpoint, body)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread; what is asked meanwhile is answered first."""
        self._thread.shutdown(wait=True)
