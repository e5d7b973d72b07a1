"""An export is the same whatever store it is made from, and is read with flat memory.

The same history, imported with the same salts, key and clock into each store: the folders that are
exported are alike, byte for byte, and each is verified by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from api.event_files import JsonLines
from api.importing import append_events, check_events
from ledger.audit import verify
from ledger.export import ExportFolder, export_folder
from ledger.keys import SIGNING_FILE, VKEY_FILE
from ledger.note import VerifierKey
from ledger.opening import Ledger, create_ledger
from ledger.reader import Reader
from ledger.store import Row
from ledger.tiles import TILE_WIDTH
from ledger.verdict import Verdict
from tests.support.ledgers import ORIGIN, SettableClock, seeded

EVENTS = 2_300


def ledger_at(url: str, folder: Path) -> Ledger:
    return create_ledger(
        url, origin=ORIGIN, keys=folder / "keys", clock=SettableClock(), entropy=seeded()
    )


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    url = "memory:"
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/asof.db"
    elif request.param == "postgres":
        url = request.getfixturevalue("pg_url")
    with ledger_at(url, tmp_path) as opened:
        yield opened


def history() -> BytesIO:
    return BytesIO(
        b"".join(
            json.dumps(
                {
                    "type": "note.added/1",
                    "stream": f"note/{number % 9}",
                    "effective_at": f"2024-{number % 12 + 1:02}-01T00:00:00Z",
                    "data": {"text": f"n{number} ü"},
                }
            ).encode()
            + b"\n"
            for number in range(EVENTS)
        )
    )


def imported(ledger: Ledger) -> int:
    """How many events are new."""

    def silent(done: int, total: int | None) -> None:
        """Nobody looks."""

    events = JsonLines(history())
    clock = SettableClock()
    checked = check_events(events, actor="user:7", clock=clock, entropy=seeded(), progress=silent)
    with checked:
        return append_events(ledger.writer, checked.pieces(), progress=silent).recorded


def test_an_import_is_recognised_in_each_store(ledger: Ledger) -> None:
    assert (imported(ledger), imported(ledger)) == (EVENTS, 0)
    assert ledger.reader.size() == EVENTS + 1


def test_the_folder_is_verified_by_itself(ledger: Ledger, tmp_path: Path) -> None:
    imported(ledger)
    assert export_folder(ledger.reader, tmp_path / "out") == EVENTS + 1
    folder = ExportFolder(tmp_path / "out")
    report = verify(folder, vkey=ledger.vkey)
    assert (report.result, report.entries) == (Verdict.VALID, EVENTS + 1)
    assert list(folder.rows(0, EVENTS + 1)) == list(ledger.store.rows(0, EVENTS + 1))


class Counting:
    """A source that notes how many rows it was asked for at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.most = 0

    @property
    def origin(self) -> str:
        return self._reader.origin

    @property
    def vkey(self) -> VerifierKey:
        return self._reader.vkey

    def head(self) -> Any:
        return self._reader.head()

    def nodes(self, size: int) -> Any:
        return self._reader.nodes(size)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        self.most = max(self.most, stop - start)
        return self._reader.rows(start, stop)


def test_memory_holds_one_bundle_of_entries(ledger: Ledger, tmp_path: Path) -> None:
    imported(ledger)
    source = Counting(ledger.reader)
    export_folder(source, tmp_path / "out")
    assert source.most == TILE_WIDTH


def test_all_stores_export_the_same_bytes(tmp_path: Path, pg_url: str) -> None:
    with ledger_at(f"sqlite:///{tmp_path}/asof.db", tmp_path / "file") as one:
        imported(one)
        export_folder(one.reader, tmp_path / "from_file")
    keys = tmp_path / "database" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    for name in (SIGNING_FILE, VKEY_FILE):
        data = (tmp_path / "file" / "keys" / name).read_bytes()
        (keys / name).write_bytes(data)
        (keys / name).chmod(0o600)
    with ledger_at(pg_url, tmp_path / "database") as other:
        imported(other)
        export_folder(other.reader, tmp_path / "from_database")
    assert contents(tmp_path / "from_file") == contents(tmp_path / "from_database")


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert len(files) > 20
    return files
