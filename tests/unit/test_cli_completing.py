"""After TAB the shell offers what the ledger holds, and stays silent where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completing")
    url = f"sqlite:///{folder}/asof.db"
    asset = {
        "kind": "model",
        "name": "m",
        "version": "7",
        "digest": "sha256:" + "3" * 64,
        "location": "s3://m/7",
        "source": {"system": "s3", "ref": "m/7"},
        "restorable": "verify_only",
    }
    file = folder / "events.jsonl"
    file.write_text(json.dumps({"type": "asset.version.recorded/1", "data": asset}))
    for line in [
        ["init"],
        ["record", str(file)],
        ["bind", "model/m@7", "-p", "forecast", "-s", "production", "--slot", "model/main"],
    ]:
        assert main([*line, "--store", url, "--quiet", "--actor", "user:ada"]) == 0
    return folder


def offered(words: str, folder: Path) -> list[str]:
    """What bash is told for this line, the last word being completed."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "_ASOF_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "api.cli"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("asof sta", ["state"]),
        ("asof rollback ", ["plan", "approve", "run", "resolve", "status", "list"]),
        ("asof state --pipeline ", ["forecast"]),
        ("asof state -p forecast -s pro", ["production"]),
        ("asof unbind -p forecast -s production --slot ", ["model/main"]),
        ("asof lineage mo", ["model/m@"]),
        ("asof lineage model/m@", ["model/m@7"]),
        ("asof state --store sqlite:///nowhere.db -p ", []),
        ("asof rollback run ", []),
    ],
)
def test_offered(words: str, expected: list[str], folder: Path) -> None:
    assert offered(words, folder) == expected


def test_nothing_is_made_by_looking(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    offered("asof state --store sqlite:///nowhere.db -p ", folder)
    assert {path.name for path in folder.iterdir()} <= before | {"asof.db-wal", "asof.db-shm"}
