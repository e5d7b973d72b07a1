"""transparency-dev/merkle's test data: 196 proofs, most of which must be refused."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import MalformedError, TamperError
from ledger.merkle import check_consistency, check_inclusion


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / name).read_text("utf-8"))["cases"]
    return loaded


def check(case: dict[str, Any]) -> None:
    proof = [b64decode(node) for node in case["proof"] or []]
    if "leafIdx" in case:
        leaf, root = b64decode(case["leafHash"]), b64decode(case["root"])
        check_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)
    else:
        root1, root2 = b64decode(case["root1"]), b64decode(case["root2"])
        check_consistency(case["size1"], case["size2"], proof, root1, root2)


def is_refused(case: dict[str, Any]) -> bool:
    try:
        check(case)
    except (MalformedError, TamperError):
        return True
    return False


def test_every_case_has_the_expected_verdict(shared_vectors: Path) -> None:
    every = cases(shared_vectors, "merkle_inclusion.json")
    every += cases(shared_vectors, "merkle_consistency.json")
    wrong = [case["name"] for case in every if is_refused(case) != case["wantErr"]]
    assert len(every) == 196
    assert wrong == []
    assert {case["wantErr"] for case in every} == {True, False}


@pytest.mark.parametrize("name", ["merkle_inclusion.json", "merkle_consistency.json"])
def test_a_verdict_turned_round_is_noticed(shared_vectors: Path, name: str) -> None:
    good = next(
        case for case in cases(shared_vectors, name) if not case["wantErr"] and case["proof"]
    )
    flipped = bytearray(b64decode(good["proof"][0]))
    flipped[0] ^= 1
    with pytest.raises(TamperError):
        check({**good, "proof": [b64encode(flipped), *good["proof"][1:]]})
