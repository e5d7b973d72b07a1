"""No room on the disk: nothing is acknowledged that is not kept, and writing goes on with room."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from ledger.errors import StoreError, UnknownOutcomeError
from ledger.opening import open_ledger
from tests.support.crashing import run_child
from tests.support.ledgers import SettableClock, check_whole, note, sqlite_ledger, sqlite_url


@pytest.mark.parametrize("room", [40_000, 100_000, 101_000, 200_000])
def test_disk_full(tmp_path: Path, room: int) -> None:
    """The child may grow no file beyond `room` bytes; it appends until that refuses, is then given
    room, and appends again with the same writer. What it says it appended is what is there."""
    sqlite_ledger(tmp_path).close()
    url, report = sqlite_url(tmp_path), tmp_path / "report"

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        acknowledged = []
        with open_ledger(url, clock=SettableClock()) as ledger:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            refused = None
            while refused is None:
                text = f"{len(acknowledged)} {'x' * 300}"
                try:
                    acknowledged.append(ledger.writer.append([note(text)]).first_index)
                except StoreError as exc:
                    refused = exc
            assert "disk is full or a quota" in str(refused), refused
            assert not isinstance(refused, UnknownOutcomeError)
            assert ledger.reader.size() == 1 + len(acknowledged)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            done = ledger.writer.append([note("room again")], idempotency_key="after")
            acknowledged.append(done.first_index)
        report.write_text(repr(acknowledged))

    assert run_child(work) == 0
    with open_ledger(url) as ledger:
        size = ledger.reader.size()
        assert report.read_text() == repr(list(range(1, size)))
        assert ledger.reader.entry(size - 1).data == {"text": "room again"}
        check_whole(ledger.store, ledger.reader)
    assert os.path.getsize(tmp_path / "asof.db") > 0


def test_no_room_to_begin(tmp_path: Path) -> None:
    """A beginning that fails for lack of room is finished later; it never looks like a ledger."""

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(StoreError):
            sqlite_ledger(tmp_path)

    assert run_child(work) == 0
    with pytest.raises(StoreError):
        open_ledger(sqlite_url(tmp_path))
    with sqlite_ledger(tmp_path) as ledger:
        check_whole(ledger.store, ledger.reader)
