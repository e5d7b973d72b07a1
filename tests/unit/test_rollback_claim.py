"""One executor at a time: the lock on a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.claim import claim_in
from ledger.errors import ConflictError, StoreError


def test_a_claim_excludes_another_of_the_same_rollback_only(tmp_path: Path) -> None:
    claim = claim_in(tmp_path / "locks")
    with claim("7"), claim("8"):
        with pytest.raises(ConflictError, match="rollback 7 is being run by another process"):
            with claim("7"):
                raise AssertionError("claimed twice")
    with claim("7"):
        pass


def test_a_hostile_id_stays_inside_the_folder(tmp_path: Path) -> None:
    with claim_in(tmp_path)("../../etc/passwd\n😀"):
        [lock] = tmp_path.iterdir()
        assert lock.name.startswith("rollback-") and lock.name.endswith(".lock")


def test_a_lock_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_handle: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("connectors.claim.fcntl.flock", unsupported)
    with pytest.raises(StoreError, match="No locks available"):
        with claim_in(tmp_path)("7"):
            raise AssertionError("claimed nothing")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="the lock of rollback 7 cannot be made"):
        with claim_in(tmp_path / "file")("7"):
            raise AssertionError("claimed nothing")
