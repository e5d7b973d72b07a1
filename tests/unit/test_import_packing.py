"""A batch as bytes and back: the same, or refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from api import importing
from api.event_files import JsonLines
from api.import_packing import packed, unpacked
from api.importing import append_events, check_events
from ledger.batch import Batch, prepare_batch
from ledger.draft import Draft
from ledger.errors import StoreError
from tests.support.ledgers import SettableClock, seeded, sqlite_ledger

LINE = b'{"type":"note.added/1","stream":"note/x","data":{"text":"go"}}\n'


def batch(count: int = 3) -> Batch:
    drafts = [
        Draft("note.added/1", f"note/{n % 2}", "user:7", b'{"text":"\xc3\xa4"}', n if n else None)
        for n in range(count)
    ]
    return prepare_batch(drafts, key="k", entropy=seeded())


@pytest.mark.parametrize("count", [1, 3, 1_000])
def test_the_same_comes_back(count: int) -> None:
    back = unpacked(packed(batch(count)), key="k")
    assert back == batch(count)
    assert {type(draft) for draft in back.drafts} == {Draft}
    assert back.is_body_of(back.digest, back.salts[0])


def test_one_changed_byte_is_refused() -> None:
    whole = packed(batch())
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x20
        with pytest.raises(StoreError, match="was changed before it was appended"):
            unpacked(bytes(changed), key="k")
    with pytest.raises(StoreError):
        unpacked(whole[:-1], key="k")


def test_a_disk_that_changes_what_waits_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rotten(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data).replace(b'{"text":"go"}', b'{"text":"no"}'))

    monkeypatch.setattr(importing, "TemporaryFile", lambda prefix: Rotten())

    def silent(done: int, total: int | None) -> None:
        """Nobody looks."""

    with sqlite_ledger(tmp_path) as ledger:
        events = JsonLines(io.BytesIO(LINE * 3))
        checked = check_events(events, actor="user:7", clock=SettableClock(), progress=silent)
        with checked, pytest.raises(StoreError, match="run the same import again"):
            append_events(ledger.writer, checked.pieces(), progress=silent)
        assert ledger.reader.size() == 1
