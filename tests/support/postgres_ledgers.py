"""Ledgers in PostgreSQL for tests of faults: begun, and asked what must hold afterwards."""

from __future__ import annotations

from pathlib import Path

from ledger.audit import verify_url
from ledger.guard import Guard
from ledger.keys import GUARD_FILE, load_vkey
from ledger.opening import create_ledger, open_ledger
from ledger.verdict import Verdict
from tests.support.ledgers import ORIGIN

__all__ = ["begin", "check_valid", "texts"]


def begin(url: str, keys: Path) -> None:
    """Begin a ledger with its entry 0."""
    create_ledger(url, origin=ORIGIN, keys=keys).close()


def texts(url: str, keys: Path) -> list[str]:
    """The notes that are there, in order."""
    with open_ledger(url, keys=keys, write=False) as ledger:
        notes = (record for record in ledger.reader.entries() if record.type == "note.added/1")
        return [record.data["text"] for record in notes]


def check_valid(url: str, keys: Path) -> None:
    """`verify` is content with the whole ledger and its guard."""
    report = verify_url(url, vkey=load_vkey(keys), guard=Guard(keys / GUARD_FILE))
    assert report.result is Verdict.VALID, report
