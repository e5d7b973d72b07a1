"""Entries taken out of the middle of a ledger, each shown to be in the tree of a size.

::

    proved = Proved(reader, tree_size)
    for row in proved.checked(reader.rows_at([3, 17, 4711])):
        ...                                     # or TamperError: it is not what the tree holds

The root of that tree is the one that the ledger's tiles give; whoever asks has to hold it against
a signed checkpoint (`replay` does, when it has read what follows). A proof for each entry would
hash the same tile again and again. Here a tile is hashed once, and one proof shows all the tiles
under one node: a proof consists of all the other hashes of the rows of tiles that it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ledger.chain import EARLIEST, ChainChecker
from ledger.errors import TamperError
from ledger.hashing import HASH_SIZE
from ledger.merkle import check_inclusion, prove_inclusion, root_at
from ledger.tiles import TILE_WIDTH, tile_root

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.store import Row

__all__ = ["Proved"]

TILES_HELD: Final = 1_024
"""Eight kilobytes each."""


class Proved:
    """The first `size` entries, as the ledger's tree has them.

    Memory is bounded. A tile costs about 250 hashes, an entry what its check costs in a replay.
    """

    def __init__(self, reader: Reader, size: int) -> None:
        self._reader = reader
        self._size = size
        self._nodes = reader.nodes(reader.size())
        self._root = root_at(size, self._nodes)
        self._checker = ChainChecker(reader.origin)
        self._leaves = lru_cache(maxsize=TILES_HELD)(self._proved_leaves)
        self._roots = lru_cache(maxsize=TILES_HELD)(self._proved_roots)

    def checked(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows as they come, each checked before it is handed on.

        1. Payload, commitment, entry and leaf hash of the row agree. The leaf hash covers that of
        the entry before, so that one may be taken as it is stored. 2. It is the leaf hash in the
        tree.
        """
        for row in rows:
            tile, offset = divmod(row[0], TILE_WIDTH)
            leaves = self._leaves(tile)
            leaf = _hash_at(leaves, offset)
            prev = _hash_at(leaves, offset - 1) if offset else self._last_leaf(row[0])
            self._check(row, prev)
            if row[9] != leaf:
                raise TamperError(
                    "it is not the entry that the tree holds",
                    index=row[0],
                    expected=leaf.hex(),
                    found=row[9].hex(),
                )
            yield row

    def _last_leaf(self, size: int) -> bytes:
        return self._reader.chain_head(size).last_leaf

    def _check(self, row: Row, prev: bytes) -> None:
        """The chain's own check, begun at this row: nothing is asked of the rows before it."""
        checker = self._checker
        checker.index, checker.prev, checker.recorded_at = row[0], prev, EARLIEST
        for finding in checker.check([row]).findings:
            raise finding.error()

    def _proved_leaves(self, tile: int) -> bytes:
        """The leaf hashes of a tile, all those of the tree shown to be in it."""
        data = self._nodes.row(0, tile)
        if (tile + 1) * TILE_WIDTH > self._size:
            self._prove(tile * TILE_WIDTH)
            return data
        above, place = divmod(tile, TILE_WIDTH)
        expected, found = _hash_at(self._roots(above), place), tile_root(data)
        if expected != found:
            raise TamperError(
                f"tile {tile} is not the one that the tree holds",
                expected=expected.hex(),
                found=found.hex(),
            )
        return data

    def _proved_roots(self, above: int) -> bytes:
        """The roots of 256 full tiles. The proof shows all but the first, which it makes of leaves:
        `_proved_leaves` does so with every tile.
        """
        self._prove(above * TILE_WIDTH * TILE_WIDTH)
        return self._nodes.row(1, above)

    def _prove(self, index: int) -> None:
        """Every hash that stands in a row of tiles beside the way from this leaf to the root."""
        leaf = _hash_at(self._nodes.row(0, index // TILE_WIDTH), 0)
        proof = prove_inclusion(index, self._size, self._nodes)
        check_inclusion(index, self._size, leaf, proof, self._root)


def _hash_at(row: bytes, place: int) -> bytes:
    return row[place * HASH_SIZE : (place + 1) * HASH_SIZE]
