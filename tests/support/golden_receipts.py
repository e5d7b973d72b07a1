"""Checkpoints and receipts over the golden entries."""

from __future__ import annotations

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.merkle import BatchTree, Frontier
from ledger.note import VerifierKey
from ledger.receipt import BatchReceipts
from tests.support.golden import ORIGIN, golden, golden_leaves, golden_signer


def golden_vkey() -> VerifierKey:
    return golden_signer().vkey


def golden_checkpoint(size: int) -> bytes:
    """The signed checkpoint of the first `size` entries."""
    root = Frontier.empty().extended(golden_leaves()[:size]).root()
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), golden_signer())


def golden_receipts(before: int, size: int) -> BatchReceipts:
    """The receipts of entries [before, size), as if they had been one batch."""
    leaves = golden_leaves()
    tree = BatchTree(Frontier.empty().extended(leaves[:before]), leaves[before:size])
    data = [one.data for one in golden()[before:size]]
    return BatchReceipts(tree, before, data, golden_checkpoint(size))
