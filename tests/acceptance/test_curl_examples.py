"""Every command of docs/http-api.md, run as it stands there, by a shell with a real curl."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import CHECKOUT, Running, prepare, started

PAGE = CHECKOUT / "docs" / "http-api.md"
COMPLAINT = "2026-02-01T12:00:00Z"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("curl"), roles=("auditor", "compliance"))
    bindings = [
        {
            "type": "binding.changed/1",
            "effective_at": f"2026-0{month}-01T00:00:00Z",
            "data": {
                "pipeline": "demand-forecast",
                "stage": "production",
                "slot": "model",
                "asset_version": f"model/forecaster@{month}",
            },
        }
        for month in (1, 3)
    ]
    lines = "\n".join(json.dumps(one) for one in bindings)
    made.run("record", "-", given=lines.encode())
    with started(made) as running:
        yield running


def shell(
    running: Running, folder: Path, block: str, **more: str
) -> subprocess.CompletedProcess[str]:
    role = "compliance" if "/reports" in block else "auditor"
    environment = {
        **os.environ,
        "ASOF_URL": running.url,
        "ASOF_TOKEN": running.prepared.tokens[role],
        "COMPLAINT": COMPLAINT,
    } | more
    return subprocess.run(
        ["sh", "-ec", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_page_is_run(running: Running, tmp_path: Path) -> None:
    assert len(BLOCKS) == 7
    said = []
    for block in BLOCKS:
        done = shell(running, tmp_path, block)
        refused = "known_at" in block and done.returncode == 22
        assert done.returncode == 0 or refused, f"{block}\n{done.stderr}{done.stdout}"
        said.append(done.stdout)
    assert json.loads(said[0])["ledgers"]["acme"]["roles"] == ["auditor"]
    held = json.loads(said[1])["bindings"]["model"]["asset_version"]
    assert held == "model/forecaster@1"
    assert "model/forecaster@3" in said[3] and said[4].startswith("index,")
    assert (tmp_path / "3.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1")
    assert "VALID" in said[6]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_a_wrong_token_would_be_seen(running: Running, tmp_path: Path) -> None:
    assert shell(running, tmp_path, BLOCKS[0], ASOF_TOKEN="asof_live_x").returncode == 22
