"""Receipts: what the server signed for, kept beside the spool and checkable without it.

::

    asof.verify("receipts.jsonl")                 # every receipt in the file, against the pinned
    key asof.verify(receipt, vkey="ledger.example.com/acme+5cbf3414+AQOh…")

A receipt holds the entry's bytes, a signed checkpoint, and the hashes that lead from one to the
other. Whoever keeps it can show, without asking anybody, that the ledger signed for that entry.
Everything here is Python's standard library, and shares no code with the server.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Union

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
    def from_json(cls, told: dict[str, Any]) -> Receipt:
        """Raises VerificationError for what is no receipt."""
        if set(told) != MEMBERS or told["v"] != 1 or not isinstance(told["proof"], list):
            raise VerificationError("a receipt has exactly the members of version 1")
        if type(told["index"]) is not int or not all(
            isinstance(told[name], str) for name in ("leaf_hash", "entry", "checkpoint")
        ):
            raise VerificationError("a member of the receipt has the wrong type")
        return cls(
            told["index"],
            told["leaf_hash"],
            told["entry"],
            told["checkpoint"],
            tuple(str(node) for node in told["proof"]),
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
    not hold, UnverifiedError where there is nothing to check.
    """
    receipts = [what] if isinstance(what, Receipt) else parse_receipts(Path(what))
    if not receipts:
        raise UnverifiedError(f"{what} holds no receipt")
    sizes = [check_receipt(receipt, vkey) for receipt in receipts]
    return Verified(vkey.partition("+")[0], len(receipts), max(sizes))


def parse_receipts(path: Path) -> list[Receipt]:
    """The receipts in a file, one a line. Raises UnverifiedError where it cannot be read,
    VerificationError for a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnverifiedError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            receipt = Receipt.from_json(json.loads(line))
        except ValueError:
            raise VerificationError(f"{path}, line {number}: no receipt") from None
        if receipt.line() != line:
            raise VerificationError(f"{path}, line {number}: not the canonical form of a receipt")
        found.append(receipt)
    return found


def check_receipt(receipt: Receipt, vkey: str) -> int:
    """The size of the tree that the receipt was proved in. Raises VerificationError."""
    name, public_key, key_id = _parsed_vkey(vkey)
    entry = _parsed_entry(receipt.entry)
    leaf = sha256(b"\0" + receipt.entry.encode()).digest()
    _require(leaf.hex() == receipt.leaf_hash, receipt, "the leaf hash is another entry's")
    _require(entry["index"] == receipt.index, receipt, "the entry stands at another index")
    _require(entry["ledger"] == name, receipt, "the entry is of another ledger")
    _require(
        receipt.index > 0 or entry["prev"] == sha256(b"").hexdigest(),
        receipt,
        "entry 0 does not begin a ledger",
    )
    text = _signed_text(receipt, name, public_key, key_id)
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
    try:
        data = base64.b64decode(encoded, validate=True)
        key_id = bytes.fromhex(hex_id)
    except (binascii.Error, ValueError):
        raise UnverifiedError(f"{vkey[:100]!r} is no verifier key") from None
    expected = sha256(name.encode() + b"\n" + data).digest()[:4]
    if len(data) != 33 or data[0] != ED25519_TYPE or key_id != expected or not name:
        raise UnverifiedError(f"{vkey[:100]!r} is no verifier key for Ed25519")
    return name, data[1:], key_id


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
    except ValueError:
        raise VerificationError("the receipt's entry is no JSON") from None
    if not isinstance(entry, dict) or set(entry) != ENTRY_MEMBERS or entry["v"] != 1:
        raise VerificationError("the receipt's entry has not the members of an entry")
    again = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if again != text or type(entry["index"]) is not int:
        raise VerificationError("the receipt's entry is not in its one spelling")
    return entry


def _signed_text(receipt: Receipt, name: str, public_key: bytes, key_id: bytes) -> bytes:
    """The checkpoint's text, once the ledger's own signature is seen to hold."""
    text, blank, lines = receipt.checkpoint.rpartition("\n\n")
    _require(bool(blank) and lines.endswith("\n"), receipt, "the checkpoint is no signed note")
    signed = (text + "\n").encode()
    good = False
    for line in lines[:-1].split("\n"):
        parts = line.split(" ")
        _require(len(parts) == 3 and parts[0] == "\u2014", receipt, "a signature cannot be read")
        try:
            data = base64.b64decode(parts[2], validate=True)
        except binascii.Error:
            raise VerificationError("a signature cannot be read") from None
        if parts[1] != name or data[:4] != key_id:
            continue  # somebody else's, such as a witness's
        _require(
            ed25519.verifies(public_key, signed, data[4:]), receipt, "the signature does not hold"
        )
        good = True
    _require(good, receipt, "the checkpoint is not signed by this key")
    return signed


def _parsed_checkpoint(receipt: Receipt, text: bytes) -> tuple[str, int, bytes]:
    lines = text.decode().split("\n")
    _require(len(lines) == 4 and not lines[3], receipt, "a checkpoint has three lines")
    size = lines[1]
    decimal = size.isascii() and size.isdigit() and (size == "0" or size[0] != "0")
    _require(decimal, receipt, "the checkpoint's size is no number")
    return lines[0], int(size), _node(receipt, lines[2])


def _node(receipt: Receipt, text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    _require(
        len(data) == 32 and base64.b64encode(data).decode() == text, receipt, "a hash is no hash"
    )
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
