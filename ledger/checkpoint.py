"""A checkpoint (C2SP tlog-checkpoint): signed, "this ledger has N entries with this root".

::

    ledger.example.com/acme
    256
    UuOUBrQqkQop/RG675OlFzWqbhzsnwl6wtX7Y/x6+Zg=

    — ledger.example.com/acme XL80FGv2kWiLOW8rSYms3Wn+//xZNr8hcSWTMqmc…

Three lines, no extension lines; the key's name is the origin. docs/spec/checkpoint.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.canonical import (
    check_name,
    format_base64,
    format_decimal,
    parse_base64,
    parse_decimal,
)
from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE
from ledger.note import Signer, VerifierKey, open_note, sign_note

__all__ = [
    "Checkpoint",
    "format_checkpoint",
    "open_checkpoint",
    "parse_checkpoint",
    "sign_checkpoint",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The ledger `origin` has `size` entries, whose tree has `root`."""

    origin: str
    size: int
    root: bytes


def format_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The text that is signed."""
    check_name(checkpoint.origin, "origin")
    if len(checkpoint.root) != HASH_SIZE:
        raise MalformedError(f"a root has {HASH_SIZE} bytes, not {len(checkpoint.root)}")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise MalformedError("a ledger without entries has the root SHA-256 of nothing")
    lines = (checkpoint.origin, format_decimal(checkpoint.size), format_base64(checkpoint.root))
    return "".join(f"{line}\n" for line in lines).encode()


def parse_checkpoint(text: bytes) -> Checkpoint:
    """The checkpoint of exactly what `format_checkpoint` writes; signatures are off already."""
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError as error:
        raise MalformedError("a checkpoint is UTF-8", where=f"byte {error.start}") from error
    if len(lines) != 4 or lines[3]:
        raise MalformedError("a checkpoint has three lines: origin, size, root")
    size, root = parse_decimal(lines[1]), parse_base64(lines[2], size=HASH_SIZE)
    checkpoint = Checkpoint(lines[0], size, root)
    format_checkpoint(
        checkpoint
    )  # the rules on origin and the empty root; the bytes are equal by now
    return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The checkpoint as a note signed by the ledger that it speaks of."""
    if signer.name != checkpoint.origin:
        raise MalformedError(f"{signer.name} does not sign for {checkpoint.origin}")
    return sign_note(format_checkpoint(checkpoint), [signer])


def open_checkpoint(data: bytes, vkey: VerifierKey) -> Checkpoint:
    """The checkpoint in `data`, signed by `vkey` and speaking of the ledger of that name."""
    checkpoint = parse_checkpoint(open_note(data, [vkey]).text)
    if checkpoint.origin != vkey.name:
        raise TamperError(
            "the checkpoint speaks of another ledger than its key",
            expected=vkey.name,
            found=checkpoint.origin,
            checkpoints=(data,),
        )
    return checkpoint
