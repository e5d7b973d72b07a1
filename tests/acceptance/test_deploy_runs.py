"""What is shipped, really run as far as that goes without an engine: the steps that prepare a
database, the server on the configuration and the password file that come of them, and what the
chart does to files before it. PostgreSQL asks for passwords here, as it does where it is deployed.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ledger.errors import StoreError
from ledger.keys import create_key, load_key
from ledger.note import format_vkey
from ledger.opening import create_ledger
from scripts.clusters import Cluster
from tests.support.service import CHECKOUT, Prepared, started

DEPLOY = CHECKOUT / "deploy"
BEFORE = DEPLOY / "helm" / "asof" / "files" / "before.py"
ASKS_FOR_PASSWORDS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(slots=True)
class Deployed:
    """A folder as the compose file mounts it, and a database that asks for passwords."""

    folder: Path
    data: Path
    environment: dict[str, str]

    def prepare(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(DEPLOY / "prepare.py")],
            env=self.environment,
            cwd=self.data,
            capture_output=True,
            text=True,
            check=False,
        )

    def configuration(self) -> str:
        """deploy/asof.toml, with the paths and the host of this test."""
        text = (DEPLOY / "asof.toml").read_text()
        return text.replace("/data", str(self.data)).replace("@db/", "@127.0.0.1/")

    def serving(self, passfile: Path) -> Any:
        made = Prepared(self.folder, self.environment)
        return started(
            made,
            config=self.configuration().replace("0.0.0.0", "127.0.0.1"),
            environment={"PGPASSFILE": str(passfile)},
        )


@pytest.fixture
def deployed(pg_folder: Path, pg_bindir: Path, tmp_path: Path) -> Iterator[Deployed]:
    with Cluster.create(pg_folder / "primary", pg_bindir, fast=True) as cluster:
        cluster.start()
        cluster.create_database("audit")
        cluster.execute("ALTER ROLE postgres PASSWORD 'of-the-administrator'")
        (cluster.data / "pg_hba.conf").write_text(ASKS_FOR_PASSWORDS)
        cluster.stop()
        cluster.start()
        yield mounted(tmp_path, cluster.port)


def mounted(tmp_path: Path, port: int) -> Deployed:
    """The secrets and the empty volume."""
    secrets, data = tmp_path / "secrets", tmp_path / "data"
    secrets.mkdir()
    data.mkdir()
    (secrets / "db_password").write_text("of-the-administrator\n")
    (secrets / "app_password").write_text("of:the\\server\n")
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("ASOF_", "PG"))}
    environment = kept | {
        "ASOF_SECRETS": str(secrets),
        "ASOF_DATA": str(data),
        "ASOF_DB_HOST": "127.0.0.1",
        "PGPORT": str(port),
        "PYTHONPATH": str(CHECKOUT),
        "HOME": str(tmp_path),
    }
    return Deployed(tmp_path, data, environment)


def test_a_prepared_database_is_served(deployed: Deployed) -> None:
    first = deployed.prepare()
    assert first.returncode == 0, first.stderr
    assert "password" not in (first.stdout + first.stderr).lower()
    vkey = (deployed.data / "keys" / "ledger.vkey").read_bytes()
    passfile = deployed.data / "pgpass"
    assert passfile.stat().st_mode & 0o777 == 0o600
    with deployed.serving(passfile) as running:
        assert httpx2.get(f"{running.url}/readyz").json()["status"] == "ready"
    again = deployed.prepare()
    assert (again.returncode, again.stdout) == (0, "")
    assert (deployed.data / "keys" / "ledger.vkey").read_bytes() == vkey

    passfile.chmod(0o440)  # as a Secret, or a credential with an ACL, would be
    with pytest.raises(AssertionError, match="no password supplied"):
        deployed.serving(passfile).__enter__()
    wrong = deployed.folder / "secrets" / "db_password"
    wrong.write_text("another")
    assert deployed.prepare().returncode == 1


def test_a_preparation_that_died_before_the_ledger_began_goes_on(deployed: Deployed) -> None:
    """The key folder was made, and entry 0 was not."""
    made = create_key(deployed.data / "keys", "ledger.example.com/main")
    done = deployed.prepare()
    assert done.returncode == 0, done.stderr
    assert format_vkey(made.vkey) in done.stdout


def test_what_the_chart_does_before_the_server(tmp_path: Path) -> None:
    keys, secret, target = tmp_path / "keys", tmp_path / "pgpass", tmp_path / "run" / "pgpass"
    create_ledger(f"sqlite:///{tmp_path}/asof.db", origin="ledger.test/x", keys=keys).close()
    for path in keys.iterdir():
        path.chmod(path.stat().st_mode | 0o660)  # what an fsGroup does
    with pytest.raises(StoreError, match="can be read by others"):
        load_key(keys)
    secret.write_text("db:5432:audit:asof_app:x\n")
    secret.chmod(0o440)
    target.parent.mkdir()
    (keys / "elsewhere").symlink_to(secret)
    before = runpy.run_path(str(BEFORE))["main"]
    for _ in range(2):
        before(str(secret), str(target), str(keys))
    assert load_key(keys).name == "ledger.test/x"
    assert target.read_text() == secret.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_mode & 0o777 == 0o440, "a link leads out of the folder"
