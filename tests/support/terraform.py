"""A driver that speaks as the `http` backend of Terraform 1.5 does, header by header.

::

    with driver(running, "prod") as terraform:
        terraform.lock()
        terraform.post(state(1))
        terraform.unlock()

What it sends was taken from the exchange of the real program, which tests/acceptance/
test_terraform.py runs too where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.support.service import Running

__all__ = ["LINEAGE", "SECRET", "Driver", "driver", "state"]

LINEAGE = "fcbb51db-6c31-4f4b-8a58-5fd7a3a4c1a0"
SECRET = "planted-9f8e7d6c5b4a-nobody-may-keep-this"


def state(serial: int = 1, value: str = SECRET, lineage: str = LINEAGE) -> bytes:
    """A state of version 4 with one resource, a secret among its attributes and one as output."""
    resource = {
        "mode": "managed",
        "type": "terraform_data",
        "name": "x",
        "provider": 'provider["terraform.io/builtin/terraform"]',
        "instances": [{"schema_version": 0, "attributes": {"id": "1", "input": {"value": value}}}],
    }
    told = {
        "version": 4,
        "terraform_version": "1.5.7",
        "serial": serial,
        "lineage": lineage,
        "outputs": {"password": {"value": value, "type": "string", "sensitive": True}},
        "resources": [resource],
        "check_results": None,
    }
    return (json.dumps(told, indent=2) + "\n").encode()


class Driver:
    """One run of the program: it remembers its lock as the program does."""

    def __init__(self, client: httpx2.Client, path: str, who: str = "ada@box") -> None:
        self.client = client
        self.path = path
        self.info = {
            "ID": str(uuid.uuid4()),
            "Operation": "OperationTypeApply",
            "Info": "",
            "Who": who,
            "Version": "1.5.7",
            "Created": "2026-11-27T23:52:36.836686559Z",
            "Path": "",
        }
        self.lock_id = ""

    def send(self, method: str, body: bytes | None = None, **more: Any) -> httpx2.Response:
        """A request with what the program puts around a body."""
        headers = dict(more.pop("headers", {}))
        if body is not None:
            told = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            headers = {"Content-Type": "application/json", "Content-MD5": told} | headers
        return self.client.request(method, self.path, content=body, headers=headers, **more)

    def get(self) -> httpx2.Response:
        return self.send("GET")

    def lock(self) -> httpx2.Response:
        done = self.send("LOCK", json.dumps(self.info).encode())
        self.lock_id = self.info["ID"] if done.status_code == 200 else ""
        return done

    def post(self, body: bytes, **more: Any) -> httpx2.Response:
        params = {"ID": self.lock_id} if self.lock_id else {}
        return self.send("POST", body, params=params, **more)

    def unlock(self) -> httpx2.Response:
        return self.send("UNLOCK", json.dumps(self.info).encode())

    def force_unlock(self) -> httpx2.Response:
        """The command has no lock info, and sends a body that is empty."""
        return self.send("UNLOCK", b"")

    def delete(self) -> httpx2.Response:
        return self.send("DELETE")


@contextmanager
def driver(
    running: Running,
    name: str,
    *,
    token: str | None = None,
    ledger: str = "acme",
    user: str = "asof",
    who: str = "ada@box",
) -> Iterator[Driver]:
    """The program with an address and a password."""
    given = running.prepared.tokens["provisioner"] if token is None else token
    with httpx2.Client(base_url=running.url, auth=(user, given), timeout=20) as client:
        yield Driver(client, f"/terraform/{ledger}/{name}", who)
