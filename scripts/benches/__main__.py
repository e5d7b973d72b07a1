"""`./scripts/bench NAME [--json FILE] [--quick] [--folder DIR]`: measure, print, compare.

NAME is one of the suites below. The exit code is 0 when every goal is met, 1 when one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.benches.harness import Context, Measurement, report

CHECKOUT = Path(__file__).resolve().parents[2]

SUITES = {
    "ledger": ("ledger_append", "ledger_verify", "ledger_state", "ledger_start"),
}


def _rows(context: Context, parts: tuple[str, ...]) -> Iterator[Measurement]:
    for part in parts:
        yield from importlib.import_module(f"scripts.benches.{part}").rows(context)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(SUITES), help="which suite")
    parser.add_argument("--part", action="append", help="only this part of the suite (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    parser.add_argument("--folder", type=Path, help="measure on the disk of this folder")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the size: is it running at all?"
    )
    parser.add_argument("--seed", type=int, default=20261121)
    chosen = parser.parse_args()
    parts = SUITES[chosen.name]
    if chosen.part:
        parts = tuple(part for part in parts if part.removeprefix(f"{chosen.name}_") in chosen.part)
    place = chosen.folder or CHECKOUT / ".cache"  # not /tmp: it may be memory, which has no fsync
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="asof-bench-") as folder:
        context = Context(folder=Path(folder), seed=chosen.seed, quick=chosen.quick)
        met = report(chosen.name, context, _rows(context, parts), json_file=chosen.json)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
