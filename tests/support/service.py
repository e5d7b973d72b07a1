"""A real server in a process of its own, on SQLite or PostgreSQL, with tokens for every role."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.service.access.changing import grant_role, issue_token
from api.service.access.registry import Registry
from api.service.access.tokens import load_pepper
from ledger.opening import Ledger, create_ledger
from tests.support.postgres import database_of, prepared

__all__ = [
    "ROLES",
    "Running",
    "pg_service",
    "prepare",
    "service",
    "sqlite_service",
    "started",
    "token_for",
]

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = ("recorder", "auditor", "operator", "approver", "compliance", "admin", "provisioner")
ORIGIN = "ledger.example.com/acme"


@dataclass(slots=True)
class Prepared:
    """A ledger with a token for each role, before anything serves it."""

    folder: Path
    environment: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, given: bytes = b"") -> str:
        """A command of the program, beside the store."""
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            input=given,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@dataclass(slots=True)
class Running:
    """The server's process, its address, and clients for each role."""

    prepared: Prepared
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def client(self, role: str | None = None, **more: Any) -> httpx2.Client:
        """A client that authenticates in a role; None: not at all."""
        headers = dict(more.pop("headers", {}))
        if role is not None:
            headers["Authorization"] = f"Bearer {self.prepared.tokens[role]}"
        return httpx2.Client(base_url=self.url, headers=headers, timeout=20, **more)

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is written any more."""
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> int:
        """SIGTERM, as a supervisor does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def prepare(
    folder: Path,
    *,
    store: str | None = None,
    roles: tuple[str, ...] = ROLES,
    origin: str = ORIGIN,
) -> Prepared:
    """A ledger in the folder (SQLite), or in the store that is given, and the tokens."""
    url = store or f"sqlite:///{folder}/asof.db"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ASOF_")},
        "ASOF_STORE": url,
        "ASOF_KEYS": str(folder / "keys"),
        "ASOF_ACTOR": "user:root",
        "PYTHONPATH": str(CHECKOUT),
    }
    made = Prepared(folder, environment)
    with create_ledger(url, origin=origin, keys=folder / "keys") as ledger:
        registry = Registry(ledger.reader, load_pepper(folder / "keys", create=True))
        for role in roles:
            made.tokens[role] = token_for(ledger, registry, f"user:{role}", role)
    return made


def token_for(ledger: Ledger, registry: Registry, principal: str, role: str, days: int = 1) -> str:
    """Give the role and make a token for it."""
    now = time.time_ns() // 1000
    registry.refresh()
    given = grant_role(registry, principal, role, by="user:root", now=now)
    if given.drafts:
        ledger.writer.append(given.drafts)
    registry.refresh()
    made = issue_token(registry, principal, roles=[role], days=days, by="user:root", now=now)
    ledger.writer.append(made.drafts)
    return made.token


@contextlib.contextmanager
def started(
    made: Prepared,
    *,
    config: str = "",
    port: int = 0,
    environment: Mapping[str, str] = {},
) -> Iterator[Running]:
    """The server of a prepared ledger; ended afterwards if it still runs."""
    arguments = [sys.executable, "-m", "api.cli", "serve", "--port", str(port)]
    if config:
        (made.folder / "asof.toml").write_text(config)
        arguments += ["--config", str(made.folder / "asof.toml")]
    log = made.folder / "server.log"
    with log.open("ab") as sink:
        position = sink.tell()
        process = subprocess.Popen(
            arguments,
            env={**made.environment, **environment},
            cwd=made.folder,
            stderr=sink,
            stdout=subprocess.DEVNULL,
        )
    try:
        yield Running(made, process, _address(log, position, process), log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _address(log: Path, position: int, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with log.open("rb") as file:
            file.seek(position)
            for line in file.read().decode().splitlines():
                if line.startswith("serving "):
                    return line.removeprefix("serving ").partition("/v1/")[0]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def sqlite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over SQLite, shared by the tests of this process."""
    with started(prepare(tmp_path_factory.mktemp("service"))) as running:
        yield running


@pytest.fixture(scope="session")
def pg_service(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over PostgreSQL, shared by the tests of this process."""
    folder = tmp_path_factory.mktemp("service")
    with database_of(postgres) as admin:
        with started(prepare(folder, store=prepared(admin))) as running:
            yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest) -> Running:
    """The server over each store."""
    found: Running = request.getfixturevalue(
        "sqlite_service" if request.param == "sqlite" else "pg_service"
    )
    return found
