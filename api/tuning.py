"""How the process runs that writes a ledger, or reads all of it; the one place that turns Python's
own screws.

A library must not change what belongs to the whole process, so `ledger` does not. The program may:
a ledger's writer makes millions of small objects that die young and never form circles, and two
threads (who prepares, who commits) that hand the interpreter to each other at every commit.

Measured on 2 cores: single appends with 64 in flight +20 %, batches of 1,000 events +10 to 20 %
(`scripts/bench ledger` turns the same screws and says so).
"""

from __future__ import annotations

import gc
import sys

__all__ = ["GC_THRESHOLD", "SWITCH_SECONDS", "tune_for_writing"]

GC_THRESHOLD = 50_000
SWITCH_SECONDS = 0.000_05


def tune_for_writing() -> None:
    """Look for circles less often, never among what is loaded; hand over the interpreter sooner."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    sys.setswitchinterval(SWITCH_SECONDS)
