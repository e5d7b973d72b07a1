"""How long a person waits for the command line to say anything at all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benches.harness import Context, Measurement, median_of

CHECKOUT = Path(__file__).resolve().parents[2]


def rows(context: Context) -> Iterator[Measurement]:
    """Seconds of `asof --help` as a new process, median of 9: directly, and by the script."""
    for name, command in (
        ("asof --help", [sys.executable, "-m", "api.cli", "--help"]),
        ("./scripts/asof --help", [str(CHECKOUT / "scripts" / "asof"), "--help"]),
    ):
        seconds = median_of(lambda command=command: _seconds(command), times=9)  # type: ignore[misc]
        yield Measurement(name=name, value=seconds, unit="s", goal=0.3, at_most=True)


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin
