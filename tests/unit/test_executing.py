"""What is known of a rollback that a server runs, also where it cannot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.remote import evidence
from api.service.executing import Executions
from ledger.errors import StoreError


def told_of(trouble: Exception | None) -> list[dict[str, Any] | None]:
    """What is told before, while and after it runs."""
    gate = asyncio.Event()

    async def asked(question: object) -> SimpleNamespace:
        await gate.wait()
        if trouble is not None:
            raise trouble
        return SimpleNamespace(status="completed")

    async def run() -> list[dict[str, Any] | None]:
        executions = Executions({})
        here: Any = SimpleNamespace(name="acme", asked=asked)
        told = [executions.told("acme", "r1")]
        executions.begin(here, "r1", actor="user:lin")
        executions.begin(here, "r1", actor="user:lin")
        told.append(executions.told("acme", "r1"))
        gate.set()
        await executions.close()
        return [*told, executions.told("acme", "r1"), executions.told("acme", "r2")]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (None, None),
        (StoreError("the disk is full"), "the disk is full"),
        (KeyError("x"), "the server failed (KeyError): see its log"),
    ],
)
def test_what_became_of_it(trouble: Exception | None, problem: str | None) -> None:
    assert told_of(trouble) == [
        None,
        {"running": True, "problem": None},
        {"running": False, "problem": problem},
        None,
    ]


class Server:
    """Answers `GET` with one answer after the other."""

    server = "https://ledger.example.com"

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)

    def post(self, path: str, body: None, *, key: str) -> None:
        assert path == "/rollbacks/r1/execution" and key

    def get(self, path: str) -> dict[str, Any]:
        return {"steps": [{"outcome": None}]} | self.answers.pop(0)


def test_whoever_waits_learns_that_nobody_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LOOK_SECONDS", 0.0)
    waits = {"status": "approved", "execution": {"running": True, "problem": None}}
    elsewhere = {"status": "approved", "execution": None}
    fails = {"status": "approved", "execution": {"running": False, "problem": "the disk is full"}}
    done = {"status": "completed", "execution": {"running": False, "problem": None}}
    good: Any = Server(waits, elsewhere, done)
    counts: list[int] = []
    assert evidence.run(good, "r1", counts.append)["status"] == "completed" and counts == [0] * 3
    bad: Any = Server(waits, fails)
    with pytest.raises(StoreError, match="stopped running r1: the disk is full"):
        evidence.run(bad, "r1", counts.append)
