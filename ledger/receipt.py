"""What an append returns: proof that the entry is in the ledger, for the producer to keep.

::

    {"checkpoint":"ledger.example.com/acme\\n5\\n…","entry":"{\\"actor\\":…}","index":2,
     "leaf_hash":"<64 hex>","proof":["FH3b9Viq…","u98c1BLi…","i8qc2w7k…"],"v":1}     (one line)

Whoever keeps receipts can later show that an entry was removed or changed: the ledger signed for
it. A batch shares one checkpoint; the proofs are made when somebody asks for them.
docs/spec/receipt.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

from ledger.canonical import (
    MAX_SAFE_INTEGER,
    format_base64,
    format_json,
    parse_base64,
    parse_json_object,
)
from ledger.checkpoint import Checkpoint
from ledger.entry import Entry, entry_leaf, parse_entry
from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE
from ledger.merkle import BatchTree
from ledger.note import VerifierKey
from ledger.proof import MAX_HASHES, InclusionProof, check_proof

__all__ = [
    "RECEIPT_VERSION",
    "BatchReceipts",
    "Receipt",
    "Spelled",
    "check_receipt",
    "format_receipt",
    "parse_receipt",
    "spelled",
]

RECEIPT_VERSION: Final = 1
_MEMBERS: Final = frozenset(("checkpoint", "entry", "index", "leaf_hash", "proof", "v"))
_HEX_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An entry's bytes, its place, and the hashes that lead to the root of `checkpoint`."""

    index: int
    leaf_hash: bytes
    entry: bytes
    checkpoint: bytes
    hashes: tuple[bytes, ...]

    def proof(self) -> InclusionProof:
        """The same proof as a .tlog-proof has it."""
        return InclusionProof(self.index, self.hashes, self.checkpoint)


def format_receipt(receipt: Receipt) -> bytes:
    """The receipt as one line of canonical JSON, without newline."""
    if not 0 <= receipt.index <= MAX_SAFE_INTEGER:
        raise MalformedError(f"there is no entry {receipt.index}", where="/index")
    _check_hashes(receipt)
    return format_json(
        {
            "checkpoint": _text(receipt.checkpoint, "/checkpoint"),
            "entry": _text(receipt.entry, "/entry"),
            "index": int(receipt.index),
            "leaf_hash": receipt.leaf_hash.hex(),
            "proof": [format_base64(node) for node in receipt.hashes],
            "v": RECEIPT_VERSION,
        }
    )


def parse_receipt(data: bytes) -> Receipt:
    """The receipt of exactly what `format_receipt` writes; nothing in it is verified yet."""
    members = parse_json_object(data, max_depth=2)
    if members.keys() != _MEMBERS or members["v"] != RECEIPT_VERSION:
        raise MalformedError("a receipt has exactly the members of version 1")
    match members:
        case {
            "checkpoint": str(checkpoint),
            "entry": str(entry),
            "index": int(index),
            "leaf_hash": str(leaf_hash),
            "proof": list(proof),
        } if _HEX_HASH.fullmatch(leaf_hash):
            receipt = Receipt(
                index=index,
                leaf_hash=bytes.fromhex(leaf_hash),
                entry=entry.encode(),
                checkpoint=checkpoint.encode(),
                hashes=tuple(parse_base64(str(node), size=HASH_SIZE) for node in proof),
            )
        case _:
            raise MalformedError("a member of the receipt has the wrong type")
    if format_receipt(receipt) != data:
        raise MalformedError("the bytes are not the canonical form of the receipt they hold")
    return receipt


