"""Every bit of an entry, a proof, a checkpoint, a receipt, a row flipped: noticed, no traceback.

"Noticed" means an error of our family; any other exception fails the test, and so does acceptance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ledger.chain import ChainHead, check_link, check_rows
from ledger.checkpoint import open_checkpoint
from ledger.entry import entry_leaf
from ledger.errors import AsofError, MalformedError, TamperError
from ledger.merkle import check_consistency, prove_consistency, root_at
from ledger.note import format_vkey, open_note, parse_vkey
from ledger.proof import check_proof, format_proof, parse_proof
from ledger.receipt import BatchReceipts, check_receipt, format_receipt, parse_receipt
from ledger.tiles import TILE_BYTES, TileBuilder, format_bundle, parse_bundle
from tests.support.golden import ORIGIN, golden, golden_leaves, golden_rows, nodes_over
from tests.support.golden_receipts import golden_checkpoint, golden_receipts, golden_vkey

VKEY = golden_vkey()
RECEIPTS: BatchReceipts = golden_receipts(3, 9)
RECEIPT = RECEIPTS[2]
ENTRY = golden()[5]


def flips(data: bytes) -> Iterator[bytes]:
    """`data` with each of its bits flipped, one at a time."""
    for place in range(len(data)):
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def cuts(data: bytes) -> Iterator[bytes]:
    """`data` without its end, of every length, and with something after it."""
    yield from (data[:size] for size in range(len(data)))
    yield from (data + more for more in (b"\n", b" ", b"\x00", b"}", data))


def accepted(check: Callable[[bytes], Any], changed: Iterator[bytes]) -> list[bytes]:
    """The changed bytes that `check` takes without a word."""
    taken = []
    for data in changed:
        try:
            check(data)
        except AsofError:
            continue
        taken.append(data)
    return taken


def entry_in_its_place(data: bytes) -> None:
    """What a holder of an entry does: check its form, its link, and its proof."""
    before = golden()[4]
    head = ChainHead(5, before.leaf, before.entry.recorded_at)
    check_link(head, data, ledger=ORIGIN)
    check_proof(RECEIPT.proof(), entry_leaf(data), VKEY)


CASES: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "entry": (entry_in_its_place, ENTRY.data),
    "checkpoint": (lambda data: open_checkpoint(data, VKEY), golden_checkpoint(9)),
    "note": (lambda data: open_note(data, [VKEY]), golden_checkpoint(9)),
    "proof": (
        lambda data: check_proof(parse_proof(data), ENTRY.leaf, VKEY),
        format_proof(RECEIPT.proof()),
    ),
    "receipt": (
        lambda data: check_receipt(parse_receipt(data), VKEY),
        format_receipt(RECEIPT),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_unchanged_it_is_accepted(name: str) -> None:
    """The negative control: the harness below would notice acceptance."""
    check, data = CASES[name]
    check(data)
    assert accepted(check, iter([data])) == [data]


@pytest.mark.parametrize("name", CASES)
def test_every_bit(name: str) -> None:
    check, data = CASES[name]
    assert accepted(check, flips(data)) == []


@pytest.mark.parametrize("name", CASES)
def test_every_cut(name: str) -> None:
    check, data = CASES[name]
    assert accepted(check, cuts(data)) == []


def test_every_bit_of_a_key() -> None:
    """A key changed is no key, or one that has signed nothing here."""
    note = golden_checkpoint(9)

    def check(text: bytes) -> None:
        open_note(note, [parse_vkey(text.decode("utf-8", "replace"))])

    assert accepted(check, flips(format_vkey(VKEY).encode())) == []


def test_every_bit_of_a_consistency_proof() -> None:
    nodes = nodes_over(golden_leaves())
    proof = prove_consistency(5, 13, nodes)
    root1, root2 = root_at(5, nodes), root_at(13, nodes)
    check_consistency(5, 13, proof, root1, root2)
    for place, node in enumerate(proof):
        for changed in flips(node):
            with pytest.raises(TamperError):
                check_consistency(
                    5, 13, [*proof[:place], changed, *proof[place + 1 :]], root1, root2
                )


def test_every_bit_of_every_column_of_a_row() -> None:
    """Each flip is a finding about this row: only its own, and of the right kind."""
    rows: list[Any] = golden_rows()[:8]
    kinds = {6: {"payload", "entry"}, 7: {"payload"}, 8: {"payload"}, 9: {"entry"}}
    for column, value in enumerate(rows[5]):
        for changed in column_flips(value):
            damaged = (*rows[5][:column], changed, *rows[5][column + 1 :])
            findings = check_rows([*rows[:5], damaged, *rows[6:]], ledger=ORIGIN).findings
            if column == 0:
                assert findings[0].kind == "link"
                continue
            assert {finding.kind for finding in findings} == kinds.get(column, {"entry"})
            assert {finding.index for finding in findings} == {5}


def column_flips(value: Any) -> Iterator[Any]:
    if isinstance(value, bytes):
        yield from flips(value)
    elif isinstance(value, int):
        yield from (value ^ (1 << bit) for bit in range(63))
    else:
        for data in flips(value.encode()):
            yield data.decode("utf-8", "surrogateescape")


def test_every_byte_of_a_tile_moves_the_root() -> None:
    leaves = golden_leaves()[:256]
    (tile,) = (tile for tile in TileBuilder.empty().extended(leaves)[1])
    root = TileBuilder.empty().extended(leaves)[0].root()
    for place in range(0, TILE_BYTES, 31):
        data = tile.data[:place] + bytes([tile.data[place] ^ 1]) + tile.data[place + 1 :]
        changed = [data[i : i + 32] for i in range(0, TILE_BYTES, 32)]
        assert TileBuilder.empty().extended(changed)[0].root() != root


def test_every_bit_of_a_bundle_of_entries() -> None:
    """A bundle has no checksum: what it holds is refused, or differs from what was recorded."""
    entries = [one.data for one in golden()[:3]]
    for data in flips(format_bundle(entries)):
        try:
            found = parse_bundle(data)
        except MalformedError:
            continue
        assert [entry_leaf(entry) for entry in found] != golden_leaves()[:3]
