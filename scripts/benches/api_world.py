"""What the parts of `scripts/bench api` share: a ledger in PostgreSQL, the server, the load.

One server process with authentication on, as `asof serve` starts it, and the load generator in
another: both and PostgreSQL share the machine. The ledger is verified when a part ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.service.access.changing import grant_role, issue_token
from api.service.access.registry import Registry
from api.service.access.tokens import load_pepper
from ledger.opening import Ledger
from scripts.benches.harness import Context
from scripts.benches.postgres_world import Server, server

__all__ = ["LEDGER", "PRINCIPAL", "World", "world"]

LEDGER = "bench"
PRINCIPAL = "service:load"


@dataclass(slots=True)
class World:
    """The server that runs, and the token with which it is asked."""

    context: Context
    environment: dict[str, str]
    folder: Path
    token: str
    process: subprocess.Popen[bytes]
    host: str

    def load(
        self, kind: str, *, seconds: float, connections: int, more: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Run the load generator; what it saw."""
        command = [sys.executable, "-m", "scripts.benches.api_load", self.host, self.token, LEDGER]
        command += ["--kind", kind, "--seconds", str(seconds), "--connections", str(connections)]
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def memory_mib(self) -> float:
        """The most memory that the server has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def verify(self) -> None:
        """The whole ledger, by the program. Raises AssertionError unless it is VALID."""
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "verify", "-o", "json"],
            env=self.environment,
            capture_output=True,
            check=False,
        )
        report = json.loads(done.stdout)
        if report["result"] != "VALID":
            raise AssertionError(report)
        self.context.say(f"verified {report['entries']:,} entries: VALID")


@contextmanager
def world(context: Context, fill: Any = None) -> Iterator[World]:
    """A ledger, filled by `fill(ledger)` if it is given, and the server over it."""
    with server(context) as database:
        environment, token = _prepared(database, fill)
        folder = Path(tempfile.mkdtemp(dir=context.folder))
        log = folder / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve", "--port", "0"],
                env=environment,
                cwd=folder,
                stderr=sink,
            )
        try:
            host = _address(log, process)
            yield World(context, environment, folder, token, process, host)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _prepared(database: Server, fill: Any) -> tuple[dict[str, str], str]:
    ledger: Ledger = database.ledger()
    url, keys = database.place_of(ledger)
    with ledger:
        registry = Registry(ledger.reader, load_pepper(keys, create=True))
        now = time.time_ns() // 1000
        for role in ("recorder", "auditor"):
            given = grant_role(registry, PRINCIPAL, role, by="user:bench", now=now)
            ledger.writer.append(given.drafts)
            registry.refresh()
        made = issue_token(registry, PRINCIPAL, roles=(), days=1, by="user:bench", now=now)
        ledger.writer.append(made.drafts)
        if fill is not None:
            fill(ledger)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ASOF_")},
        "ASOF_STORE": url,
        "ASOF_KEYS": str(keys),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    return environment, made.token


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("serving http://"):
                return line.removeprefix("serving http://").partition("/")[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())
