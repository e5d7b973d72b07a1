"""SIGKILL at each named point between a delivery and its entries: nothing lost, nothing doubled.

The controls at the end: a spool that does not commit loses what it answered, and recording without
keys records twice. The check sees both.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ingest_killing import POINTS, Kill, KillingSpool, check_each_once, deliver_all

COUNT = 4


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path: Path, point: str, nth: int) -> None:
    assert deliver_all(tmp_path, Kill(point, nth), count=COUNT) == 1, "exactly one child died"
    check_each_once(tmp_path, COUNT)


def test_a_spool_that_does_not_commit_is_found_out(tmp_path: Path) -> None:
    class Uncommitted(KillingSpool):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._connection.execute("BEGIN")

    assert deliver_all(tmp_path, Kill("answered", 1), count=COUNT, spool=Uncommitted) == 1
    with pytest.raises(AssertionError, match="none lost"):
        check_each_once(tmp_path, COUNT)


def test_recording_without_keys_is_found_out(tmp_path: Path) -> None:
    assert deliver_all(tmp_path, Kill("appended", 2), count=COUNT, keyed=False) == 1
    with pytest.raises(AssertionError, match="each once"):
        check_each_once(tmp_path, COUNT)
