"""What belongs to the index's file alone; tests/contract/test_indexes.py has the rest."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import StoreError
from projections import index as index_module
from projections.index import DamagedIndexError, Index, open_index
from projections.indexing import bucket_of
from projections.state import state
from tests.support.ledgers import memory_ledger, notes
from tests.support.story import NOW, Story, story

ASKED = ("demand", "live")


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asof.db.index"


def model(told: Story, index: Index) -> str:
    return state(told.reader, index, *ASKED, now=NOW).bindings["model"].asset_version


def test_a_file_of_somebody_else_is_never_touched(told: Story, path: Path) -> None:
    for content in (b"my notes", b"SQLite format 3\x00" + bytes(200)):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="is not an index of asof"):
            open_index(path, told.reader)
        assert path.read_bytes() == content


def test_a_damaged_index_is_built_again(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedIndexError, match="delete it and ask again"):
        Index.open(path, told.reader)
    said: list[str] = []
    with closing(open_index(path, told.reader, notice=said.append)) as index:
        assert model(told, index) == "model/m@2"
    assert len(said) == 1 and "it is built again" in said[0]


def test_a_place_that_cannot_be_written(told: Story, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used: unable to open"):
        Index.open(tmp_path / "missing" / "asof.db.index", told.reader)


def test_in_memory_without_a_path(told: Story) -> None:
    with closing(open_index(None, told.reader)) as index:
        assert model(told, index) == "model/m@2"


@given(st.integers(-10, 1 << 61))
def test_a_bucket_is_the_least_power_of_two(duration: int) -> None:
    bucket = bucket_of(duration)
    if duration <= 0:
        assert bucket == -1
    else:
        assert duration <= 1 << bucket
        assert bucket == 0 or duration > 1 << (bucket - 1)


def test_nothing_is_written_where_nothing_is_new(told: Story, path: Path) -> None:
    """So that a question never waits for another process that indexes."""
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(open_index(path, told.reader)) as index:
            assert model(told, index) == "model/m@2"


def test_a_file_that_may_not_be_written(
    told: Story, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"")
    monkeypatch.setattr(index_module.os, "access", lambda *_: False)
    said: list[str] = []
    with closing(open_index(path, told.reader, notice=said.append)) as index:
        assert model(told, index) == "model/m@2"
    assert path.read_bytes() == b""
    assert "building one in memory" in said[0]


def test_several_may_come_to_a_new_file_at_once(tmp_path: Path) -> None:
    """A server's threads do: SQLite does not wait for the lock that a change of the mode needs."""
    with memory_ledger() as ledger:
        ledger.writer.append(notes(5))
        for attempt in range(10):
            path, start = tmp_path / f"{attempt}.index", threading.Barrier(6)
            sizes: list[int] = []

            def work(
                path: Path = path, start: threading.Barrier = start, sizes: Any = sizes
            ) -> None:
                start.wait()
                with closing(open_index(path, ledger.reader)) as index:
                    sizes.append(index.size())

            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sizes == [6] * 6


OPENED_AND_CLOSED = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
connection.close()
"""


def test_a_second_connection_keeps_the_locks_of_the_first(told: Story, path: Path) -> None:
    """Whoever closes a file drops the locks that its process has on it: another process would take
    itself for the last one, and remove the log that is being read here.
    """
    log = path.with_name(f"{path.name}-wal")

    def elsewhere() -> None:
        subprocess.run([sys.executable, "-c", OPENED_AND_CLOSED, str(path)], check=True, timeout=60)

    with closing(open_index(path, told.reader)), closing(open_index(path, told.reader)) as index:
        elsewhere()
        assert log.exists()
        assert model(told, index) == "model/m@2"
        with path.open("rb"):
            pass
        elsewhere()
        assert not log.exists(), "the control: a file that is closed here costs the locks"
