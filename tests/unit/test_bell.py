"""What ends a wait early."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing

from ledger.bell import Bell


def test_a_bell_is_heard_whenever_it_was_rung() -> None:
    silent, tell = os.pipe()
    with closing(Bell()) as bell:
        for delay in (0.0, 0.05):
            ringer = threading.Timer(delay, bell.ring)
            ringer.start()
            bell.wait(silent)
            ringer.join()
        begin = time.monotonic()
        threading.Timer(0.1, os.close, [tell]).start()
        bell.wait(silent)
        assert time.monotonic() - begin > 0.05, "nothing was left in it"
    os.close(silent)
    bell.close()


def test_a_bell_that_nobody_hears_is_rung_without_waiting() -> None:
    with closing(Bell()) as bell:
        for _ in range(70_000):
            bell.ring()
        bell.wait(bell._ear)
