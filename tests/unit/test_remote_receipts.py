"""What a server acknowledged is of what was sent, and signed by the pinned key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.remote.receipts import check_appended
from ledger.draft import Draft
from ledger.errors import TamperError
from ledger.group import Appended
from ledger.keys import load_vkey
from ledger.note import VerifierKey
from ledger.opening import Ledger, create_ledger
from tests.support.ledgers import notes

ORIGIN = "ledger.example.com/acme"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, VerifierKey]]:
    folder = tmp_path_factory.mktemp("receipts")
    with create_ledger(f"sqlite:///{folder}/asof.db", origin=ORIGIN, keys=folder / "k") as made:
        yield made, load_vkey(folder / "k")


def another_key(folder: Path) -> VerifierKey:
    create_ledger(f"sqlite:///{folder}/b.db", origin=ORIGIN, keys=folder / "b").close()
    return load_vkey(folder / "b")


def test_a_good_answer_is_taken(ledger: tuple[Ledger, VerifierKey]) -> None:
    made, vkey = ledger
    drafts = notes(3)
    appended = made.writer.append(drafts)
    check_appended(appended, drafts)
    check_appended(appended, drafts, vkey)


def _moved(appended: Appended, drafts: list[Draft]) -> Appended:
    return replace(appended, first_index=appended.first_index + 1)


def _short(appended: Appended, drafts: list[Draft]) -> Appended:
    return replace(appended, receipts=appended.receipts[:1])


def _other_stream(appended: Appended, drafts: list[Draft]) -> Appended:
    drafts[1] = drafts[1]._replace(stream="note/elsewhere")
    return appended


def _other_type(appended: Appended, drafts: list[Draft]) -> Appended:
    drafts[0] = drafts[0]._replace(type="tag.set/1")
    return appended


def _no_entry(appended: Appended, drafts: list[Draft]) -> Appended:
    first, *rest = appended.receipts
    return replace(appended, receipts=[replace(first, entry=b"{}"), *rest])


@pytest.mark.parametrize("change", [_moved, _short, _other_stream, _other_type, _no_entry])
def test_an_answer_about_something_else_is_not(
    ledger: tuple[Ledger, VerifierKey], change: Callable[[Appended, list[Draft]], Appended]
) -> None:
    drafts = notes(3)
    appended = ledger[0].writer.append(drafts)
    changed = change(appended, drafts)
    with pytest.raises(TamperError):
        check_appended(changed, drafts)


def test_a_key_that_did_not_sign_it_is_noticed(
    ledger: tuple[Ledger, VerifierKey], tmp_path: Path
) -> None:
    drafts = notes(1)
    appended = ledger[0].writer.append(drafts)
    with pytest.raises(
        TamperError, match=r"^entry \d+: its receipt does not hold: no signature by a known key"
    ):
        check_appended(appended, drafts, another_key(tmp_path))


def test_a_signature_without_its_proof_is_not_enough(ledger: tuple[Ledger, VerifierKey]) -> None:
    made, vkey = ledger
    drafts = notes(2)
    appended = made.writer.append(drafts)
    first, second = appended.receipts
    forged = [replace(first, hashes=second.hashes), second]
    with pytest.raises(TamperError):
        check_appended(replace(appended, receipts=forged), drafts, vkey)