def check_receipt(receipt: Receipt, vkey: VerifierKey) -> tuple[Entry, Checkpoint]:
    """The entry and the checkpoint that the receipt proves (docs/spec/receipt.md, rules 4 to 8).

    4. The entry's bytes are an entry, in the canonical form.
    5. Its leaf hash is the receipt's.
    6. It stands at the receipt's index; entry 0 links to the empty tree.
    7. The checkpoint is signed by `vkey`, and the proof leads to its root.
    8. The entry belongs to the ledger that signed.
    """
    entry = parse_entry(receipt.entry)
    _check_same("leaf hash", receipt, entry_leaf(receipt.entry).hex(), receipt.leaf_hash.hex())
    _check_same("index", receipt, str(receipt.index), str(entry.index))
    if entry.index == 0:
        _check_same("first link", receipt, EMPTY_ROOT.hex(), entry.prev.hex())
    checkpoint = check_proof(receipt.proof(), receipt.leaf_hash, vkey)
    _check_same("ledger", receipt, checkpoint.origin, entry.ledger)
    return entry, checkpoint


def _check_same(what: str, receipt: Receipt, expected: str, found: str) -> None:
    if expected != found:
        raise TamperError(
            f"the receipt contradicts itself in the {what}",
            index=receipt.index,
            expected=expected,
            found=found,
            checkpoints=(receipt.checkpoint,),
        )


def _check_hashes(receipt: Receipt) -> None:
    if len(receipt.hashes) > MAX_HASHES:
        raise MalformedError(f"a proof has at most {MAX_HASHES} hashes", where="/proof")
    if any(len(node) != HASH_SIZE for node in (receipt.leaf_hash, *receipt.hashes)):
        raise MalformedError(f"a hash has {HASH_SIZE} bytes")


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("not valid UTF-8", where=where) from error


@dataclass(slots=True)
class Spelled:
    """The members of a receipt as they stand in JSON, but for the checkpoint; `proof` is the text
    of the list.
    """

    index: int
    leaf_hash: str
    entry: str
    proof: str


def spelled(receipts: Sequence[Receipt]) -> Iterator[Spelled]:
    """The receipts of an append, for writing them down: about 2 µs each for those of a batch that
    was just written, a tenth of making them one by one.
    """
    if isinstance(receipts, BatchReceipts):
        yield from receipts.spelled()
        return
    for one in receipts:
        proof = ",".join(f'"{format_base64(node)}"' for node in one.hashes)
        yield Spelled(one.index, one.leaf_hash.hex(), one.entry.decode(), f"[{proof}]")


class BatchReceipts(Sequence[Receipt]):
    """The receipts of consecutive entries of one batch, made one by one when they are asked for.

    `entries` are the bytes of the entries from `first_index` on; `tree` is the batch's tree, at
    whose size `checkpoint` was signed.
    """

    __slots__ = ("_checkpoint", "_entries", "_first_index", "_tree")

    def __init__(
        self, tree: BatchTree, first_index: int, entries: Sequence[bytes], checkpoint: bytes
    ) -> None:
        self._tree = tree
        self._first_index = first_index
        self._entries = entries
        self._checkpoint = checkpoint

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, position: int) -> Receipt: ...
    @overload
    def __getitem__(self, position: slice) -> list[Receipt]: ...
    def __getitem__(self, position: int | slice) -> Receipt | list[Receipt]:
        if isinstance(position, slice):
            return [self._receipt(i) for i in range(len(self))[position]]
        return self._receipt(range(len(self))[position])

    def spelled(self) -> Iterator[Spelled]:
        """All of them; see `ledger.receipt.spelled`."""
        first = self._first_index
        proofs = self._tree.map_proofs(first, first + len(self), _spell_node, "")
        for index, (entry, proof) in enumerate(zip(self._entries, proofs, strict=True), first):
            yield Spelled(index, self._tree.leaf(index).hex(), entry.decode(), f"[{proof}]")

    def _receipt(self, position: int) -> Receipt:
        index = self._first_index + position
        return Receipt(
            index=index,
            leaf_hash=self._tree.leaf(index),
            entry=self._entries[position],
            checkpoint=self._checkpoint,
            hashes=tuple(self._tree.prove_inclusion(index)),
        )


def _spell_node(node: bytes, above: str) -> str:
    return f'"{format_base64(node)}",{above}' if above else f'"{format_base64(node)}"'
