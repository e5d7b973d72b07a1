"""`./scripts/bench NAME [--json FILE] [--plot FILE] [--quick]`: measure, print, compare.

NAME is one of the suites below. The exit code is 0 when every goal is met, 1 when one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from scripts.benches.harness import Context, Measurement, report

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]

SUITES = {
    "api": ("api_appends", "api_state", "api_overload"),
    "ledger": ("ledger_append", "ledger_verify", "ledger_state", "ledger_start"),
    "postgres": (
        "postgres_appends",
        "postgres_import",
        "postgres_verify",
        "postgres_storage",
        "postgres_slow_disk",
        "postgres_projections",
    ),
}
VERSIONS = {
    "api": ("fastapi", "uvicorn", "uvloop", "psycopg"),
    "postgres": ("psycopg", "eventsourcing", "umadb"),
}
"""Distributions whose versions belong to what a suite measured."""


def _rows(context: Context, parts: tuple[str, ...]) -> Iterator[Measurement]:
    """Each part in a process of its own: none pays for what another left in memory."""
    for part in parts:
        command = [sys.executable, "-m", "scripts.benches", "--raw", part, str(context.folder)]
        command += [str(context.seed), "quick" if context.quick else "full"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield Measurement(**json.loads(line))
        if process.returncode:
            raise SystemExit(f"the part {part} failed (see above)")


def _measure(part: str, folder: str, seed: str, extent: str) -> int:
    """The other side of `_rows`: one part's measurements as JSON lines."""
    context = Context(folder=Path(folder), seed=int(seed), quick=extent == "quick")
    for row in importlib.import_module(f"scripts.benches.{part}").rows(context):
        print(json.dumps(asdict(row)), flush=True)
    return 0


def main() -> int:
    if sys.argv[1:2] == ["--raw"]:
        return _measure(*sys.argv[2:])
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(SUITES), help="which suite")
    parser.add_argument("--part", action="append", help="only this part of the suite (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there: .svg or .png")
    parser.add_argument("--folder", type=Path, help="measure on the disk of this folder")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the size: is it running at all?"
    )
    parser.add_argument("--seed", type=int, default=20261121)
    chosen = parser.parse_args()
    parts = tuple(part for part in SUITES[chosen.name] if (HERE / f"{part}.py").exists())
    if chosen.part:
        parts = tuple(part for part in parts if part.removeprefix(f"{chosen.name}_") in chosen.part)
    place = chosen.folder or CHECKOUT / ".cache"  # not /tmp: it may be memory, which has no fsync
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="asof-bench-") as folder:
        context = Context(folder=Path(folder), seed=chosen.seed, quick=chosen.quick)
        met = report(
            chosen.name,
            context,
            _rows(context, parts),
            versions={name: version(name) for name in VERSIONS.get(chosen.name, ())},
            json_file=chosen.json,
            plot_file=chosen.plot,
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
