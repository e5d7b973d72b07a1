"""`./scripts/demo [--once] [--dir D]`: the whole promise on a real pipeline, no number scripted.

A scikit-learn model forecasts how a patient's diabetes progresses (the dataset is bundled with
scikit-learn). It is prepared, trained and evaluated by ordinary scripts in an ordinary git
repository; everything else is done with the `asof` command line, exactly as it is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from scripts.demonstration.stage import Stage
from scripts.demonstration.story import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="exit at the end, and tidy up unless --dir is given"
    )
    parser.add_argument(
        "--dir", type=Path, metavar="D", help="keep everything in this (new or empty) folder"
    )
    chosen = parser.parse_args()
    if chosen.dir is not None and chosen.dir.exists() and any(chosen.dir.iterdir()):
        parser.error(f"--dir {chosen.dir}: the folder is not empty; name a new one")
    begin = time.monotonic()
    if chosen.dir is None and chosen.once:
        with tempfile.TemporaryDirectory(prefix="asof-demo-") as folder:
            play(Stage(Path(folder)))
    else:
        folder = (chosen.dir or Path(tempfile.mkdtemp(prefix="asof-demo-"))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        stage = Stage(folder)
        play(stage)
        if not chosen.once:
            stage.invite()
    print(f"\nDone in {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
