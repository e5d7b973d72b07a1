"""Terraform goes on while the ledger's database is away; the ledger is told when it is back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.clusters import Cluster, Server
from tests.support.postgres import database_of, prepared
from tests.support.proxy import Proxy
from tests.support.service import prepare, started
from tests.support.terraform import driver, state


def test_a_state_is_taken_while_the_ledger_is_away(postgres: Server, tmp_path: Path) -> None:
    if not isinstance(postgres, Cluster):
        pytest.skip("TEST_PG_DSN names a server whose port this test does not know")
    with database_of(postgres) as admin, Proxy(postgres.port) as proxy:
        url = prepared(admin)
        made = prepare(tmp_path, store=url, roles=("provisioner", "auditor"))
        made.environment["ASOF_STORE"] = url.replace(f":{postgres.port}/", f":{proxy.port}/")
        with started(made) as running, driver(running, "prod") as terraform:
            assert terraform.lock().status_code == 200
            proxy.refuses = True
            proxy.drop()
            with running.client() as client:
                away = client.get("/readyz")
                assert away.status_code == 503, "the control: the ledger is away"
            assert terraform.post(state(1)).status_code == 200
            assert terraform.unlock().status_code == 200
            assert terraform.get().content == state(1)
            proxy.mend()
            with running.client("auditor") as client:
                events = _events(client)
        assert events == ["lock", 1, "unlock"], json.dumps(events)


def _events(client: Any) -> list[Any]:
    """What the ledger has, as soon as it has all of it, as it happened: what waited is recorded in
    whatever order its turn comes."""
    until = time.monotonic() + 30
    found: list[Any] = []
    while time.monotonic() < until and len(found) < 3:
        time.sleep(0.1)
        answer = client.get("/v1/ledgers/acme/entries?limit=1000")
        if answer.status_code != 200:
            continue
        mine = [one for one in answer.json()["entries"] if "terraform" in one["stream"]]
        found = [
            entry["data"]["metadata"]["serial"]
            if entry["type"].startswith("asset")
            else entry["data"]["observed"][0]["details"]["event"]
            for entry in sorted(mine, key=lambda entry: str(entry["effective_at"]))
        ]
    return found
