"""Receipts: what the server signed for, kept beside the spool and checkable without it.

::

    asof.verify("receipts.jsonl")                 # every receipt in the file, by the pinned key
    asof.verify(receipt, vkey="ledger.example.com/acme+5cbf3414+AQOh…")

A receipt holds the entry's bytes, a signed checkpoint, and the hashes that lead from one to the
other. Whoever keeps it can show, without asking anybody, that the ledger signed for that entry.
Everything here is Python's standard library, and shares no code with the server.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Optional, Union

from asof import ed25519
from asof.errors import UnverifiedError, VerificationError
from asof.html import table

__all__ = ["Receipt", "Verified", "check_receipt", "parse_receipts", "verify"]

ED25519_TYPE = 1
MEMBERS = {"checkpoint", "entry", "index", "leaf_hash", "proof", "v"}


@dataclass(frozen=True)
class Receipt:
    """One receipt, as the server gave it; nothing in it is checked yet."""

    index: int
    leaf_hash: str
    entry: str
    checkpoint: str
    proof: tuple[str, ...]

    @classmethod
    def from_json(cls, told: Any) -> Receipt:
        """Raises VerificationError for what is no receipt."""
        if not isinstance(told, dict) or set(told) != MEMBERS or told["v"] != 1:
            raise VerificationError("a receipt has exactly the members of version 1")
        proof = told["proof"]
        if not isinstance(proof, list) or not all(isinstance(node, str) for node in proof):
            raise VerificationError("the receipt's proof is no list of hashes")
        if type(told["index"]) is not int or not all(
            isinstance(told[name], str) for name in ("leaf_hash", "entry", "checkpoint")
        ):
            raise VerificationError("a member of the receipt has the wrong type")
        return cls(
            told["index"],
            told["leaf_hash"],
            told["entry"],
            told["checkpoint"],
            tuple(proof),
        )

    def line(self) -> str:
        """The receipt as one line of canonical JSON (docs/spec/receipt.md)."""
        told = {
            "checkpoint": self.checkpoint,
            "entry": self.entry,
            "index": self.index,
            "leaf_hash": self.leaf_hash,
            "proof": list(self.proof),
            "v": 1,
        }
        return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def _repr_html_(self) -> str:
        return table(
            "Receipt", {"entry": self.index, "leaf hash": self.leaf_hash, "says": self.entry}
        )


@dataclass(frozen=True)
class Verified:
    """What a check found: how many receipts, of which ledger, up to which size. Never more than was
    checked: `not_checked` says what a receipt alone cannot show."""

    ledger: str
    count: int
    tree_size: int
    not_checked: tuple[str, ...] = (
        "that the ledger still has these entries: ask for a consistency proof to its checkpoint "
        "of today",
        "that everybody was shown the same ledger: compare with a witness",
    )

    def _repr_html_(self) -> str:
        return table(
            "Verified",
            {
                "ledger": self.ledger,
                "receipts": self.count,
                "signed up to": self.tree_size,
                "not checked": "; ".join(self.not_checked),
            },
        )


def verify(what: Union[Receipt, str, Path], *, vkey: str) -> Verified:
    """Check a receipt, or every receipt in a file. Raises VerificationError for the first that does
    not hold, UnverifiedError where there is nothing to check. Costs about 4 ms for each checkpoint,
    of which a batch has one.
    """
    receipts = [what] if isinstance(what, Receipt) else parse_receipts(Path(what))
    if not receipts:
        raise UnverifiedError(f"{what} holds no receipt")
    sizes = [check_receipt(receipt, vkey) for receipt in receipts]
    places = {receipt.index for receipt in receipts}  # one that was answered twice counts once
    return Verified(vkey.partition("+")[0], len(places), max(sizes))


def parse_receipts(path: Path) -> list[Receipt]:
    """The receipts in a file, one a line. Raises UnverifiedError where it cannot be read,
    VerificationError for a line that is none. A last line without its newline is one that was not
    written to its end (asof.appending); it is no receipt yet.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnverifiedError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            receipt = Receipt.from_json(json.loads(line))
        except (ValueError, RecursionError):
            raise VerificationError(f"{path}, line {number}: no receipt") from None
        if receipt.line() != line:
            raise VerificationError(f"{path}, line {number}: not the canonical form of a receipt")
        found.append(receipt)
    return found


