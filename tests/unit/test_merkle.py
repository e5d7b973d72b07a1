"""merkle: what is refused as nonsense, what is evidence, and what the evidence says."""

from __future__ import annotations

import threading

import pytest

from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, leaf_hash, node_hash
from ledger.merkle import (
    BatchTree,
    Frontier,
    check_consistency,
    check_inclusion,
    prove_consistency,
    prove_inclusion,
    root_at,
)
from tests.support import reference_tree as reference
from tests.support.golden import nodes_over

LEAVES = reference.leaves(9)
ROOT = reference.root(LEAVES)
NODES = nodes_over(LEAVES)


def test_hashes_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (
        leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert node_hash(LEAVES[0], LEAVES[1]) == reference.node(LEAVES[0], LEAVES[1])
    assert HASH_SIZE == len(EMPTY_ROOT) == 32


def test_empty() -> None:
    assert Frontier.empty().root() == root_at(0, NODES) == EMPTY_ROOT
    assert Frontier.empty().extended([]) == Frontier.empty()


def test_a_frontier_is_not_changed_by_extending() -> None:
    frontier = Frontier.empty().extended(LEAVES[:5])
    assert frontier.extended(LEAVES[5:]).root() == ROOT
    assert frontier == Frontier.empty().extended(LEAVES[:5])


@pytest.mark.parametrize(
    ("size", "edge"), [(-1, ()), (1, ()), (2, (ROOT, ROOT)), (1, (b"short",)), (0, (ROOT,))]
)
def test_no_such_frontier(size: int, edge: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError):
        Frontier(size, edge)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_no_such_leaf(index: int, size: int) -> None:
    with pytest.raises(MalformedError, match="there is no leaf"):
        prove_inclusion(index, size, NODES)
    with pytest.raises(MalformedError, match="there is no leaf"):
        check_inclusion(index, size, LEAVES[0], [], ROOT)


@pytest.mark.parametrize(("size1", "size2"), [(0, 0), (0, 5), (6, 5), (-1, 5)])
def test_no_such_consistency(size1: int, size2: int) -> None:
    with pytest.raises(MalformedError, match="can be shown to begin"):
        prove_consistency(size1, size2, NODES)
    with pytest.raises(MalformedError, match="can be shown to begin"):
        check_consistency(size1, size2, [], ROOT, ROOT)


def test_inclusion_says_what_was_expected_and_found() -> None:
    proof = prove_inclusion(3, 9, NODES)
    with pytest.raises(TamperError) as caught:
        check_inclusion(3, 9, LEAVES[3], proof, EMPTY_ROOT)
    assert (caught.value.index, caught.value.expected) == (3, EMPTY_ROOT.hex())
    assert caught.value.found == ROOT.hex()


@pytest.mark.parametrize("size1", [3, 4])
def test_consistency_says_which_root_differs(size1: int) -> None:
    proof, root1 = prove_consistency(size1, 9, NODES), root_at(size1, NODES)
    with pytest.raises(TamperError, match="another root of the tree of 9") as caught:
        check_consistency(size1, 9, proof, root1, EMPTY_ROOT)
    assert caught.value.expected == EMPTY_ROOT.hex()
    with pytest.raises(TamperError):
        check_consistency(size1, 9, proof, EMPTY_ROOT, ROOT)
    with pytest.raises(TamperError, match="another root of the tree of 9"):
        check_consistency(9, 9, [], ROOT, EMPTY_ROOT)


def test_lengths() -> None:
    proof = prove_inclusion(3, 9, NODES)
    with pytest.raises(MalformedError, match="must have 4 hashes, it has 3"):
        check_inclusion(3, 9, LEAVES[3], proof[:-1], ROOT)
    with pytest.raises(MalformedError, match="32 bytes"):
        check_inclusion(3, 9, LEAVES[3][:-1], proof, ROOT)
    with pytest.raises(MalformedError, match="32 bytes"):
        check_inclusion(3, 9, LEAVES[3], [*proof[:-1], b""], ROOT)
    with pytest.raises(MalformedError, match="must have 0 hashes"):
        check_consistency(9, 9, proof, ROOT, ROOT)
    with pytest.raises(MalformedError, match="must have"):
        check_consistency(3, 9, [], ROOT, ROOT)
    with pytest.raises(MalformedError, match="32 bytes"):
        check_consistency(3, 9, [b"x"] * 5, ROOT, ROOT)


@pytest.mark.parametrize("index", [4, 9, -1])
def test_a_batch_knows_its_own_entries_only(index: int) -> None:
    tree = BatchTree(Frontier.empty().extended(LEAVES[:5]), LEAVES[5:])
    with pytest.raises(MalformedError, match="not in the batch"):
        tree.prove_inclusion(index)
    with pytest.raises(MalformedError, match="not in the batch"):
        tree.leaf(index)
    with pytest.raises(MalformedError, match="not in the batch"):
        tree.map_proofs(min(index, 5), max(index + 1, 9), lambda node, above: above, b"")


def test_a_batch_asked_by_many_threads_at_once() -> None:
    leaves = reference.leaves(300)
    tree = BatchTree(Frontier.empty().extended(leaves[:13]), leaves[13:])
    expected = [reference.path(index, leaves) for index in range(13, 300)]
    found: list[list[list[bytes]]] = []

    def ask() -> None:
        found.append([tree.prove_inclusion(index) for index in range(13, 300)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_node_reader_refuses_what_the_tree_has_not() -> None:
    for level, index in [(0, 9), (3, 1), (4, 0), (-1, 0), (0, -1)]:
        with pytest.raises(MalformedError, match="has no node"):
            NODES(level, index)
