"""The right edge of the tree: all that appending needs of what is there, kept current.

::

    edge = load_right_edge(store, head)                       # at first: some tiles
    edge = brought_to(head, edge, transaction, store)         # another process has appended since

An edge is immutable, so a failed append leaves it alone. Every way to a newer one shows that the
newer tree continues the older: signing on anything else would make a second history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.errors import TamperError
from ledger.hashing import HASH_SIZE
from ledger.merkle import Frontier, root_at
from ledger.store import AppendTransaction, Head, Store
from ledger.tiles import TileBuilder, TileNodes

__all__ = ["RightEdge", "brought_to", "load_right_edge"]

MAX_CATCH_UP: Final = 20_000
"""Leaves that are fetched to go on from an edge; beyond that the tiles cost less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RightEdge:
    """All that appending needs of what is there. Immutable: a failed append leaves it alone."""

    head: Head
    frontier: Frontier
    tiles: TileBuilder


def load_right_edge(store: Store, head: Head) -> RightEdge:
    """The right edge of the tree, made of the tiles and last leaves and compared with `head`.

    Cost: a few tiles, whatever the size. Raises: TamperError where they do not lead to the head.
    """
    if len(head.edge) != head.size.bit_count():
        raise TamperError(f"{store.url}: the head's edge is not that of {head.size} entries")
    frontier = Frontier(head.size, head.edge)
    tiles = TileBuilder.at(TileNodes(store.tile, store.leaf_hashes, head.size))
    for place, root in (("its edge leads", frontier.root()), ("the tiles lead", tiles.root())):
        if root != head.root:
            raise TamperError(
                f"{store.url}: {place} to another root of {head.size} entries than the head",
                expected=head.root.hex(),
                found=root.hex(),
                checkpoints=(head.checkpoint,),
            )
    if head.size and store.leaf_hashes(head.size - 1, head.size) != head.last_leaf:
        raise TamperError("it is not the entry that the head ends with", index=head.size - 1)
    return RightEdge(head=head, frontier=frontier, tiles=tiles)


def brought_to(
    head: Head, edge: RightEdge, transaction: AppendTransaction, store: Store
) -> RightEdge:
    """The edge at a head that another process has made since; the transaction holds the lock.

    Raises: TamperError where the head does not go on from the edge.
    """
    if head.size <= edge.head.size:
        raise TamperError(
            f"{store.url} went back while it was open",
            expected=f"at least {edge.head.size} entries",
            found=f"{head.size} entries",
            checkpoints=(edge.head.checkpoint, head.checkpoint),
        )
    found = _caught_up(edge, head, transaction)
    if found is None:
        found = load_right_edge(store, head)
        _check_continues(store, edge.head, head)
    return found


def _caught_up(edge: RightEdge, head: Head, transaction: AppendTransaction) -> RightEdge | None:
    """The edge extended by what another process appended; None where that is much, or does not lead
    to the head, so that the reason is to be looked for in the tiles."""
    missing = head.size - edge.head.size
    if missing > MAX_CATCH_UP:
        return None
    joined = transaction.leaf_hashes(edge.head.size, head.size)
    leaves = [joined[at : at + HASH_SIZE] for at in range(0, len(joined), HASH_SIZE)]
    frontier = edge.frontier.extended(leaves)
    if len(leaves) != missing or frontier.root() != head.root or frontier.edge != head.edge:
        return None
    tiles, _ = edge.tiles.extended(leaves)
    return RightEdge(head=head, frontier=frontier, tiles=tiles)


def _check_continues(store: Store, before: Head, head: Head) -> None:
    """The head may be larger and yet not go on from the one that was signed here: a standby that
    was promoted without the newest entries, and written to."""
    found = root_at(before.size, TileNodes(store.tile, store.leaf_hashes, head.size))
    if found != before.root:
        raise TamperError(
            f"{store.url}: its first {before.size} entries are not those that were there before",
            expected=before.root.hex(),
            found=found.hex(),
            checkpoints=(before.checkpoint, head.checkpoint),
        )
