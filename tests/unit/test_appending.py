"""The checker of the crash campaigns must find each thing that it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.opening import open_ledger
from tests.support.appending import batch_of, check_journal
from tests.support.ledgers import sqlite_ledger, sqlite_url

Told = dict[str, str]


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., dict[str, int]]:
    """Append batches to a ledger and check it against what a program says that it was told: for
    each key the line that was written truthfully may be replaced."""

    def check(appended: list[str], told: Told) -> dict[str, int]:
        sqlite_ledger(tmp_path).close()
        url, keys = sqlite_url(tmp_path), tmp_path / "asof.keys"
        lines = []
        with open_ledger(url) as ledger:
            for key in appended:
                done = ledger.writer.append(batch_of(key), idempotency_key=key)
                leaves = b"".join(receipt.leaf_hash for receipt in done.receipts)
                truth = f"ack {key} {done.first_index} 0 {sha256(leaves).hexdigest()}"
                lines.append(told.get(key, truth))
        lines += [told[key] for key in told if key not in appended]
        journal = tmp_path / "journal"
        journal.write_text("".join(line + "\n" for line in lines if line))
        return check_journal(url, keys, journal)

    return check


def test_the_truth_is_accepted_and_what_is_open_is_resolved(
    check: Callable[..., dict[str, int]],
) -> None:
    told = {
        "small-0-1": "unknown small-0-1",
        "small-0-2": "failed small-0-2",
        "small-0-3": "unknown small-0-3",
        "small-0-4": "try small-0-4",
    }
    counts = check(["small-0-0", "small-0-1", "large-0-0"], told)
    assert counts == {"acknowledged": 2, "unknown": 2, "failed": 1}


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"small-0-9": f"ack small-0-9 9 0 {'0' * 64}"}, "acknowledged as entry 9"),
        ({"small-0-0": f"ack small-0-0 1 0 {'0' * 64}"}, "small-0-0"),
        ({"small-0-1": f"ack small-0-1 1 0 {'0' * 64}"}, "small-0-1"),
        ({"small-0-0": "failed small-0-0"}, "said to have failed, and is there"),
        ({"small-0-0": "failed small-0-0\nack small-0-0 1 1 0"}, "said to have failed"),
    ],
    ids=["lost", "other bytes", "another place", "failed and there", "failed and repeated"],
)
def test_each_lie_is_found(
    check: Callable[..., dict[str, int]], told: Told, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(["small-0-0", "small-0-1"], told)


def test_what_nobody_sent_is_found(check: Callable[..., dict[str, int]]) -> None:
    with pytest.raises(AssertionError, match="nobody sent"):
        check(["small-0-0"], {"small-0-0": "try small-0-7"})


def test_half_a_batch_is_found(tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as ledger:
        ledger.writer.append(batch_of("small-0-1")[:1])
    (tmp_path / "journal").write_text("unknown small-0-1\n")
    with pytest.raises(AssertionError, match="in part: 1 of 2"):
        check_journal(sqlite_url(tmp_path), tmp_path / "asof.keys", tmp_path / "journal")
