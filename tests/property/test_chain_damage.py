"""Whatever is put into stored rows: each damaged entry is named, and nothing crashes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import ChainChecker, check_rows
from tests.support.golden import ORIGIN, golden_leaves, golden_rows

SIZE = 40
ROWS: list[Any] = golden_rows()[:SIZE]
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.booleans()
BYTES = st.binary(max_size=40) | st.binary(min_size=32, max_size=32)
ANYTHING = st.none() | NUMBERS | BYTES | st.text(st.characters(), max_size=8)
DAMAGES = st.dictionaries(
    st.integers(0, SIZE - 1), st.tuples(st.integers(1, 9), ANYTHING), min_size=1, max_size=6
)


def with_damage(damages: dict[int, tuple[int, Any]]) -> tuple[list[Any], set[int]]:
    """The rows with columns replaced, and the indexes of those that differ now."""
    rows = list(ROWS)
    for index, (column, value) in damages.items():
        rows[index] = (*rows[index][:column], value, *rows[index][column + 1 :])
    return rows, {index for index in damages if repr(rows[index]) != repr(ROWS[index])}


@given(DAMAGES)
def test_each_damaged_entry_is_named(damages: dict[int, tuple[int, Any]]) -> None:
    rows, damaged = with_damage(damages)
    checked = check_rows(rows, ledger=ORIGIN)
    named = {finding.index for finding in checked.findings}
    assert damaged <= named
    assert named <= damaged | {index + 1 for index in damaged}
    assert len(checked.leaf_hashes) == SIZE
    assert all(isinstance(leaf, bytes) and len(leaf) == 32 for leaf in checked.leaf_hashes)


@given(DAMAGES, st.integers(1, 13))
def test_batches_make_no_difference(damages: dict[int, tuple[int, Any]], width: int) -> None:
    rows, _ = with_damage(damages)
    checker = ChainChecker(ORIGIN)
    parts = [checker.check(rows[start : start + width]) for start in range(0, SIZE, width)]
    whole = check_rows(rows, ledger=ORIGIN)
    assert [finding for part in parts for finding in part.findings] == whole.findings
    assert [leaf for part in parts for leaf in part.leaf_hashes] == whole.leaf_hashes
    assert [index for part in parts for index in part.withheld] == whole.withheld


@given(st.sets(st.integers(0, SIZE - 1), max_size=10))
def test_rows_taken_out_are_missed(gone: set[int]) -> None:
    rows = [row for row in ROWS if row[0] not in gone]
    findings = check_rows(rows, ledger=ORIGIN).findings
    after = {index for index in range(1, SIZE) if index - 1 in gone and index not in gone}
    assert {finding.index for finding in findings} == after
    assert {finding.kind for finding in findings} <= {"link"}


def test_control_without_damage_nothing_is_found() -> None:
    checked = check_rows(ROWS, ledger=ORIGIN)
    assert (checked.findings, checked.leaf_hashes) == ([], golden_leaves()[:SIZE])
