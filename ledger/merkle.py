"""The Merkle tree of RFC 6962: its right edge, its roots, its proofs.

Five leaves, and the proof that ``c`` is among them (``d``, then ``ab``, then ``e``)::

            root
           /    \\
        abcd     e          a frontier of 5 leaves keeps two hashes: abcd, e
        /  \\                (one for each 1 in the binary size, 101)
      ab    cd
     /  \\  /  \\
    a   b c   d

Nothing here reads all leaves: to append, the right edge is enough; to prove, a `NodeReader` gives
the hash of any perfect subtree, from tiles or from a batch. docs/spec/tree.md has the numbered
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias, TypeVar

from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, begin_node, node_hash

__all__ = [
    "BatchTree",
    "Frontier",
    "NodeReader",
    "check_consistency",
    "check_inclusion",
    "frontier_at",
    "prove_consistency",
    "prove_inclusion",
    "root_at",
]

T = TypeVar("T")

NodeReader: TypeAlias = Callable[[int, int], bytes]
"""``nodes(level, index)``: the hash over the 2^level leaves from index·2^level on, all present."""


# ---------------------------------------------------------------------------------- the right edge


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that must be remembered of a tree to append to it.

    `edge` has its perfect subtrees from left to right, largest first: one hash for each 1 in the
    size.
    """

    size: int
    edge: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.edge) != self.size.bit_count():
            raise MalformedError(
                f"a tree of {self.size} has another edge than {len(self.edge)} hashes"
            )
        if any(len(node) != HASH_SIZE for node in self.edge):
            raise MalformedError(f"an edge consists of hashes of {HASH_SIZE} bytes")

    @classmethod
    def empty(cls) -> Frontier:
        return cls(0, ())

    def root(self) -> bytes:
        """The tree head of these leaves; SHA-256 of nothing where there is none."""
        return _fold_edge(self.edge)

    def extended(self, leaves: Sequence[bytes]) -> Frontier:
        """The frontier with leaf hashes appended; itself unchanged. About one node hash a leaf."""
        edge = list(self.edge)
        fresh: list[bytes] = []
        nodes = list(leaves)
        level, size = 0, self.size
        while nodes:
            if (size >> level) & 1:
                nodes.insert(0, edge.pop())
            if len(nodes) & 1:
                fresh.append(nodes.pop())
            nodes = _parents(nodes)
            level += 1
        return Frontier(size + len(leaves), (*edge, *reversed(fresh)))


def _parents(nodes: Sequence[bytes]) -> list[bytes]:
    """The hashes of neighbours taken in pairs; the hot loop of every append and audit."""
    parents: list[bytes] = []
    keep, begin = parents.append, begin_node
    pairs = iter(nodes)
    for left, right in zip(pairs, pairs, strict=True):
        node = begin()
        node.update(left + right)
        keep(node.digest())
    return parents


