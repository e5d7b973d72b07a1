"""The client's own check of receipts agrees with the ledger's, on good ones and on changed ones."""

from __future__ import annotations

import json

import asof
from asof.receipts import check_receipt as client_check
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedError, TamperError
from ledger.note import format_vkey
from ledger.receipt import check_receipt, format_receipt, parse_receipt
from tests.support.ledgers import memory_ledger, notes

with memory_ledger() as _ledger:
    VKEY = _ledger.vkey
    LINES = [
        format_receipt(receipt).decode()
        for count in (1, 2, 5, 9)
        for receipt in _ledger.writer.append(notes(count)).receipts
    ]


def by_the_ledger(line: str) -> bool:
    try:
        check_receipt(parse_receipt(line.encode()), VKEY)
    except (MalformedError, TamperError):
        return False
    return True


def by_the_client(line: str) -> bool:
    try:
        told = asof.Receipt.from_json(json.loads(line))
        if told.line() != line:
            return False
        client_check(told, format_vkey(VKEY))
    except (ValueError, asof.AsofError):
        return False
    return True


def test_both_accept_what_a_ledger_gave() -> None:
    assert all(by_the_ledger(line) and by_the_client(line) for line in LINES)


@given(st.sampled_from(LINES), st.data())
def test_both_say_the_same_of_a_changed_one(line: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line) - 1))
    letter = data.draw(st.sampled_from('0aA+/=\\n\u2014 "'))
    changed = line[:at] + letter + line[at + 1 :]
    assert by_the_client(changed) == by_the_ledger(changed) == (changed == line)


def test_both_refuse_another_spelling_of_the_same_bytes() -> None:
    """Base64 has bits to spare before its padding: no letter but one is the spelling."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    places = [at for at in range(1, len(LINES[-1])) if LINES[-1][at] == "=" != LINES[-1][at - 1]]
    assert len(places) >= 3
    for at in places:
        for letter in set(letters) - {LINES[-1][at - 1]}:
            changed = LINES[-1][: at - 1] + letter + LINES[-1][at:]
            assert not by_the_client(changed) and not by_the_ledger(changed)


@given(
    st.sampled_from(LINES), st.sampled_from(LINES), st.sampled_from(sorted(json.loads(LINES[0])))
)
def test_both_say_the_same_of_a_swapped_member(line: str, other: str, member: str) -> None:
    told = json.loads(line) | {member: json.loads(other)[member]}
    swapped = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert by_the_client(swapped) == by_the_ledger(swapped)
