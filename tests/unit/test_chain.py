"""chain: linking, and what the streaming check says of each kind of damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger.canonical import format_time, parse_time
from ledger.chain import (
    EARLIEST,
    ChainChecker,
    ChainHead,
    Finding,
    Prepared,
    StoredRow,
    check_link,
    check_rows,
    link,
)
from ledger.commitment import commit
from ledger.entry import EntryFormatter, parse_entry
from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT
from tests.support.golden import ORIGIN, golden, golden_leaves, golden_rows

NOW = parse_time("2026-11-21T05:00:00.000000Z")
INDEX, AT, ACTOR, STREAM, TYPE, VERSION, COMMITMENT, SALT, PAYLOAD, LEAF = range(10)


def prepared(one: int) -> Prepared:
    e = golden()[one].entry
    return Prepared(e.actor, e.stream, e.type, e.version, e.commitment)


# ------------------------------------------------------------------------------------------ link


def test_link_makes_the_golden_chain() -> None:
    head, formatter = ChainHead(), EntryFormatter(ORIGIN)
    for one in golden()[:50]:
        index = one.entry.index
        linked = link(head, [prepared(index)], formatter=formatter, now=one.entry.recorded_at)
        assert linked == (index, one.entry.recorded_at, [one.data], [one.leaf])
        head = linked.head()
    assert head == (50, golden()[49].leaf, golden()[49].entry.recorded_at)


def test_a_batch_shares_its_time_which_never_goes_back() -> None:
    formatter = EntryFormatter(ORIGIN)
    first = link(ChainHead(), map(prepared, range(3)), formatter=formatter, now=NOW)
    second = link(first.head(), map(prepared, range(3, 5)), formatter=formatter, now=NOW - 10)
    entries = [parse_entry(data) for data in first.entries + second.entries]
    assert [entry.recorded_at for entry in entries] == [NOW] * 5
    assert [entry.index for entry in entries] == [0, 1, 2, 3, 4]
    assert entries[3].prev == first.leaf_hashes[-1]


def test_nothing_is_linked_under_a_bad_name() -> None:
    bad = prepared(1)._replace(stream="a\nb")
    with pytest.raises(MalformedError, match="stream: a control character"):
        link(ChainHead(), [prepared(0), bad], formatter=EntryFormatter(ORIGIN), now=NOW)


def test_check_link_says_why_an_entry_does_not_follow() -> None:
    one, two = golden()[0], golden()[1]
    entry, head = check_link(ChainHead(), one.data, ledger=ORIGIN)
    assert (entry, head.size, head.last_leaf) == (one.entry, 1, one.leaf)
    with pytest.raises(TamperError, match="entry 0: another ledger's entry"):
        check_link(ChainHead(), one.data, ledger="other")
    with pytest.raises(TamperError, match=r"another index.*expected 0, found 1"):
        check_link(ChainHead(), two.data, ledger=ORIGIN)
    with pytest.raises(TamperError, match="links to another entry") as caught:
        check_link(head._replace(last_leaf=EMPTY_ROOT), two.data, ledger=ORIGIN)
    assert (caught.value.expected, caught.value.found) == (EMPTY_ROOT.hex(), one.leaf.hex())
    with pytest.raises(TamperError, match="recorded before the entry before it"):
        check_link(head._replace(recorded_at=NOW + 10**9), two.data, ledger=ORIGIN)


# ------------------------------------------------------------------------------------ check_rows


def check(rows: list[StoredRow]) -> list[Finding]:
    return check_rows(rows, ledger=ORIGIN).findings


def damaged(index: int, column: int, value: Any) -> list[StoredRow]:
    rows: list[Any] = golden_rows()
    rows[index] = (*rows[index][:column], value, *rows[index][column + 1 :])
    return rows


def test_sound_rows_in_batches_from_anywhere() -> None:
    rows = golden_rows()
    checker = ChainChecker(ORIGIN)
    leaves: list[bytes] = []
    for start in range(0, 600, 64):
        checked = checker.check(rows[start : start + 64])
        assert checked.findings == []
        leaves += checked.leaf_hashes
    assert leaves == golden_leaves()
    assert (checker.index, checker.prev) == (600, leaves[-1])
    assert checker.recorded_at == rows[-1][AT]
    part = check_rows(
        iter(rows[300:]), ledger=ORIGIN, start=300, prev=leaves[299], recorded_at=rows[299][AT]
    )
    assert (part.findings, part.leaf_hashes) == ([], leaves[300:])


@pytest.mark.parametrize("index", [0, 1, 300, 599])
@pytest.mark.parametrize(
    ("column", "value", "kinds"),
    [
        (AT, NOW - 1, ["entry"]),
        (AT, 1 << 80, ["entry"]),
        (ACTOR, "user:mallory", ["entry"]),
        (STREAM, "", ["entry"]),
        (TYPE, "a\nb", ["entry"]),
        (VERSION, 10**6, ["entry"]),
        (COMMITMENT, bytes(32), ["payload", "entry"]),
        (SALT, bytes(16), ["payload"]),
        (SALT, bytes(15), ["payload"]),
        (SALT, None, ["payload"]),
        (PAYLOAD, b"{}", ["payload"]),
        (PAYLOAD, None, ["payload"]),
        (LEAF, bytes(32), ["entry"]),
        (LEAF, b"short", ["entry"]),
        (LEAF, None, ["entry"]),
        (ACTOR, b"bytes", ["entry"]),
        (ACTOR, None, ["entry"]),
        (VERSION, "1", ["entry"]),
        (VERSION, 0, ["entry"]),
        (COMMITMENT, b"short", ["entry"]),
        (COMMITMENT, "text", ["entry"]),
        (PAYLOAD, "text", ["entry"]),
        (SALT, 7, ["entry"]),
        (AT, "now", ["entry"]),
    ],
)
def test_one_damage_one_entry_named(index: int, column: int, value: Any, kinds: list[str]) -> None:
    findings = check(damaged(index, column, value))
    mine = [finding for finding in findings if finding.index == index]
    assert [finding.kind for finding in mine] == kinds
    assert findings == mine


def test_a_changed_leaf_hash_does_not_accuse_the_next_entry() -> None:
    findings = check(damaged(10, LEAF, bytes(32)))
    assert [(finding.kind, finding.index) for finding in findings] == [("entry", 10)]
    assert findings[0].expected == bytes(32).hex()
    assert findings[0].found == golden()[10].leaf.hex()


def test_findings_say_what_differs() -> None:
    (finding,) = check(damaged(10, PAYLOAD, b"{}"))
    assert finding.expected == golden()[10].entry.commitment.hex()
    assert finding.found == commit(golden()[10].salt, b"{}").hex()
    error = finding.error()
    assert (error.index, error.expected, error.found) == (10, finding.expected, finding.found)
    assert str(error).startswith("entry 10: the payload is not the one")
    (finding,) = check(damaged(10, ACTOR, "user:mallory"))
    assert finding.expected == golden()[10].leaf.hex()
    (finding,) = check(damaged(10, STREAM, ""))
    assert "a name has 1 to 512 bytes" in finding.message


def test_every_damaged_entry_gets_its_own_finding() -> None:
    rows: list[Any] = golden_rows()
    for index in (5, 6, 7, 100, 599):
        rows[index] = (*rows[index][:ACTOR], "user:mallory", *rows[index][ACTOR + 1 :])
    assert [finding.index for finding in check(rows)] == [5, 6, 7, 100, 599]


def test_damage_found_again_behind_a_batch_boundary() -> None:
    rows = damaged(63, LEAF, bytes(32))
    checker = ChainChecker(ORIGIN)
    findings = [
        f for start in range(0, 600, 64) for f in checker.check(rows[start : start + 64]).findings
    ]
    assert [finding.index for finding in findings] == [63]


def test_a_replaced_entry_breaks_the_link_of_the_next() -> None:
    """Entry 10 with another actor and a leaf hash made anew: only the chain can show it."""
    rows = golden_rows()
    e = golden()[10].entry
    forged = link(
        ChainHead(10, golden()[9].leaf, rows[9][AT]),
        [Prepared("user:mallory", e.stream, e.type, e.version, e.commitment)],
        formatter=EntryFormatter(ORIGIN), now=e.recorded_at,
    )  # fmt: skip
    rows[10] = (*rows[10][:ACTOR], "user:mallory", *rows[10][STREAM:LEAF], forged.leaf_hashes[0])
    assert [(finding.kind, finding.index) for finding in check(rows)] == [("entry", 11)]


Edit = Callable[[list[StoredRow]], list[StoredRow]]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda rows: rows[:5] + rows[6:], [("link", 6)]),
        (lambda rows: rows[3:], [("link", 3)]),
        (lambda rows: rows[:5] + rows[4:], [("link", 4)]),
        (lambda rows: [*rows[:4], rows[5], rows[4], *rows[6:]], [("link", 5), ("link", 4)]),
    ],
    ids=["taken out", "begins late", "twice", "swapped"],
)
def test_gaps_and_order(edit: Edit, expected: list[tuple[str, int]]) -> None:
    findings = check(edit(golden_rows()))
    assert [(finding.kind, finding.index) for finding in findings] == expected


def test_a_gap_is_told_with_its_length() -> None:
    (finding,) = check(golden_rows()[:5] + golden_rows()[8:])
    assert finding.message == "3 entries are missing before this one"
    assert (finding.expected, finding.found) == ("5", "8")


def test_a_time_that_runs_backwards_in_a_sound_chain() -> None:
    """Whoever signs can also lie about time: then the fields agree, and only the order shows it."""
    formatter, head, rows = EntryFormatter(ORIGIN), ChainHead(), list[StoredRow]()
    for i, at in enumerate([NOW, NOW + 5, NOW + 3, NOW + 5, NOW + 4]):
        event = Prepared("a", "s", "t", i + 1, commit(bytes(16), b"{}"))
        linked = link(head._replace(recorded_at=EARLIEST), [event], formatter=formatter, now=at)
        head = linked.head()
        rows.append((i, at, *event, bytes(16), b"{}", linked.leaf_hashes[0]))
    findings = check(rows)
    assert [(finding.kind, finding.index) for finding in findings] == [("link", 2), ("link", 4)]
    assert findings[0].expected == f"at or after {format_time(NOW + 5)}"
    assert findings[0].found == format_time(NOW + 3)


def test_a_row_of_which_nothing_is_left() -> None:
    rows: list[Any] = golden_rows()
    rows[10] = (10, *[None] * 9)
    checked = check_rows(rows, ledger=ORIGIN)
    assert [finding.index for finding in checked.findings] == [10, 11]
    assert checked.leaf_hashes[10] == EMPTY_ROOT


@pytest.mark.parametrize(
    ("salt", "payload", "kind"),
    [
        (lambda s, p: s, lambda s, p: p.decode(), "entry"),
        (lambda s, p: s + p[:1], lambda s, p: p[1:], "payload"),
        (lambda s, p: s[:-1], lambda s, p: s[-1:] + p, "payload"),
        (lambda s, p: b"", lambda s, p: s + p, "payload"),
        (lambda s, p: s + p, lambda s, p: None, "payload"),
        (lambda s, p: None, lambda s, p: s + p, "payload"),
    ],
    ids=["text", "longer salt", "shorter salt", "no salt", "payload in salt", "salt in payload"],
)
def test_the_same_bytes_in_another_shape(
    salt: Callable[[bytes, bytes], Any], payload: Callable[[bytes, bytes], Any], kind: str
) -> None:
    """What is hashed is salt and payload one after the other: the hash alone would see nothing."""
    rows: list[Any] = golden_rows()[:20]
    kept = (rows[10][SALT], rows[10][PAYLOAD])
    rows[10] = (*rows[10][:SALT], salt(*kept), payload(*kept), rows[10][LEAF])
    assert [(found.kind, found.index) for found in check(rows)] == [(kind, 10)]


@pytest.mark.parametrize("version", [0, -1])
def test_no_entry_has_version_zero(version: int) -> None:
    event = Prepared("a", "s", "t", version, commit(bytes(16), b"{}"))
    linked = link(ChainHead(), [event], formatter=EntryFormatter(ORIGIN), now=NOW)
    (finding,) = check([(0, NOW, *event, bytes(16), b"{}", linked.leaf_hashes[0])])
    assert (finding.kind, finding.found) == ("entry", str(version))


def test_withheld_payloads_are_listed_and_their_entries_checked() -> None:
    rows = [
        (*row[:SALT], None, None, row[LEAF]) if row[0] % 3 == 0 else row for row in golden_rows()
    ]
    checked = check_rows(rows, ledger=ORIGIN)
    assert (checked.findings, checked.withheld) == ([], list(range(0, 600, 3)))
    rows[9] = (*rows[9][:ACTOR], "user:mallory", *rows[9][STREAM:])
    checked = check_rows(rows, ledger=ORIGIN)
    assert [finding.index for finding in checked.findings] == [9]
    assert checked.withheld == list(range(0, 600, 3))


@pytest.mark.parametrize("prev", [None, b"short", "text"])
@pytest.mark.parametrize("recorded_at", [None, "now", 1 << 62])
def test_a_damaged_row_before_the_range_accuses_its_first_entry_only(
    prev: Any, recorded_at: Any
) -> None:
    checker = ChainChecker(ORIGIN, start=300, prev=prev, recorded_at=recorded_at)
    findings = checker.check(golden_rows()[300:]).findings
    assert [(finding.kind, finding.index) for finding in findings] == [("entry", 300)]


def test_rows_of_another_ledger() -> None:
    findings = check_rows(golden_rows()[:3], ledger="other.example").findings
    assert [finding.index for finding in findings] == [0, 1, 2]
