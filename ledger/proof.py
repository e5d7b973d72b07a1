"""An inclusion proof as a file that stands alone (C2SP tlog-proof, suffix .tlog-proof).

::

    c2sp.org/tlog-proof@v1
    index 2
    FH3b9ViqAyrBNozCmqeEyq7e4a5KPVKOqAZgUp5Ga1A=
    …

    <the signed checkpoint with all its lines>

With the entry's bytes and the ledger's verifier key a stranger can check it. docs/spec/proof.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.canonical import format_base64, format_decimal, parse_base64, parse_decimal
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.errors import MalformedError
from ledger.hashing import HASH_SIZE
from ledger.merkle import check_inclusion
from ledger.note import VerifierKey

__all__ = ["PROOF_HEADER", "InclusionProof", "check_proof", "format_proof", "parse_proof"]

PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That some leaf stands at `index` of the tree of `checkpoint`, a signed note as published."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes


def format_proof(proof: InclusionProof) -> bytes:
    """The bytes of a .tlog-proof file."""
    if len(proof.hashes) > MAX_HASHES or any(len(node) != HASH_SIZE for node in proof.hashes):
        raise MalformedError(f"a proof has at most {MAX_HASHES} hashes of {HASH_SIZE} bytes")
    lines = [PROOF_HEADER, f"index {format_decimal(proof.index)}"]
    lines += [format_base64(node) for node in proof.hashes]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + proof.checkpoint


def parse_proof(data: bytes) -> InclusionProof:
    """The proof of exactly what `format_proof` writes. The checkpoint in it is not opened yet."""
    head, blank, checkpoint = data.partition(b"\n\n")
    if not blank:
        raise MalformedError("a proof is a head, a blank line and a checkpoint")
    try:
        header, index, *hashes = head.decode("ascii").split("\n")
    except ValueError as error:
        raise MalformedError("a proof begins with its version and an index") from error
    if header != PROOF_HEADER or not index.startswith("index "):
        raise MalformedError(f"a proof begins with {PROOF_HEADER!r} and an index")
    if len(hashes) > MAX_HASHES:
        raise MalformedError(f"a proof has at most {MAX_HASHES} hashes, not {len(hashes)}")
    return InclusionProof(
        parse_decimal(index.removeprefix("index ")),
        tuple(parse_base64(line, size=HASH_SIZE) for line in hashes),
        checkpoint,
    )


def check_proof(proof: InclusionProof, leaf: bytes, vkey: VerifierKey) -> Checkpoint:
    """The checkpoint under which `leaf` is proved to stand at the proof's index.

    5. The checkpoint is signed by `vkey` and speaks of its ledger (docs/spec/proof.md, rule 5).
    6. The hashes lead from the leaf to the checkpoint's root.
    """
    checkpoint = open_checkpoint(proof.checkpoint, vkey)
    check_inclusion(proof.index, checkpoint.size, leaf, proof.hashes, checkpoint.root)
    return checkpoint
