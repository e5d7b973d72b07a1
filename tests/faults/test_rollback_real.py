"""What makes it hard: an environment, places inside each other, a process that was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from connectors import connector_for
from ledger.clock import system_clock
from ledger.errors import ConflictError
from ledger.opening import Ledger, create_ledger, open_ledger
from tests.support import real_pipeline as real
from tests.support.real_pipeline import ROLLBACK, declared, digests, git, saga_in, url_of


def quiet(_point: str) -> None:
    """Nothing happens at any point."""


def made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, slots: dict[str, tuple[str, str, str]]
) -> None:
    monkeypatch.setattr(real, "SLOTS", slots)
    real.build(folder)


# ------------------------------------------------------------------- places inside each other, git


@pytest.mark.parametrize("first", ["whole", "part"])
def test_a_tree_and_a_file_in_it_are_both_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    kinds = {"whole": ("code", "model"), "part": ("model", "code")}[first]
    slots = {
        "code": ("git", kinds[0], "shop"),
        "params": ("git", kinds[1], "shop/params.yaml"),
    }
    folder = tmp_path / "pipeline"
    made(folder, monkeypatch, slots)
    with saga_in(folder, quiet) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "completed", rollback.differences
    assert [step.slot for step in rollback.steps] == (
        ["code", "params"] if first == "whole" else ["params", "code"]
    )
    assert {path: text for path, text in digests(folder).items() if path.startswith("shop")} == {
        path: text for path, text in real.OLD.items() if path.startswith("shop")
    }
    assert git(folder, "status", "--porcelain") == ""


# -------------------------------------------------------------------------------- the environment


@pytest.fixture(scope="module")
def environment() -> Any:
    """This interpreter's environment, as the connector captures it."""
    connector = connector_for("environment", real.settings(Path("unused")))
    [seen] = connector.observe(sys.executable, name="runtime")
    assert seen.asset is not None
    return seen.asset


def another(version: dict[str, Any]) -> dict[str, Any]:
    """As if it had been different: another digest under another version."""
    return {**version, "version": "another", "digest": "sha256:" + "e" * 64}


def environments(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """A pipeline with data and an environment: `old` and `new` of each, then a plan back."""
    folder.mkdir()
    slots = {"data/orders": real.SLOTS["data/orders"]}
    with create_ledger(url_of(folder), origin="ledger.example.com/shop") as ledger:
        for files, version in ((real.OLD, old), (real.NEW, new)):
            real.write(folder, files)
            for slot in slots:
                real.capture(ledger, folder, slot)
            ref = f"environment/runtime@{version['version']}"
            real.bind_version(ledger, "environment", version, ref)
            if files is real.OLD:
                good = ledger.reader.size() - 1
        real.plan_back(ledger, folder, f"index:{good}")


def test_an_environment_that_is_as_it_was_is_verified_and_rebound(
    tmp_path: Path, environment: Any
) -> None:
    folder, version = tmp_path / "pipeline", environment.as_event_data()
    environments(folder, version, another(version))
    with saga_in(folder, quiet) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "completed"
    assert [step.restorable for step in rollback.steps] == ["verify_only", "available"]
    with open_ledger(url_of(folder)) as ledger:
        assert declared(ledger).bindings["environment"].version == environment.version
    assert real.effects(folder) == ["data/orders"], "an environment is never called"


def test_an_environment_that_differs_parks_the_plan_with_nothing_done(
    tmp_path: Path, environment: Any
) -> None:
    folder, version = tmp_path / "pipeline", environment.as_event_data()
    environments(folder, another(version), version)
    with saga_in(folder, quiet) as saga:
        rollback = saga.run(ROLLBACK)
    assert rollback.status == "parked"
    assert "cannot be restored, only verified" in rollback.parked["0-environment"]
    assert real.effects(folder) == []
    assert (folder / "data/orders.csv").read_text() == real.NEW["data/orders.csv"]


def test_without_that_slot_the_rest_is_brought_back(tmp_path: Path, environment: Any) -> None:
    folder, version = tmp_path / "pipeline", environment.as_event_data()
    environments(folder, another(version), version)
    with open_ledger(url_of(folder)) as ledger:
        good = rollback_target(ledger)
        real.plan_back(ledger, folder, f"index:{good}", ("data/orders",), name="narrowed")
    with saga_in(folder, quiet) as saga:
        rollback = saga.run("narrowed")
    assert rollback.status == "completed"
    with open_ledger(url_of(folder)) as ledger:
        now = declared(ledger)
        assert now.state_digest == rollback.plan.target.state_digest
        assert now.state_digest != declared(ledger, f"index:{good}").state_digest
        assert now.bindings["environment"].version == environment.version


def rollback_target(ledger: Ledger) -> int:
    request = next(ledger.reader.stream(f"rollback/{ROLLBACK}")).data
    assert request is not None
    return int(request["target"]["index"])


# ------------------------------------------------------------------------------- a stopped process

CHILD = """
import os, signal, sys
from pathlib import Path
from tests.support.real_pipeline import ROLLBACK, saga_in

def stop(point):
    if point == "after-intent" and not stopped:
        stopped.append(point)
        print("stopped", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

stopped = []
with saga_in(Path(sys.argv[1]), stop) as saga:
    print(saga.run(ROLLBACK).status, flush=True)
"""


def test_f34_a_stopped_executor_keeps_its_claim_and_goes_on(tmp_path: Path, checkout: Path) -> None:
    folder = tmp_path / "pipeline"
    real.build(folder)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "stopped\n"
        wait_until_stopped(child.pid)
        with saga_in(folder, quiet) as saga:
            with pytest.raises(ConflictError, match="being run by another process"):
                saga.run(ROLLBACK)
        assert real.effects(folder) == []
        os.kill(child.pid, signal.SIGCONT)
        assert child.stdout.readline() == "completed\n"
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        child.communicate()
    assert digests(folder) == real.OLD
    assert sorted(real.effects(folder)) == sorted(real.SLOTS)


def wait_until_stopped(pid: int) -> None:
    deadline = system_clock() + 10_000_000
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert system_clock() < deadline, "the child did not stop"
        time.sleep(0.01)
