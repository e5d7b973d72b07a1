"""PostgreSQL for tests: a server for each process of pytest, an empty database for each test.

An existing server is used where `TEST_PG_DSN` names one (a superuser's URL); tests that kill or
configure theirs are skipped then. Otherwise `scripts.clusters` finds the programs and begins one.
Where there are none the tests report themselves as skipped, unless `REQUIRE_POSTGRES=1`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from ledger.stores.postgres import migrate
from scripts.clusters import Cluster, Server, cluster_folder, newest, servers

__all__ = [
    "APP",
    "EXISTING",
    "VERSIONS",
    "database_of",
    "pg_bindir",
    "pg_cluster",
    "pg_database",
    "pg_folder",
    "pg_url",
    "pg_version_server",
    "postgres",
    "prepared",
]

EXISTING = os.environ.get("TEST_PG_DSN")
APP = "asof_app"
VERSIONS = ["existing"] if EXISTING else [str(version) for version in servers()] or ["none"]
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running server of the newest version, shared by all tests of this process."""
    with _running(VERSIONS[0]) as server:
        yield server


@pytest.fixture(scope="session", params=VERSIONS)
def pg_version_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server of each version found, one after the other."""
    with _running(request.param) as server:
        yield server


@pytest.fixture
def pg_database(postgres: Server) -> Iterator[str]:
    """The URL of an empty database, as administrator; dropped afterwards."""
    with database_of(postgres) as url:
        yield url


@pytest.fixture
def pg_url(pg_database: str) -> str:
    """The URL of that database, prepared for ledgers, as a program that appends logs in."""
    return prepared(pg_database)


@pytest.fixture(scope="session")
def pg_bindir() -> Path:
    """The programs of the newest version, for tests that control a server of their own."""
    if EXISTING:
        pytest.skip("TEST_PG_DSN names a server that this test must not kill or configure")
    if not servers():
        _missing()
    return newest(servers())[1]


@pytest.fixture
def pg_folder(pg_bindir: Path) -> Iterator[Path]:
    """A folder for clusters of one test."""
    with cluster_folder(memory=True) as folder:
        yield folder


@pytest.fixture
def pg_cluster(pg_folder: Path, pg_bindir: Path) -> Iterator[Cluster]:
    """A running cluster of one's own, durable, to be killed and configured."""
    with Cluster.create(pg_folder / "primary", pg_bindir) as cluster:
        cluster.start()
        yield cluster


@contextmanager
def database_of(server: Server) -> Iterator[str]:
    """An empty database of the server, dropped at the end."""
    name = f"asof_test_{os.getpid()}_{next(_numbers)}"
    url = server.create_database(name)
    try:
        yield url
    finally:
        server.drop_database(name)


def prepared(url: str, login: str = APP) -> str:
    """Migrate a database, and return the URL for the login that appends.

    The password is the one that was set when the login was made, so on an existing server it must
    be able to log in without one, as on ours.
    """
    migrate(url, login=login)
    before, _, rest = url.partition("://")
    return f"{before}://{login}@{rest.partition('@')[2]}"


@contextmanager
def _running(version: str) -> Iterator[Server]:
    if EXISTING:
        yield Server(EXISTING)
        return
    if version == "none":
        _missing()
    with ExitStack() as stack:
        folder = stack.enter_context(cluster_folder(memory=True))
        made = Cluster.create(folder / version, servers()[int(version)], fast=True)
        cluster = stack.enter_context(made)
        cluster.start()
        yield cluster


def _missing() -> None:
    words = "no PostgreSQL was found: see scripts/clusters/binaries.py for where it is looked for"
    if os.environ.get("REQUIRE_POSTGRES") == "1":
        pytest.fail(words)
    pytest.skip(words)
