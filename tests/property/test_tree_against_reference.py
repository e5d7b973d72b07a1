"""Frontier, tiles and proofs against the naive tree: all small sizes, random larger ones."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AsofError, TamperError
from ledger.merkle import (
    BatchTree,
    Frontier,
    check_consistency,
    check_inclusion,
    frontier_at,
    prove_consistency,
    prove_inclusion,
    root_at,
)
from ledger.tiles import TileBuilder, TileNodes, full_tiles_between, tile_root
from tests.support import reference_tree as reference
from tests.support.golden import nodes_over

SMALL = 70
LEAVES = reference.leaves(1500)
ROOTS = [reference.root(LEAVES[:size]) for size in range(SMALL + 1)]


@pytest.mark.parametrize("size", range(SMALL + 1))
def test_all_proofs_of_a_small_tree(size: int) -> None:
    leaves = LEAVES[:size]
    nodes = nodes_over(leaves)
    assert root_at(size, nodes) == Frontier.empty().extended(leaves).root() == ROOTS[size]
    assert frontier_at(size, nodes) == Frontier.empty().extended(leaves)
    for index in range(size):
        proof = prove_inclusion(index, size, nodes)
        assert proof == reference.path(index, leaves)
        check_inclusion(index, size, leaves[index], proof, ROOTS[size])
    for earlier in range(1, size + 1):
        proof = prove_consistency(earlier, size, nodes)
        assert proof == reference.proof(earlier, leaves)
        check_consistency(earlier, size, proof, ROOTS[earlier], ROOTS[size])


@pytest.mark.parametrize("before", range(0, 40))
def test_a_batch_proves_itself(before: int) -> None:
    frontier = Frontier.empty().extended(LEAVES[:before])
    for count in range(1, 20):
        size = before + count
        tree = BatchTree(frontier, LEAVES[before:size])
        assert (tree.first_index, tree.size) == (before, size)
        for index in range(before, size):
            assert tree.leaf(index) == LEAVES[index]
            assert tree.prove_inclusion(index) == reference.path(index, LEAVES[:size])
        for start in range(before, size):
            for stop in (start + 1, (start + 1 + size) // 2, size):
                mapped = tree.map_proofs(start, stop, lambda node, above: [node, *above], [])
                assert mapped == [tree.prove_inclusion(index) for index in range(start, stop)]


@given(st.lists(st.integers(0, 40), max_size=8))
def test_frontier_does_not_depend_on_the_batches(counts: list[int]) -> None:
    frontier, builder, start = Frontier.empty(), TileBuilder.empty(), 0
    for count in counts:
        frontier = frontier.extended(LEAVES[start : start + count])
        builder, _ = builder.extended(LEAVES[start : start + count])
        start += count
    assert frontier == Frontier.empty().extended(LEAVES[:start]) == builder.frontier()
    assert frontier.root() == reference.root(LEAVES[:start]) == builder.root()


@given(st.integers(0, 1200), st.integers(0, 300))
def test_tiles_of_random_sizes(before: int, count: int) -> None:
    size = before + count
    first, tiles = TileBuilder.empty().extended(LEAVES[:before])
    builder, more = first.extended(LEAVES[before:size])
    assert [(tile.level, tile.n) for tile in more] == list(full_tiles_between(before, size))
    stored = {(tile.level, tile.n): tile.data for tile in tiles + more}
    nodes = TileNodes(
        lambda level, n: stored.get((level, n)), lambda a, b: b"".join(LEAVES[a:b]), size
    )
    assert TileBuilder.at(nodes) == builder == TileBuilder.empty().extended(LEAVES[:size])[0]
    assert root_at(size, nodes) == reference.root(LEAVES[:size]) == builder.root()
    for (_, n), data in ((key, data) for key, data in stored.items() if key[0] == 0):
        assert tile_root(data) == reference.root(LEAVES[n * 256 : (n + 1) * 256])


@given(st.integers(1, 1500), st.data())
def test_proofs_of_random_sizes(size: int, data: st.DataObject) -> None:
    nodes, leaves = nodes_over(LEAVES, size), LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    assert prove_inclusion(index, size, nodes) == reference.path(index, leaves)
    earlier = data.draw(st.integers(1, size))
    assert prove_consistency(earlier, size, nodes) == reference.proof(earlier, leaves)
    assert root_at(earlier, nodes) == reference.root(LEAVES[:earlier])


def test_a_long_random_run_is_pinned() -> None:
    """One hash over the roots and proofs of 400 random questions, as the naive tree gave it."""
    source, pinned = random.Random(6962), sha256()
    for _ in range(400):
        size = source.randint(1, 1500)
        nodes = nodes_over(LEAVES, size)
        pinned.update(root_at(size, nodes))
        pinned.update(b"".join(prove_inclusion(source.randrange(size), size, nodes)))
        pinned.update(b"".join(prove_consistency(source.randint(1, size), size, nodes)))
    assert pinned.hexdigest() == "2f0aa3faf213caf78e8036079ba856a5604f4c416036d97b03449a95ec44091a"


@given(st.integers(1, 200), st.data())
def test_a_wrong_proof_is_refused(size: int, data: st.DataObject) -> None:
    """The negative control: a proof for another index, size or leaf, or with a hash changed."""
    nodes = nodes_over(LEAVES, size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = prove_inclusion(index, size, nodes), root_at(size, nodes)
    with pytest.raises(TamperError):
        check_inclusion(index, size, LEAVES[1499], proof, root)
    for other in {index ^ 1, index + 1} - {index}:
        with pytest.raises(AsofError):
            check_inclusion(other, size, LEAVES[index], proof, root)
    for place in range(len(proof)):
        changed = [*proof[:place], LEAVES[1498], *proof[place + 1 :]]
        with pytest.raises(TamperError):
            check_inclusion(index, size, LEAVES[index], changed, root)
        with pytest.raises(AsofError):
            check_inclusion(index, size, LEAVES[index], proof[:place], root)


@pytest.mark.parametrize("before", [0, 1, 7, 255, 256, 300, 511, 513, 65_535])
@pytest.mark.parametrize("count", [1, 2, 3, 255, 257, 700])
def test_a_batch_shares_its_nodes_with_frontier_and_tiles(before: int, count: int) -> None:
    """What the sequencer does: one hash a leaf serves the root, the tiles and the receipts."""
    leaves = [sha256(b"%d" % index).digest() for index in range(before + count)]
    frontier = Frontier.empty().extended(leaves[:before])
    tiles, _ = TileBuilder.empty().extended(leaves[:before])
    tree = BatchTree(frontier, leaves[before:])
    assert tree.frontier() == frontier.extended(leaves[before:])
    assert tiles.extended(leaves[before:], tree.node) == tiles.extended(leaves[before:])
