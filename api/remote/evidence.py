"""A verification by the server, waited for; and the steps of a rollback over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from api.hints import hinting
from api.remote.client import Client, segment
from ledger.errors import IncompleteError, StoreError, UnknownOutcomeError

__all__ = ["approve", "every", "find", "plan", "run", "verify"]

LOOK_SECONDS: Final = 0.3
OVER: Final = ("completed", "failed", "parked")


def verify(client: Client, looked: Callable[[], None]) -> dict[str, Any]:
    """The report of a verification that the server made of its own ledger.

    Raises IncompleteError where it came to no report.
    """
    job = client.post("/verifications", None, key=_key())
    while job["status"] == "running":
        time.sleep(LOOK_SECONDS)
        looked()
        job = client.get(f"/verifications/{job['id']}")
    if job["report"] is None:
        raise IncompleteError(f"the server could not verify its ledger: {job['problem']}")
    report: dict[str, Any] = job["report"]
    told = (
        f"by anybody but the server itself: {client.server} verified its own ledger; take an export"
    )
    report["not_checked"].append(told)
    return report


def plan(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Plan a rollback and request it."""
    with hinting(UnknownOutcomeError, "asof rollback list, to see whether it is planned"):
        found: dict[str, Any] = client.post("/rollbacks", body, key=_key())
    return found


def find(client: Client, rollback: str) -> dict[str, Any]:
    """One plan."""
    found = _looked_at(client, rollback)
    found.pop("execution", None)
    return found


def _looked_at(client: Client, rollback: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/rollbacks/{segment(rollback)}")
    return found


def every(client: Client) -> Any:
    """All plans."""
    return client.pages("/rollbacks", "rollbacks")


def approve(client: Client, rollback: str, digest: str, reason: str | None) -> dict[str, Any]:
    """Approve exactly the plan of that digest."""
    body = {"plan_digest": digest, "reason": reason}
    path = f"/rollbacks/{segment(rollback)}/approvals"
    with hinting(UnknownOutcomeError, f"asof rollback status {rollback}"):
        found: dict[str, Any] = client.post(path, body, key=_key())
    return found


def run(client: Client, rollback: str, settled: Callable[[int], None]) -> dict[str, Any]:
    """Let the server run it, and wait for its end, or for where it waits for somebody.

    Raises StoreError where the server gave up; the plan then stands where its entries say.
    """
    with hinting(UnknownOutcomeError, f"asof rollback status {rollback}"):
        client.post(f"/rollbacks/{segment(rollback)}/execution", None, key=_key())
    while True:
        found = _looked_at(client, rollback)
        settled(sum(1 for step in found["steps"] if step["outcome"] is not None))
        execution = found.pop("execution", None)
        if found["status"] in OVER:
            return found
        if execution is not None and not execution["running"] and execution["problem"]:
            raise StoreError(f"{client.server} stopped running {rollback}: {execution['problem']}")
        time.sleep(LOOK_SECONDS)


def _key() -> str:
    return f"cli-{uuid4().hex}"
