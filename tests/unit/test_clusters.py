"""The servers that other tests rely on: found, started, killed, gone when their owner is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from scripts.clusters import Cluster, ClusterError, Server, binaries, newest, servers
from scripts.clusters.accounts import MEMORY
from scripts.clusters.binaries import copied_once
from scripts.clusters.processes import children_of, wait_until
from tests.support.postgres import database_of

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_version_found_starts_with_checksums_and_durability(
    pg_version_server: Server,
) -> None:
    with database_of(pg_version_server) as url, psycopg.connect(url) as connection:
        for setting in ("data_checksums", "fsync", "full_page_writes", "synchronous_commit"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_a_database_is_empty_and_dropped_with_those_who_use_it(postgres: Server) -> None:
    with database_of(postgres) as url:
        connection = psycopg.connect(url)
        connection.execute("CREATE TABLE kept (n integer)")
        connection.commit()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


@pytest.mark.parametrize("end", ["fast", "immediate", "smart", "kill"])
def test_what_was_committed_is_there_after_every_end(pg_cluster: Cluster, end: str) -> None:
    pg_cluster.execute("CREATE TABLE kept AS SELECT 7 AS n")
    before = [pg_cluster.pid, *children_of(pg_cluster.pid)]
    pg_cluster.kill() if end == "kill" else pg_cluster.stop(end)  # type: ignore[arg-type]
    assert not pg_cluster.is_running
    assert len(before) > 3 and not set(before) & set(_running_pids())
    pg_cluster.start()
    assert pg_cluster.execute("SELECT n FROM kept") == [(7,)]


def test_a_start_waits_for_the_orphans_of_a_killed_postmaster(pg_cluster: Cluster) -> None:
    """The postmaster alone is killed; a session that computes does not notice at once."""
    session = psycopg.connect(pg_cluster.dsn(), autocommit=True)
    [busy] = pg_cluster.backend_pids()
    os.kill(busy, signal.SIGSTOP)
    os.kill(pg_cluster.pid, signal.SIGKILL)
    pid = subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -CONT {busy}"])
    pg_cluster.start()
    assert pid.wait() == 0
    assert "is still in use" in pg_cluster.log_text()
    assert pg_cluster.execute("SELECT 1") == [(1,)]
    session.close()


def test_one_session_is_killed_and_the_server_goes_on(pg_cluster: Cluster) -> None:
    session = psycopg.connect(pg_cluster.socket_dsn(), autocommit=True)
    [pid] = pg_cluster.backend_pids("postgres")
    assert pg_cluster.backend_pids("another") == []
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    wait_until(lambda: _answers(pg_cluster), "the server to recover")


def test_settings_are_written_and_reloaded(pg_cluster: Cluster) -> None:
    pg_cluster.configure({"application_name": "it's"})
    pg_cluster.reload()
    wait_until(lambda: pg_cluster.execute("SHOW application_name") == [("it's",)], "the reload")


def test_a_server_that_cannot_start_says_why(pg_cluster: Cluster) -> None:
    pg_cluster.stop()
    pg_cluster.configure({"shared_buffers": "many"})
    with pytest.raises(ClusterError, match="shared_buffers"):
        pg_cluster.start()
    with pytest.raises(ClusterError, match="does not run"):
        pg_cluster.stop()


OWNER = """
import os, signal, sys
from pathlib import Path
from scripts.clusters import Cluster
cluster = Cluster.create(Path(sys.argv[1]), Path(sys.argv[2]), fast=True)
cluster.start()
print(cluster.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_with_its_owner_even_a_killed_one(pg_folder: Path, pg_bindir: Path) -> None:
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, pg_folder / "one", pg_bindir],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    pid = int(owner.stdout)
    wait_until(lambda: pid not in _running_pids(), "the server to end")
    assert "immediate shutdown" in (pg_folder / "one" / "log").read_text()
    if pg_folder.is_relative_to(MEMORY):
        wait_until(lambda: not (pg_folder / "one" / "data").exists(), "memory to be given back")


def test_programs_are_copied_once_and_can_be_read_by_everybody(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "programs" / "bin").mkdir(parents=True, mode=0o700)
    program = source / "programs" / "bin" / "postgres"
    program.write_text("one")
    program.chmod(0o700)
    (source / "programs" / "bin" / "psql").symlink_to("postgres")
    half = tmp_path / "copy.making"
    half.mkdir()
    (half / "left by whoever died").touch()
    copy = copied_once(source, ("programs", "libraries"), tmp_path / "copy")
    program.write_text("two")
    assert copied_once(source, ("programs",), tmp_path / "copy") == copy
    copied = copy / "programs" / "bin" / "postgres"
    assert copied.read_text() == "one" and copied.stat().st_mode & 0o777 == 0o755
    assert (copy / "programs" / "bin" / "psql").is_symlink()
    assert copied.parent.stat().st_mode & 0o777 == 0o755 and not half.exists()


def test_a_named_folder_without_programs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    servers.cache_clear()
    try:
        with pytest.raises(LookupError, match="PG_BINDIR"):
            servers()
    finally:
        monkeypatch.undo()
        servers.cache_clear()


def test_a_named_folder_comes_before_the_wheel(
    pg_bindir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = min(servers().items())
    monkeypatch.setenv("PG_BINDIR", str(other[1]))
    servers.cache_clear()
    try:
        assert servers() == dict([other])
    finally:
        monkeypatch.undo()
        servers.cache_clear()


def test_without_any_programs_the_message_says_what_to_do() -> None:
    with pytest.raises(LookupError, match="PG_BINDIR"):
        newest({})
    assert binaries.version_of(Path("/nowhere")) is None


def _running_pids() -> list[int]:
    listed = subprocess.run(["ps", "-axo", "pid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, state in rows if not state.startswith("Z")]


def _answers(cluster: Cluster) -> bool:
    try:
        return cluster.execute("SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False