def check_receipt(receipt: Receipt, vkey: str) -> int:
    """The size of the tree that the receipt was proved in. Raises VerificationError."""
    name, public_key, key_id = _parsed_vkey(vkey)
    try:
        entry_bytes, note = receipt.entry.encode(), receipt.checkpoint.encode()
    except UnicodeEncodeError:
        raise VerificationError("the receipt's text is no UTF-8") from None
    entry = _parsed_entry(receipt.entry)
    leaf = sha256(b"\0" + entry_bytes).digest()
    _require(leaf.hex() == receipt.leaf_hash, receipt, "the leaf hash is another entry's")
    _require(entry["index"] == receipt.index, receipt, "the entry stands at another index")
    _require(entry["ledger"] == name, receipt, "the entry is of another ledger")
    _require(
        receipt.index > 0 or entry["prev"] == sha256(b"").hexdigest(),
        receipt,
        "entry 0 does not begin a ledger",
    )
    text = _signed_text(receipt, note, name, public_key, key_id)
    origin, size, root = _parsed_checkpoint(receipt, text)
    _require(origin == name, receipt, "the checkpoint is of another ledger")
    nodes = [_node(receipt, node) for node in receipt.proof]
    _require(
        _includes(receipt.index, size, leaf, nodes, root),
        receipt,
        "the proof does not lead to the signed root",
    )
    return size


def _require(holds: bool, receipt: Receipt, message: str) -> None:
    if not holds:
        raise VerificationError(f"receipt of entry {receipt.index}: {message}")


def _parsed_vkey(vkey: str) -> tuple[str, bytes, bytes]:
    name, _, rest = vkey.strip().partition("+")
    hex_id, _, encoded = rest.partition("+")
    data = _base64(encoded)
    if data is None:
        raise UnverifiedError(f"{vkey[:100]!r} is no verifier key")
    key_id = sha256(name.encode() + b"\n" + data).digest()[:4]
    if len(data) != 33 or data[0] != ED25519_TYPE or hex_id != key_id.hex() or not name:
        raise UnverifiedError(f"{vkey[:100]!r} is no verifier key for Ed25519")
    return name, data[1:], key_id


def _base64(text: str) -> Optional[bytes]:
    """The bytes, where the text is their one spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


ENTRY_MEMBERS = {
    "actor",
    "commitment",
    "index",
    "ledger",
    "prev",
    "recorded_at",
    "stream",
    "type",
    "v",
    "version",
}


def _parsed_entry(text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        raise VerificationError("the receipt's entry is no JSON") from None
    if not isinstance(entry, dict) or set(entry) != ENTRY_MEMBERS or entry["v"] != 1:
        raise VerificationError("the receipt's entry has not the members of an entry")
    again = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if again != text or type(entry["index"]) is not int:
        raise VerificationError("the receipt's entry is not in its one spelling")
    return entry


def _signed_text(
    receipt: Receipt, note: bytes, name: str, public_key: bytes, key_id: bytes
) -> bytes:
    """The checkpoint's text, once the ledger's own signature is seen to hold."""
    text, blank, lines = note.rpartition(b"\n\n")
    _require(bool(blank) and lines.endswith(b"\n"), receipt, "the checkpoint is no signed note")
    signed = text + b"\n"
    good = False
    for line in lines[:-1].decode().split("\n"):
        parts = line.split(" ")
        data = _base64(parts[2]) if len(parts) == 3 and parts[0] == "\u2014" else None
        if data is None or len(data) <= 4:
            raise VerificationError(f"receipt of entry {receipt.index}: a signature is unreadable")
        if parts[1] != name or data[:4] != key_id:
            continue  # somebody else's, such as a witness's
        _require(_verifies(public_key, signed, data[4:]), receipt, "the signature does not hold")
        good = True
    _require(good, receipt, "the checkpoint is not signed by this key")
    return signed


_verifies = lru_cache(maxsize=1024)(ed25519.verifies)
"""The receipts of a batch share a checkpoint."""


def _parsed_checkpoint(receipt: Receipt, text: bytes) -> tuple[str, int, bytes]:
    lines = text.decode().split("\n")
    _require(len(lines) == 4 and not lines[3], receipt, "a checkpoint has three lines")
    size = lines[1]
    decimal = size.isascii() and size.isdigit() and (size == "0" or size[0] != "0")
    _require(decimal and len(size) <= 19, receipt, "the checkpoint's size is no number")
    return lines[0], int(size), _node(receipt, lines[2])


def _node(receipt: Receipt, text: str) -> bytes:
    data = _base64(text)
    if data is None or len(data) != 32:
        raise VerificationError(f"receipt of entry {receipt.index}: a hash is no hash")
    return data


def _includes(index: int, size: int, leaf: bytes, proof: list[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2, in the form that counts the proof first."""
    if not 0 <= index < size:
        return False
    inner = (index ^ (size - 1)).bit_length()
    border = bin(index >> inner).count("1")
    if len(proof) != inner + border:
        return False
    found = leaf
    for level, node in enumerate(proof):
        if level < inner and not index >> level & 1:
            found = sha256(b"\1" + found + node).digest()
        else:
            found = sha256(b"\1" + node + found).digest()
    return found == root
