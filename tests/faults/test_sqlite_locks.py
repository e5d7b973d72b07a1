"""Two processes that write to one file, of which one is killed (ledger/stores/held.py)."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger.errors import StoreError, TamperError
from ledger.opening import create_ledger, open_ledger
from ledger.stores.held import hold
from ledger.stores.sqlite import SqliteStore
from tests.support.ledgers import notes

FIRST = """
import os, subprocess, sys
from pathlib import Path
from ledger.opening import open_ledger
from ledger.stores.sqlite import SqliteStore
from tests.support.ledgers import notes

url, path, second, how = sys.argv[1:]
ledger = open_ledger(url)
SqliteStore.open(Path(path), write=False).close()
if how == "careless":
    open(path, "rb").close()
subprocess.run([sys.executable, "-c", second, url], check=True)
print(ledger.writer.append(notes(1)).first_index, flush=True)
os._exit(9)
"""

SECOND = """
import sys
from ledger.opening import open_ledger
from tests.support.ledgers import notes

with open_ledger(sys.argv[1]) as ledger:
    ledger.writer.append(notes(1))
"""


def acknowledged_and_kept(path: Path, how: str) -> tuple[int, int]:
    """The entry that was acknowledged to a process that then dies, and the entries there are."""
    url = f"sqlite:///{path}"
    with create_ledger(url) as ledger:
        ledger.writer.append(notes(3))
    command = [sys.executable, "-c", FIRST, url, str(path), SECOND, how]
    died = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert died.returncode == 9, died.stderr
    with open_ledger(url, write=False) as ledger:
        return int(died.stdout), ledger.reader.size()


def test_what_one_of_two_writers_acknowledged_outlives_it(tmp_path: Path) -> None:
    assert acknowledged_and_kept(tmp_path / "asof.db", "careful") == (5, 6)


def test_the_control_a_file_that_is_closed_costs_the_entry(tmp_path: Path) -> None:
    with pytest.raises(TamperError, match="entry 5 is missing: 6 entries were signed"):
        acknowledged_and_kept(tmp_path / "asof.db", "careless")


def test_a_file_is_held_once_and_let_go_by_the_last(tmp_path: Path) -> None:
    path = tmp_path / "asof.db"
    store = SqliteStore.create_file(path)
    with closing(store):
        first, second = hold(path), hold(path)
        assert first is second
        assert len(first.descriptors) == 1
        first.release()
        second.release()
        assert first.read(6) == b"SQLite"
    with pytest.raises(OSError, match="descriptor"):
        first.read(6)


def test_a_file_that_took_the_place_of_another_is_another(tmp_path: Path) -> None:
    path = tmp_path / "asof.db"
    path.write_bytes(b"old")
    old = hold(path)
    path.rename(tmp_path / "aside")
    path.write_bytes(b"new")
    new = hold(path)
    assert (old.read(9), new.read(9)) == (b"old", b"new")
    old.release()
    new.release()


def test_a_store_that_is_closed_does_not_look_at_its_file(tmp_path: Path) -> None:
    store = SqliteStore.create_file(tmp_path / "asof.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.check_integrity()