def _fold_edge(edge: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees given from left to right, largest first."""
    if not edge:
        return EMPTY_ROOT
    root = edge[-1]
    for node in reversed(edge[:-1]):
        root = node_hash(node, root)
    return root


# ------------------------------------------------------------------------------------- to prove


def prove_inclusion(index: int, size: int, nodes: NodeReader) -> list[bytes]:
    """PATH(index, D[size]): the hashes that lead from the leaf to the root, lowest first."""
    if not 0 <= index < size:
        raise MalformedError(f"there is no leaf {index} in a tree of {size}")
    return _path(index, 0, size, nodes)


def prove_consistency(size1: int, size2: int, nodes: NodeReader) -> list[bytes]:
    """PROOF(size1, D[size2]): that the tree of `size1` is the beginning of the tree of `size2`."""
    if not 0 < size1 <= size2:
        raise MalformedError(f"no tree of {size1} can be shown to begin a tree of {size2}")
    if size1 == size2:
        return []
    shift = _trailing_zeros(size1)
    path = _path((size1 - 1) >> shift, shift, size2, nodes)
    if size1 == 1 << shift:
        return path
    return [nodes(shift, (size1 - 1) >> shift), *path]


def root_at(size: int, nodes: NodeReader) -> bytes:
    """The root of the first `size` leaves; one node for each 1 in the size."""
    return _fold_edge(_edge(0, size, nodes))


def frontier_at(size: int, nodes: NodeReader) -> Frontier:
    """The frontier of the first `size` leaves."""
    return Frontier(size, tuple(_edge(0, size, nodes)))


def _path(position: int, level: int, size: int, nodes: NodeReader) -> list[bytes]:
    """The siblings from node (level, position) up to the root of a tree of `size` leaves."""
    last = size - 1
    path = []
    while last >> level:
        sibling = _sibling(level, position, size, nodes)
        if sibling is not None:
            path.append(sibling)
        position >>= 1
        level += 1
    return path


def _sibling(level: int, position: int, size: int, nodes: NodeReader) -> bytes | None:
    """The hash over what stands beside a node; None where the tree has nothing there."""
    beside = position ^ 1
    if (beside + 1) << level <= size:
        return nodes(level, beside)
    if beside << level < size:
        return _fold_edge(_edge(beside << level, size, nodes))
    return None


def _edge(start: int, stop: int, nodes: NodeReader) -> list[bytes]:
    """The perfect subtrees of leaves [start, stop), largest first; `start` suits the largest."""
    edge = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        edge.append(nodes(level, start >> level))
        start += 1 << level
    return edge


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


# -------------------------------------------------------------------------------------- to check


def check_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Raises unless `leaf` is leaf `index` of the tree (size, root). docs/spec/tree.md, rule 8.

    MalformedError where the numbers and lengths cannot belong to a proof, TamperError where hashes
    disagree.
    """
    if not 0 <= index < size:
        raise MalformedError(f"there is no leaf {index} in a tree of {size}")
    _check_hashes(leaf, root, *proof)
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    _check_length(proof, inner + border)
    found = leaf
    for level, node in enumerate(proof[:inner]):
        found = node_hash(node, found) if index >> level & 1 else node_hash(found, node)
    for node in proof[inner:]:
        found = node_hash(node, found)
    if found != root:
        raise TamperError(
            f"the proof leads to another root of the tree of {size}",
            index=index,
            expected=root.hex(),
            found=found.hex(),
        )


def check_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """Raises unless tree (size1, root1) begins tree (size2, root2). docs/spec/tree.md, rule 9."""
    if not 0 < size1 <= size2:
        raise MalformedError(f"no tree of {size1} can be shown to begin a tree of {size2}")
    _check_hashes(*proof)
    if size1 == size2:
        _check_length(proof, 0)
        _check_root(size1, root1, root2)
        return
    shift = _trailing_zeros(size1)
    inner = ((size1 - 1) ^ (size2 - 1)).bit_length()
    border = ((size1 - 1) >> inner).bit_count()
    inner -= shift
    start = 0 if size1 == 1 << shift else 1
    _check_length(proof, start + inner + border)
    seed, path = (proof[0] if start else root1), proof[start:]
    found1, found2 = _lead(seed, path, inner, (size1 - 1) >> shift)
    _check_root(size1, root1, found1)
    _check_root(size2, root2, found2)


def _lead(seed: bytes, path: Sequence[bytes], inner: int, mask: int) -> tuple[bytes, bytes]:
    """Where a consistency proof leads: to the roots of the smaller and of the larger tree."""
    smaller = larger = seed
    for level, node in enumerate(path[:inner]):
        if mask >> level & 1:
            smaller = node_hash(node, smaller)
            larger = node_hash(node, larger)
        else:
            larger = node_hash(larger, node)
    for node in path[inner:]:
        smaller = node_hash(node, smaller)
        larger = node_hash(node, larger)
    return smaller, larger


def _check_root(size: int, expected: bytes, found: bytes) -> None:
    if expected != found:
        raise TamperError(
            f"the proof leads to another root of the tree of {size}",
            expected=expected.hex(),
            found=found.hex(),
        )


def _check_length(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise MalformedError(f"the proof must have {expected} hashes, it has {len(proof)}")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise MalformedError(f"a hash has {HASH_SIZE} bytes")


# ------------------------------------------------------------------------------- proofs of a batch


class BatchTree:
    """The tree right after a batch, known from the frontier before it and the batch alone.

    It proves the inclusion of any leaf of the batch at `size` without reading the store: a sibling
    to the left is either on the frontier or made of the batch. Nodes are made at the first
    question, one hash a leaf, and kept: the frontier after the batch, the roots of its tiles and
    the proofs of its receipts share them. Safe to share between threads.
    """

    __slots__ = ("_before", "_levels", "_lock", "leaves", "size")

    def __init__(self, before: Frontier, leaves: Sequence[bytes]) -> None:
        self._before = before
        self._levels: list[tuple[int, list[bytes]]] = []
        self._lock = Lock()
        self.leaves = leaves
        self.size = before.size + len(leaves)

    @property
    def first_index(self) -> int:
        """The index of the batch's first leaf."""
        return self._before.size

    def leaf(self, index: int) -> bytes:
        """The leaf hash of an entry of this batch."""
        self._check_index(index)
        return self.leaves[index - self._before.size]

    def prove_inclusion(self, index: int) -> list[bytes]:
        """The proof of leaf `index`, which must lie in this batch, in the tree of `size`."""
        self._check_index(index)
        return _path(index, 0, self.size, self.node)

    def map_proofs(
        self, start: int, stop: int, extend: Callable[[bytes, T], T], root: T
    ) -> list[T]:
        """What `extend` makes of the proof of each leaf `start <= index < stop` of this batch, from
        `root` downwards: `extend(sibling, above)`. Proofs share their upper ends, so for many
        leaves this costs two calls a leaf, however high the tree.
        """
        self._check_index(start)
        self._check_index(stop - 1)
        above, left = [root], 0
        for level in range((self.size - 1).bit_length() - 1, -1, -1):
            first, last = start >> level, (stop - 1) >> level
            found = []
            for position in range(first, last + 1):
                made = above[(position >> 1) - left]
                sibling = _sibling(level, position, self.size, self.node)
                found.append(made if sibling is None else extend(sibling, made))
            above, left = found, first
        return above

    def frontier(self) -> Frontier:
        """The frontier after the batch, as `Frontier.extended` gives it."""
        levels = range(self.size.bit_length() - 1, -1, -1)
        edge = (self.node(at, (self.size >> at) - 1) for at in levels if self.size >> at & 1)
        return Frontier(self.size, tuple(edge))

    def _check_index(self, index: int) -> None:
        if not self._before.size <= index < self.size:
            raise MalformedError(
                f"entry {index} is not in the batch [{self._before.size}, {self.size})"
            )

    def node(self, level: int, position: int) -> bytes:
        """A `NodeReader` of the subtrees that the batch completes, and of those left of it that the
        frontier holds.
        """
        if not self._levels:
            with self._lock:
                self._levels = self._levels or self._made_levels()
        if level < len(self._levels):
            first, nodes = self._levels[level]  # `first` is even: no sibling stands left of it
            return nodes[position - first]
        return self._edge_node(level)

    def _edge_node(self, level: int) -> bytes:
        """The frontier's subtree of 2^level leaves; as many are left of it as 1s above that bit."""
        return self._before.edge[(self._before.size >> (level + 1)).bit_count()]

    def _made_levels(self) -> list[tuple[int, list[bytes]]]:
        """For each level: where the nodes that the batch touches begin, and these nodes."""
        levels = []
        first, nodes, level = self._before.size, list(self.leaves), 0
        while nodes:
            if first & 1:
                nodes.insert(0, self._edge_node(level))
                first -= 1
            levels.append((first, nodes))
            nodes = _parents(nodes[: len(nodes) & ~1])
            first >>= 1
            level += 1
        return levels
