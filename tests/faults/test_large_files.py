"""A file of 200 MB is captured and restored with flat memory, at the speed of disk and hash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
SIZE = 200 << 20

CHILD = """
import json, sys, time
from pathlib import Path
from connectors.connector import RestoreStep, Settings
from connectors.files import FilesConnector
from connectors.reading import hash_open, read_file

def peak():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])

path = Path(sys.argv[1])
connector = FilesConnector(Settings(environ={}, objects=path.with_name("objects")))
before, began = peak(), time.monotonic()
read_file(path, hash_open)
hashed = time.monotonic() - began
[seen] = connector.observe(str(path))
captured = time.monotonic() - began - hashed
with path.open("r+b") as file:
    file.write(b"changed")
found = connector.read_back(
    RestoreStep(id="1", slot="data", target=seen.asset, expected_digest_now=None)).digest
step = RestoreStep(id="1", slot="data", target=seen.asset, expected_digest_now=found)
assert connector.restore(step).status == "done"
figures = {"grown_kib": peak() - before, "hash_seconds": hashed, "capture_seconds": captured}
print(json.dumps(figures))
"""


def test_memory_stays_flat(tmp_path: Path, checkout: Path) -> None:
    path = tmp_path / "large"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(SIZE >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    command = [sys.executable, "-c", CHILD, str(path)]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    said = subprocess.run(command, env=environ, capture_output=True, check=True).stdout
    figures = json.loads(said)
    assert 0 < figures["grown_kib"] < 16 << 10, figures
    assert SIZE / figures["hash_seconds"] > 100e6, figures
