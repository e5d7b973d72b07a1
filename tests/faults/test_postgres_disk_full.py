"""No room on the server's disk: nothing is acknowledged that is not kept, reading goes on where the
server does, and with room appending goes on.

The disk is a small file system in memory, which only root can mount. The limit on how large a file
one session may write, which stands in for it elsewhere, gives another error of the same kind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import StoreError, UnknownOutcomeError
from ledger.opening import Ledger, open_ledger
from scripts.clusters import Cluster, cluster_folder
from scripts.clusters.accounts import run_as
from scripts.clusters.template import give_all
from tests.support.ledgers import note
from tests.support.postgres import database_of, prepared
from tests.support.postgres_ledgers import begin, check_valid, texts

DISK = "size=144m,mode=0700"
ROOM = 2 << 20
LARGE = 60_000
LIMIT = 17 << 20


@pytest.fixture
def small(pg_bindir: Path) -> Iterator[Cluster]:
    """A cluster whose data lie on a disk of their own."""
    with cluster_folder(memory=True) as folder:
        settings = {"min_wal_size": "32MB", "max_wal_size": "32MB", "autovacuum": "off"}
        Cluster.create(folder / "made", pg_bindir, settings=settings).close()
        disk = folder / "small" / "data"
        disk.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a file system, and not in every container")
        try:
            shutil.copytree(folder / "made" / "data", disk, dirs_exist_ok=True)
            give_all(folder / "small")
            with Cluster.over(folder / "small", pg_bindir) as cluster:
                cluster.start()
                yield cluster
        finally:
            subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def large_note(number: int) -> str:
    """Text that does not become smaller."""
    return f"{number} {os.urandom(LARGE // 2).hex()}"


def append_until_refused(ledger: Ledger, kept: list[str], *, most: int = 3_000) -> StoreError:
    """What the ledger said when it took no more; `kept` grows by what it acknowledged."""
    for _ in range(most):
        text = large_note(len(kept))
        try:
            ledger.writer.append([note(text)], idempotency_key=f"large {len(kept)}")
        except StoreError as exc:
            return exc
        kept.append(text)
    raise AssertionError(f"{most} notes of {LARGE} bytes fitted")


def begin_log_segment(cluster: Cluster, ledger: Ledger) -> None:
    """From here on the server's log has room for 16 MiB, whatever the disk has."""
    cluster.execute("CHECKPOINT")
    cluster.execute("SELECT pg_switch_wal()")
    ledger.writer.append([note("in a new segment")])


def fill(folder: Path, *, leave: int) -> Path:
    """A file that takes all the room but `leave` bytes."""
    free = shutil.disk_usage(folder).free
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(free - leave, 0)))
    return ballast


def test_a_full_disk_refuses_and_room_lets_go_on(small: Cluster, keys: Path) -> None:
    """The tables cannot grow; the server's log has room yet, so the server goes on, too."""
    with database_of(small) as database:
        url = prepared(database)
        begin(url, keys)
        kept: list[str] = []
        with open_ledger(url, keys=keys) as ledger:
            begin_log_segment(small, ledger)
            ballast = fill(small.data, leave=ROOM)
            refused = append_until_refused(ledger, kept)
            assert "disk is full" in str(refused) and "nothing was written" in str(refused)
            assert not isinstance(refused, UnknownOutcomeError)
            assert texts(url, keys) == ["in a new segment", *kept]
            assert ledger.reader.size() == 2 + len(kept)
            ballast.unlink()
            done = ledger.writer.append([note("room again")], idempotency_key="after")
            assert not done.repeated and kept
        assert texts(url, keys) == ["in a new segment", *kept, "room again"]
        check_valid(url, keys)


def test_no_room_for_the_log_ends_the_server_and_loses_nothing(small: Cluster, keys: Path) -> None:
    """PostgreSQL ends itself rather than go on without its log; what was acknowledged is there when
    it starts again, which it does with room."""
    with database_of(small) as database:
        url = prepared(database)
        begin(url, keys)
        kept: list[str] = []
        with open_ledger(url, keys=keys) as ledger:
            ballast = fill(small.data, leave=26 << 20)
            refused = append_until_refused(ledger, kept)
        assert kept and isinstance(refused, StoreError)
        ballast.unlink()
        if small.is_running:
            small.kill()
        small.start()
        with open_ledger(url, keys=keys) as ledger:
            again = ledger.writer.append([note("room again")], idempotency_key="after")
            assert not again.repeated
        found = texts(url, keys)
        assert found[: len(kept)] == kept and found[-1] == "room again"
        assert len(found) - len(kept) - 1 <= isinstance(refused, UnknownOutcomeError)
        check_valid(url, keys)


def limit_files(sessions: list[int], size: str) -> None:
    """The soft limit on how large a file each session may write, set by its own account."""
    for session in sessions:
        command = ["prlimit", f"--pid={session}", f"--fsize={size}:"]
        subprocess.run(command, check=True, cwd="/", **run_as())


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="the limits of others: Linux only")
def test_a_file_that_may_not_grow_refuses_and_with_leave_goes_on(
    pg_cluster: Cluster, keys: Path
) -> None:
    """The limit is above the size of a log segment, so it is a table that meets it. For the server
    that is an internal error, which may not be told from one of the commit itself: unknown, and the
    key says that nothing was written."""
    with database_of(pg_cluster) as database:
        url = prepared(database)
        begin(url, keys)
        kept: list[str] = []
        with open_ledger(url, keys=keys) as ledger:
            sessions = pg_cluster.backend_pids(database.rpartition("/")[2])
            limit_files(sessions, str(LIMIT))
            refused = append_until_refused(ledger, kept)
            assert "File too large" in str(refused), refused
            assert texts(url, keys) == kept
            limit_files(sessions, "unlimited")
            key = f"large {len(kept)}"
            assert not ledger.writer.append([note("room again")], idempotency_key=key).repeated
        assert texts(url, keys) == [*kept, "room again"]
        check_valid(url, keys)
