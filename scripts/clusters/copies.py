"""More than one copy of a cluster: standbys, promotion, a tail that is lost, cold backups.

::

    with standby(primary, folder / "standby", synchronous=True) as second:
        second.start()
        wait_for_replay(primary, second)
        primary.kill()
        promote(second)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.clusters.accounts import give
from scripts.clusters.cluster import Cluster, ClusterError
from scripts.clusters.processes import wait_until
from scripts.clusters.template import give_all

__all__ = ["back_up", "cut_replication", "promote", "restore", "standby", "wait_for_replay"]


def standby(primary: Cluster, folder: Path, *, synchronous: bool = False) -> Cluster:
    """A stopped streaming standby of a running cluster. With `synchronous`, which takes effect when
    the standby has started, the primary's commits wait for it."""
    folder.mkdir(mode=0o755)
    give(folder)
    name = folder.name
    source = f"{primary.dsn()}?application_name={name}"
    options = ["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
    primary.run("pg_basebackup", f"--pgdata={folder / 'data'}", "-d", source, *options)
    if synchronous:
        primary.configure({"synchronous_standby_names": f'"{name}"'})
        primary.reload()
    return Cluster.over(folder, primary.bindir)


def wait_for_replay(primary: Cluster, second: Cluster) -> None:
    """Until readers of the standby see all that is committed now."""
    [(position,)] = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
    asked = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: second.execute(asked, position) == [(True,)], "the standby to replay")


def cut_replication(second: Cluster) -> None:
    """The standby receives nothing more: what is committed from now on, it will not have."""
    second.execute("ALTER SYSTEM SET primary_conninfo = ''")
    second.reload()
    receiver = "SELECT pid FROM pg_stat_wal_receiver"
    wait_until(lambda: second.execute(receiver) == [], "the standby's receiver to end")


def promote(second: Cluster) -> None:
    """Make a primary of a standby; it takes writes when this returns."""
    if second.execute("SELECT pg_promote(true, 60)") != [(True,)]:
        raise ClusterError(f"it was not promoted:\n{second.log_text()[-2000:]}")


def back_up(cluster: Cluster, target: Path) -> None:
    """A copy of the files of a stopped cluster."""
    if cluster.is_running:
        raise ClusterError(f"{cluster.folder.name} runs: its files cannot be copied one by one")
    shutil.copytree(cluster.data, target, symlinks=True)


def restore(cluster: Cluster, source: Path) -> None:
    """Put a copy in the place of a stopped cluster's files."""
    if cluster.is_running:
        raise ClusterError(f"{cluster.folder.name} runs: stop it before its files are replaced")
    shutil.rmtree(cluster.data)
    shutil.copytree(source, cluster.data, symlinks=True)
    give_all(cluster.data)
