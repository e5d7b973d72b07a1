"""SIGKILL to the whole server, and to single sessions, while a program appends.

Whatever was acknowledged is there, byte for byte and once; what was unknown is answered by its key;
`verify` is content. The control commits without waiting for the log, as a store must not, and is
caught losing what it acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from ledger.errors import TamperError
from ledger.opening import create_ledger, open_ledger
from scripts.clusters import Cluster, cluster_folder
from scripts.clusters.processes import wait_until
from tests.support.appending import check_journal, client, read_journal
from tests.support.ledgers import ORIGIN
from tests.support.postgres import database_of, prepared

LOAD = ("small-0", "small-1", "small-2", "large-0")


@pytest.fixture(scope="module")
def cluster(pg_bindir: Path) -> Iterator[Cluster]:
    # The log is written by commits alone: what does not wait for it is lost for certain.
    settings = {"wal_writer_delay": "10s", "autovacuum": "off"}
    with (
        cluster_folder() as folder,
        Cluster.create(folder / "killed", pg_bindir, settings=settings) as cluster,
    ):
        cluster.start()
        yield cluster


@pytest.fixture
def url(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    with database_of(cluster) as database:
        url = prepared(database)
        create_ledger(url, origin=ORIGIN, keys=tmp_path / "keys").close()
        yield url


@pytest.mark.parametrize("cycles", [3, pytest.param(100, marks=pytest.mark.long)])
def test_the_server_is_killed(cluster: Cluster, url: str, tmp_path: Path, cycles: int) -> None:
    keys, journal = tmp_path / "keys", tmp_path / "journal"
    with client(url, keys, journal, *LOAD) as program:
        for cycle in range(cycles):
            program.wait_for_more(40)
            if cycle == 0:
                kill_under_way(cluster, url)
            else:
                time.sleep(random.random() / 20)
                cluster.kill()
            cluster.start()
        program.wait_for_more(40)
    counts = check_journal(url, keys, journal)
    assert counts["acknowledged"] >= 40 * (cycles + 1), counts
    # A kill between two groups is not felt: the connection is replaced before anything is sent.
    assert counts["unknown"] >= 1, counts
    assert counts["failed"] + counts["unknown"] >= cycles // 3, counts


def kill_under_way(cluster: Cluster, url: str) -> None:
    """When an append is certainly at the server: it waits for a lock that is held from outside."""
    database = urlsplit(url).path.removeprefix("/")
    with closing(psycopg.connect(cluster.dsn(database))) as holder:
        holder.execute("SELECT * FROM asof.ledger FOR UPDATE")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: cluster.execute(waiting) != [(0,)], "an append to wait for the lock")
        cluster.kill()


@pytest.mark.parametrize("cycles", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_session_is_killed(cluster: Cluster, url: str, tmp_path: Path, cycles: int) -> None:
    """The server ends all other sessions then, and recovers as from a crash."""
    keys, journal = tmp_path / "keys", tmp_path / "journal"
    with client(url, keys, journal, *LOAD) as program:
        for _ in range(cycles):
            program.wait_for_more(40)
            os.kill(random.choice(cluster.backend_pids()), signal.SIGKILL)
            wait_until(lambda: has_recovered(cluster), "the server to recover")
        program.wait_for_more(40)
    counts = check_journal(url, keys, journal)
    assert counts["acknowledged"] >= 40 * (cycles + 1), counts


@pytest.mark.parametrize("cycles", [1, pytest.param(20, marks=pytest.mark.long)])
def test_the_program_and_the_server_are_killed(
    cluster: Cluster, url: str, tmp_path: Path, cycles: int
) -> None:
    """At once, as by a power loss; the guard, which is not fsynced, was written nevertheless."""
    keys = tmp_path / "keys"
    for cycle in range(cycles):
        journal = tmp_path / f"journal-{cycle}"
        with client(url, keys, journal, f"small-{cycle}", f"large-{cycle}") as program:
            program.wait_for_more(40)
            program.kill()
            cluster.kill()
        cluster.start()
        with open(tmp_path / "journal", "a") as whole:
            whole.write(journal.read_text())
        check_journal(url, keys, tmp_path / "journal")


def test_a_store_that_does_not_wait_for_the_log_is_caught(
    cluster: Cluster, url: str, tmp_path: Path
) -> None:
    """The negative control: the same campaign, one kill, the store careless. The checker finds the
    loss by looking at the entries alone, and the ledger refuses to open by its guard."""
    keys, journal = tmp_path / "keys", tmp_path / "journal"
    with client(url, keys, journal, "small-0", "small-1", "--careless") as program:
        program.wait_for_more(40)
        cluster.kill()
        program.process.kill()
    cluster.start()
    assert sum(bool(outcome.answers) for outcome in read_journal(journal).values()) >= 40
    with pytest.raises(AssertionError, match=r"was acknowledged as entry .* and is not there"):
        check_journal(url, keys, journal)
    with pytest.raises(TamperError, match="missing"):
        open_ledger(url, keys=keys)


def has_recovered(cluster: Cluster) -> bool:
    try:
        return cluster.execute("SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
