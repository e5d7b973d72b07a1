"""Where the time comes from: a clock is passed in, so that a test can hold its own."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], int]
"""The present instant in microseconds since 1970-01-01 UTC. It may jump; the ledger does not."""


def system_clock() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000
