"""A real folder is put back by a server that two people asked for it, and by nobody else."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.service import Prepared, Running, prepare, started

L = "/v1/ledgers/acme"
P = ["-p", "shop", "-s", "production"]
KEYS = itertools.count()


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"k{next(KEYS)}"}


@pytest.fixture
def made(tmp_path: Path) -> Prepared:
    """A ledger in which `srv/orders.csv` was good, and then was not."""
    prepared = prepare(tmp_path, roles=("operator", "approver", "auditor"))
    (tmp_path / "srv").mkdir()
    orders = tmp_path / "srv" / "orders.csv"
    for version, text in (("1", "day,units\n"), ("2", "bad,data\n")):
        orders.write_text(text)
        prepared.run("capture", "files", str(orders), *P, "--slot", "data/orders",
                     "--name", "orders", "--version", version, "-q")  # fmt: skip
        if version == "1":
            prepared.run("tag", "good", "-q")
    return prepared


@pytest.fixture
def running(made: Prepared) -> Iterator[Running]:
    with started(made, config=configured(made, made.folder / "srv")) as server:
        yield server


def configured(made: Prepared, root: Path) -> str:
    return f"""
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"
rollback_roots = ["{root}"]
"""


def requested(operator: httpx2.Client, approver: httpx2.Client) -> str:
    """The path of a plan that was asked for and approved."""
    body = {"pipeline": "shop", "stage": "production", "to": "tag:good"}
    plan = operator.post(f"{L}/rollbacks", json=body, headers=key())
    assert plan.status_code == 201, plan.text
    where = str(plan.headers["location"])
    digest = {"plan_digest": plan.json()["plan_digest"]}
    approved = approver.post(f"{where}/approvals", json=digest, headers=key())
    assert approved.status_code == 201, approved.text
    return where


def ended(client: httpx2.Client, where: str) -> dict[str, Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(where).json()
        if found["execution"] is not None and not found["execution"]["running"]:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not end")


def test_a_folder_is_put_back(running: Running) -> None:
    orders = running.prepared.folder / "srv" / "orders.csv"
    with running.client("operator") as operator, running.client("approver") as approver:
        where = requested(operator, approver)
        assert operator.get(where).json()["execution"] is None
        assert orders.read_text() == "bad,data\n", "nothing happens by asking"
        begun = operator.post(f"{where}/execution", headers=key())
        assert begun.status_code == 202 and begun.headers["location"] == where
        found = ended(operator, where)
        assert found["status"] == "completed" and found["execution"]["problem"] is None
        assert orders.read_text() == "day,units\n"
        assert operator.post(f"{where}/execution", headers=key()).status_code == 202
        assert ended(operator, where)["status"] == "completed", "again, it changes nothing"
        stated = operator.get(f"{L}/pipelines/shop/stages/production/state").json()
        assert stated["bindings"]["data/orders"]["asset_version"] == "dataset/orders@1"
    assert running.prepared.run("verify").startswith("VALID")


def test_a_server_that_was_killed_goes_on_with_it(made: Prepared) -> None:
    config = configured(made, made.folder / "srv")
    with started(made, config=config) as server, server.client("operator") as operator:
        with server.client("approver") as approver:
            where = requested(operator, approver)
        operator.post(f"{where}/execution", headers=key())
        server.kill()
    with started(made, config=config) as server, server.client("operator") as operator:
        assert operator.post(f"{where}/execution", headers=key()).status_code == 202
        assert ended(operator, where)["status"] == "completed"
        assert (made.folder / "srv" / "orders.csv").read_text() == "day,units\n"


def test_a_folder_that_is_not_named_is_left_alone(made: Prepared) -> None:
    (made.folder / "other").mkdir()
    config = configured(made, made.folder / "other")
    with started(made, config=config) as server, server.client("operator") as operator:
        with server.client("approver") as approver:
            where = requested(operator, approver)
        refused = operator.post(f"{where}/execution", headers=key())
        assert refused.status_code == 403 and "rollback_roots" in refused.text
        assert operator.get(where).json()["status"] == "approved"
    assert (made.folder / "srv" / "orders.csv").read_text() == "bad,data\n"


def test_the_command_line_lets_the_server_do_it(running: Running) -> None:
    with running.client("operator") as operator, running.client("approver") as approver:
        where = requested(operator, approver)
    environment = {
        "ASOF_SERVER": running.url,
        "ASOF_TOKEN": running.prepared.tokens["operator"],
        "PYTHONPATH": running.prepared.environment["PYTHONPATH"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "rollback", "run", where.rpartition("/")[2], "--yes"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert (running.prepared.folder / "srv" / "orders.csv").read_text() == "day,units\n"
