"""What every benchmark shares: the shape of a measurement, the context it runs in, the report.

A benchmark is a module of this folder with `rows(context) -> Iterator[Measurement]`. Figures are
medians of repeated runs on one machine, each part in a process of its own, durability on; ratios
compare measurements of the same run. A goal is printed beside what was measured, met or not.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Context", "Measurement", "fsync_latency_ms", "machine", "median_of", "report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure; `value` should reach the `goal`, or stay below it if `at_most`.

    `who` was measured; figures of one `chart` are drawn side by side.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = False
    peer: str | None = None
    ratio: float | None = None
    who: str = "asof"
    chart: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a benchmark may use: a folder on the disk under test, a seed, how thorough to be."""

    folder: Path
    seed: int = 20261121
    quick: bool = False

    def say(self, text: str) -> None:
        """Progress for the person who waits; on stderr, so that stdout stays the report."""
        print(f"… {text}", file=sys.stderr, flush=True)


def median_of(run: Callable[[], float], *, times: int = 3) -> float:
    """The median of `times` runs of `run`."""
    return statistics.median(run() for _ in range(times))


def fsync_latency_ms(folder: Path, *, times: int = 200) -> float:
    """The median milliseconds of one 4 KiB append with fdatasync in `folder`."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        samples = []
        for _ in range(times):
            os.write(file.fileno(), b"\0" * 4096)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - begin)
    return statistics.median(samples) * 1000


def machine() -> dict[str, object]:
    """What the figures depend on: processor, cores, memory, kernel, Python, SQLite."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next(
            (row.split(":", 1)[1].strip() for row in lines if row.startswith("model name")), ""
        )
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(pages * size / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _commit() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def report(
    name: str,
    context: Context,
    rows: Iterable[Measurement],
    *,
    versions: Mapping[str, str] | None = None,
    json_file: Path | None = None,
    plot_file: Path | None = None,
) -> bool:
    """Print each row as it is measured, write the JSON, draw it; True where every goal is met."""
    facts = machine() | dict(versions or {})
    fsync_ms = fsync_latency_ms(context.folder)
    print(f"asof bench {name} · commit {_commit()} · seed {context.seed}")
    print(" · ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"fsync {fsync_ms:.3f} ms (median of one 4 KiB append)\n")
    print(f"{'figure':<58}{'measured':>14}  {'unit':<12}{'goal':>14}  ")
    done = list(_printed(rows))
    if context.quick:
        print("quick: a tenth of the size, fewer runs; the goals are for the full size")
    if json_file is not None:
        document = {
            "bench": name,
            "machine": facts,
            "fsync_ms": round(fsync_ms, 4),
            "seed": context.seed,
            "commit": _commit(),
            "quick": context.quick,
            "rows": [asdict(row) | {"met": row.met} for row in done],
        }
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plot_file is not None:
        from scripts.benches.plot import draw

        draw(done, plot_file, f"asof bench {name} · {facts['cpu']} · fsync {fsync_ms:.2f} ms")
    missed = [row.name for row in done if row.met is False]
    print(
        f"\n{len(done)} figures, {len(missed)} below their goal"
        + "".join(f"\n  {m}" for m in missed)
    )
    return not missed


def _printed(rows: Iterable[Measurement]) -> Iterator[Measurement]:
    for row in rows:
        goal = "" if row.goal is None else f"{'≤' if row.at_most else '≥'} {row.goal:,g}"
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        ratio = f"  {row.ratio:.2f}× {row.peer}" if row.ratio is not None else ""
        print(
            f"{row.name:<58}{row.value:>14,.4g}  {row.unit:<12}{goal:>14}  {verdict}{ratio}",
            flush=True,
        )
        yield row
