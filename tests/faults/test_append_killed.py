"""SIGKILL at each named point of an append, in a real process; then opened again.

Every acknowledged entry is there once, byte for byte; the same key gives the same receipt; a batch
is there as a whole or not at all. The negative control at the end shows that the harness catches a
store that acknowledges before it commits.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.store import Forecast, Head, KeyUse, Row, Tracked
from ledger.stores.sqlite import SqliteStore
from ledger.tiles import Tile
from tests.support.crashing import (
    POINTS,
    Crash,
    CrashingStore,
    Journal,
    append_until_killed,
    check_recovered,
    read_journal,
    run_child,
)
from tests.support.ledgers import sqlite_ledger, sqlite_url

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(tmp_path: Path) -> str:
    sqlite_ledger(tmp_path).close()
    return sqlite_url(tmp_path)


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(url: str, tmp_path: Path, point: str, nth: int) -> None:
    journal = append_until_killed(url, Crash(point, nth), tmp_path)
    # What is tended to is tended to behind the answer, beside which the next append may begin.
    ahead = {0, 1} if point == "tend" else {0}
    assert len(journal.tried) - nth in ahead
    assert len(journal.receipts) - (nth - 1) in ahead
    check_recovered(url, journal)
    check_recovered(url, journal)


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_several_threads_append(url: str, tmp_path: Path, point: str) -> None:
    journal = append_until_killed(url, Crash(point, 3), tmp_path, threads=4)
    check_recovered(url, journal)


def test_killed_again_after_each_recovery(url: str, tmp_path: Path) -> None:
    """The same ledger dies at one point after the other; nothing adds up to a loss."""
    known = Journal([], {})
    for point in POINTS:
        journal = append_until_killed(url, Crash(point, 1), tmp_path)
        known.tried = list(dict.fromkeys([*known.tried, *journal.tried]))
        known.receipts |= journal.receipts
        check_recovered(url, known)


def test_not_killed_everything_is_there(url: str, tmp_path: Path) -> None:
    journal = append_until_killed(url, Crash("never", 1), tmp_path, threads=3)
    assert len(journal.receipts) == len(journal.tried) == 18
    check_recovered(url, journal)


# ---------------------------------------------------------------- inside SQLite's own writes

APPENDING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.support.crashing import Crash, CrashingStore, append_all
append_all(sys.argv[2], Crash("never", 1), Path(sys.argv[3]), 1, CrashingStore)
"""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: no faults inside system calls"
)


def append_under_strace(url: str, folder: Path, inject: str) -> tuple[int, Journal]:
    call = inject.partition(":")[0]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}",
         sys.executable, "-c", APPENDING, str(CHECKOUT), url, str(folder / "journal")],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    return done.returncode, read_journal(folder / "journal")


@needs_strace
@pytest.mark.parametrize("nth", [1, 3, 4, 7, 12, 18])
def test_killed_within_a_write(url: str, tmp_path: Path, nth: int) -> None:
    """Frames of the log half written: a batch is there as a whole or not at all."""
    status, journal = append_under_strace(url, tmp_path, f"pwrite64:signal=SIGKILL:when={nth}")
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    check_recovered(url, journal)


@needs_strace
@pytest.mark.parametrize("nth", [1, 2, 5])
def test_killed_within_an_fsync(url: str, tmp_path: Path, nth: int) -> None:
    status, journal = append_under_strace(url, tmp_path, f"fdatasync:signal=SIGKILL:when={nth}")
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    check_recovered(url, journal)


@needs_strace
@pytest.mark.parametrize("nth", [3, 4])
def test_an_fsync_that_fails_once_ends_the_writer(url: str, tmp_path: Path, nth: int) -> None:
    """The next fsync would answer well and lie: so there is none, nothing is acknowledged any more,
    and what the first one left is found out by opening again. (The second is that of the folder,
    whose failure SQLite ignores.)"""
    status, journal = append_under_strace(url, tmp_path, f"fdatasync:error=EIO:when={nth}")
    assert status != 0 or len(journal.receipts) < len(journal.tried)
    assert len(journal.receipts) == len(journal.tried) - 1
    check_recovered(url, journal)


# -------------------------------------------------------------------------- negative control


class HastyStore(CrashingStore):
    """Acknowledges a group before it is committed: it commits it with the next one."""

    def __init__(self, inner: SqliteStore, crash: Crash) -> None:
        super().__init__(inner, crash)
        self._late: tuple[Any, ...] | None = None

    def head(self) -> Head | None:
        return self._late[2] if self._late is not None else self._inner.head()

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[Any]:
        with self._inner.transaction() as transaction:
            if self._late is not None:
                transaction.write(*self._late)
        self._late = None
        yield HastyTransaction(self)


class HastyTransaction:
    answer_at = None

    def __init__(self, store: HastyStore) -> None:
        self._store = store

    def wait(self) -> None:
        """It is in no hurry to know."""

    def head(self) -> Head | None:
        return self._store._inner.head()

    def stream_versions(self, streams: Sequence[str]) -> dict[str, int]:
        return {name: self._store._inner.stream_version(name) for name in streams}

    def key_uses(self, keys: Sequence[str]) -> dict[str, KeyUse]:
        return {}

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """All of them come with `write`."""

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        self._store._late = (list(rows), list(tiles), head, list(keys))


def test_the_harness_catches_a_store_that_acknowledges_before_it_commits(
    url: str, tmp_path: Path
) -> None:
    journal = append_until_killed(url, Crash("answered", 3), tmp_path, wrap=HastyStore)
    assert len(journal.receipts) == 2
    with pytest.raises(
        Exception, match=r"was acknowledged and is not there|entries .* are missing"
    ):
        check_recovered(url, journal)


def test_the_harness_notices_a_child_that_fails_otherwise() -> None:
    def fail() -> None:
        raise SystemExit

    assert run_child(fail) == 70
