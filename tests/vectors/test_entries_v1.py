"""vectors/entries_v1.json, made by a separate implementation: 600 entries and what follows."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.chain import ChainHead, check_link, check_rows
from ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from ledger.commitment import check_commitment
from ledger.entry import parse_entry
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import (
    Frontier,
    check_consistency,
    check_inclusion,
    prove_consistency,
    prove_inclusion,
    root_at,
)
from ledger.note import format_vkey, parse_vkey
from ledger.tiles import TileBuilder, format_bundle, format_tile_path, parse_bundle
from tests.support.golden import (
    ALL_LEAVES,
    ORIGIN,
    SEED,
    TEXT,
    TYPES,
    golden,
    golden_leaves,
    golden_rows,
    golden_signer,
    nodes_over,
)


@pytest.fixture(scope="module")
def vectors(shared_vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared_vectors / "entries_v1.json").read_text("utf-8"))
    return loaded


def test_all_leaf_hashes_by_rule() -> None:
    assert sha256(b"".join(golden_leaves())).hexdigest() == ALL_LEAVES


def test_rule_and_constants_are_those_of_the_file(vectors: dict[str, Any]) -> None:
    assert vectors["all_leaf_hashes_sha256"] == ALL_LEAVES
    assert (vectors["origin"], bytes.fromhex(vectors["seed_hex"])) == (ORIGIN, SEED)
    assert (vectors["generator"]["TEXT"], vectors["generator"]["type"]) == (TEXT, list(TYPES))


def test_listed_entries_byte_for_byte(vectors: dict[str, Any]) -> None:
    assert vectors["entries"]
    for listed in vectors["entries"]:
        ours = golden()[listed["index"]]
        assert ours.salt == b64decode(listed["salt"])
        assert ours.payload == b64decode(listed["payload"])
        assert ours.data == b64decode(listed["entry"])
        assert ours.leaf.hex() == listed["leaf_hash"]


def test_every_entry_parses_and_commits() -> None:
    for one in golden():
        assert parse_entry(one.data) == one.entry
        check_commitment(one.entry.commitment, one.salt, one.payload)


def test_the_chain_holds_from_bytes_and_from_rows() -> None:
    head = ChainHead()
    for one in golden():
        entry, head = check_link(head, one.data, ledger=ORIGIN)
        assert entry == one.entry
    checked = check_rows(golden_rows(), ledger=ORIGIN, prev=EMPTY_ROOT, start=0)
    assert (checked.findings, checked.withheld) == ([], [])
    assert checked.leaf_hashes == golden_leaves()


def test_roots(vectors: dict[str, Any]) -> None:
    leaves = golden_leaves()
    nodes = nodes_over(leaves)
    for size, root in vectors["roots"].items():
        assert Frontier.empty().extended(leaves[: int(size)]).root() == b64decode(root)
        assert root_at(int(size), nodes) == b64decode(root)


def test_vkey_and_checkpoints(vectors: dict[str, Any]) -> None:
    signer = golden_signer()
    assert format_vkey(signer.vkey) == vectors["vkey"]
    for size, note in vectors["checkpoints"].items():
        checkpoint = Checkpoint(ORIGIN, int(size), b64decode(vectors["roots"][size]))
        assert sign_checkpoint(checkpoint, signer) == note.encode()
        assert open_checkpoint(note.encode(), parse_vkey(vectors["vkey"])) == checkpoint


def test_inclusion_proofs(vectors: dict[str, Any]) -> None:
    leaves = golden_leaves()
    nodes = nodes_over(leaves)
    for case in vectors["inclusion"]:
        proof = [b64decode(node) for node in case["proof"]]
        assert prove_inclusion(case["index"], case["size"], nodes) == proof
        root = root_at(case["size"], nodes)
        check_inclusion(case["index"], case["size"], leaves[case["index"]], proof, root)


def test_consistency_proofs(vectors: dict[str, Any]) -> None:
    nodes = nodes_over(golden_leaves())
    for case in vectors["consistency"]:
        size1, size2 = case["from"], case["to"]
        proof = [b64decode(node) for node in case["proof"]]
        assert prove_consistency(size1, size2, nodes) == proof
        check_consistency(size1, size2, proof, root_at(size1, nodes), root_at(size2, nodes))


def test_tiles_and_bundle(vectors: dict[str, Any]) -> None:
    builder, tiles = TileBuilder.empty().extended(golden_leaves())
    found = {format_tile_path(tile.level, tile.n): tile.data for tile in tiles}
    for level, row in enumerate(builder.rows):
        n = 600 >> (8 * (level + 1))
        found[format_tile_path(level, n, len(row) // 32)] = row
    for name, digest in vectors["tiles_sha256"].items():
        path = "tile/" + name.removesuffix(" (full)")
        assert sha256(found[path]).hexdigest() == digest
    bundle = format_bundle([one.data for one in golden()[512:]])
    assert sha256(bundle).hexdigest() == vectors["entry_bundle_002_p_88_sha256"]
    assert parse_bundle(bundle) == [one.data for one in golden()[512:]]
