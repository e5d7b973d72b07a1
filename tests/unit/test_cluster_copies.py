"""Standbys and backups, as the failover tests rely on them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts.clusters import Cluster, ClusterError
from scripts.clusters.copies import (
    back_up,
    cut_replication,
    promote,
    restore,
    standby,
    wait_for_replay,
)
from scripts.clusters.processes import wait_until


@pytest.fixture
def second(
    pg_cluster: Cluster, pg_folder: Path, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    pg_cluster.execute("CREATE TABLE kept (n integer)")
    synchronous = getattr(request, "param", False)
    with standby(pg_cluster, pg_folder / "standby", synchronous=synchronous) as second:
        second.start()
        yield second


def add(cluster: Cluster, number: int) -> None:
    cluster.execute("INSERT INTO kept VALUES (%s)", number)


def kept(cluster: Cluster) -> list[int]:
    return [number for (number,) in cluster.execute("SELECT n FROM kept ORDER BY n")]


def test_a_standby_follows_and_takes_no_writes_until_it_is_promoted(
    pg_cluster: Cluster, second: Cluster
) -> None:
    add(pg_cluster, 1)
    wait_for_replay(pg_cluster, second)
    assert kept(second) == [1]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        add(second, 2)
    pg_cluster.kill()
    promote(second)
    add(second, 2)
    assert kept(second) == [1, 2]


def test_what_is_committed_after_the_cut_is_lost_with_the_primary(
    pg_cluster: Cluster, second: Cluster
) -> None:
    add(pg_cluster, 1)
    wait_for_replay(pg_cluster, second)
    cut_replication(second)
    add(pg_cluster, 2)
    assert kept(pg_cluster) == [1, 2]
    pg_cluster.kill()
    promote(second)
    assert kept(second) == [1]


@pytest.mark.parametrize("second", [True], indirect=True)
def test_a_commit_waits_for_a_synchronous_standby(pg_cluster: Cluster, second: Cluster) -> None:
    name = "SELECT sync_state FROM pg_stat_replication"
    wait_until(lambda: pg_cluster.execute(name) == [("sync",)], "the standby to be synchronous")
    add(pg_cluster, 1)
    second.stop()
    waiting = threading.Thread(target=add, args=(pg_cluster, 2))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    second.start()
    waiting.join(30)
    assert not waiting.is_alive() and kept(pg_cluster) == [1, 2]


def test_a_backup_brings_back_what_was_there_then(pg_cluster: Cluster, pg_folder: Path) -> None:
    pg_cluster.execute("CREATE TABLE kept (n integer)")
    add(pg_cluster, 1)
    for refused in (back_up, restore):
        with pytest.raises(ClusterError, match="runs"):
            refused(pg_cluster, pg_folder / "backup")
    pg_cluster.stop()
    back_up(pg_cluster, pg_folder / "backup")
    pg_cluster.start()
    add(pg_cluster, 2)
    pg_cluster.stop()
    restore(pg_cluster, pg_folder / "backup")
    pg_cluster.start()
    assert kept(pg_cluster) == [1]


def test_a_standby_of_a_stopped_server_is_refused(pg_cluster: Cluster, pg_folder: Path) -> None:
    pg_cluster.stop()
    with pytest.raises(ClusterError, match="pg_basebackup"):
        standby(pg_cluster, pg_folder / "standby")
    shutil.rmtree(pg_folder / "standby")
