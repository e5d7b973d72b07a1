"""The comparison of acknowledgements with the ledger, which `scripts/bench api` relies on."""

from __future__ import annotations

from pathlib import Path

from ledger.events import draft
from ledger.opening import create_ledger
from scripts.benches.api_overload import lost
from scripts.benches.api_world import PRINCIPAL


def test_what_was_acknowledged_and_is_not_there_is_counted(tmp_path: Path) -> None:
    told = []
    with create_ledger(f"sqlite:///{tmp_path}/asof.db", origin="ledger.test/x") as ledger:
        for key in ("a", "b", "c"):
            event = ("note.added/1", {"text": key})
            note = draft(event, actor=PRINCIPAL, stream="note/x", now=1)
            done = ledger.writer.append([note], idempotency_key=f"http/{PRINCIPAL}/{key}")
            told.append((key, done.first_index))
        ledger.writer.append([note], idempotency_key="http/user:other/d")
        use_of, size = ledger.store.key_use, ledger.reader.size()
        assert lost(told, use_of, size) == 0
        assert lost(told, use_of, size - 2) == 1  # beyond the end
        assert lost([("a", told[1][1])], use_of, size) == 1  # another's place
        assert lost([("d", size - 1)], use_of, size) == 1  # another caller's key
        assert lost([*told, told[0]], use_of, size) == 1  # one index, told twice
        assert lost([("e", size)], use_of, size) == 1  # never written
