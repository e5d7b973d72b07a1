"""The spool of deliveries, on a real file."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.service.ingest import spool as module
from api.service.ingest.spool import Spool
from api.service.outgoing.subscriptions import Subscriptions
from ledger.errors import StoreError


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "s" / "spool.db", limit=1_000)
    yield made
    made.close()


def take(spool: Spool, delivery: str, size: int = 10, dead: str | None = None) -> bool:
    return spool.take(
        "acme", "github", delivery=delivery, actor="a", headers={}, body=b"x" * size, dead=dead
    )


def ids(spool: Spool) -> list[str]:
    return [one.delivery for one in spool.waiting(limit=100)]


def test_a_delivery_is_known_by_its_id(spool: Spool) -> None:
    assert take(spool, "1") and not take(spool, "1") and take(spool, "2")
    assert ids(spool) == ["1", "2"]
    spool.done(spool.waiting(limit=1)[0].id)
    assert ids(spool) == ["2"] and not take(spool, "1"), "known after it was recorded too"


def test_what_waits_is_bounded_and_room_is_given_back(spool: Spool, tmp_path: Path) -> None:
    assert take(spool, "1", 600)
    with pytest.raises(StoreError, match="full"):
        take(spool, "2", 401)
    assert take(spool, "3", 400)
    with pytest.raises(StoreError, match="full"):
        take(spool, "4", 1)
    assert take(spool, "5", 900, dead="no"), "what is dead does not keep others out"
    spool.done(spool.waiting(limit=1)[0].id)
    assert take(spool, "6", 600)
    spool.dead(spool.waiting(limit=1)[0].id, "no")
    assert take(spool, "7", 400)
    again = Spool(tmp_path / "s" / "spool.db", limit=1_000)
    with pytest.raises(StoreError, match="full"):
        take(again, "8", 1)
    again.close()


def test_bodies_of_the_dead_are_bounded_and_their_reasons_are_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DEAD_BYTES", 500)
    assert take(spool, "1", 400, dead="first")
    assert take(spool, "2", 101)
    spool.dead(spool.waiting(limit=1)[0].id, "second")
    first, second = spool.listed("acme", state="dead", after=0, limit=10)
    assert first["reason"] == "first"
    assert second["reason"].startswith("second (not kept: 101 bytes, sha256:")


def test_what_failed_comes_later_and_lets_others_pass(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(spool, "1")
    take(spool, "2")
    spool.later(spool.waiting(limit=1)[0].id, 60, "the store is away")
    assert ids(spool) == ["2"]
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 61)
    (first, second) = spool.waiting(limit=100)
    assert (first.delivery, first.attempts, second.delivery) == ("1", 1, "2")


def test_what_was_recorded_is_forgotten_after_a_week(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(spool, "1")
    spool.done(spool.waiting(limit=1)[0].id)
    take(spool, "2", dead="why")
    now, ran = module.time.time(), module.time.monotonic()
    monkeypatch.setattr(module.time, "time", lambda: now + module.KEPT + 5)
    monkeypatch.setattr(module.time, "monotonic", lambda: ran + module.PRUNE_SECONDS + 1)
    take(spool, "3")
    spool.done(spool.waiting(limit=1)[0].id)
    assert spool.counts() == {"waiting": 0, "dead": 1, "done": 1}
    assert take(spool, "1")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        (tmp_path / "plain.db").touch()
        kept = Spool(tmp_path / "spool.db")
        take(kept, "1")
        hooks = Subscriptions(tmp_path / "webhooks.db")
        secret = hooks.make("acme", "https://x/", "", by="u", position=0).secret
        found = sorted(path for path in tmp_path.iterdir() if path.name != "plain.db")
        assert len(found) == 6, "two files, each with its log and its index"
        assert any(secret.encode() in path.read_bytes() for path in found), "it is in one of them"
        for path in found:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert stat.S_IMODE((tmp_path / "plain.db").stat().st_mode) == 0o644, "the control"
        kept.close()
        hooks.close()
    finally:
        os.umask(before)


def test_what_cannot_be_opened_or_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database" * 100)
    for made in (Spool, Subscriptions):
        with pytest.raises(StoreError, match=r"spool\.db"):
            made(tmp_path / "spool.db")
        with pytest.raises(StoreError):
            made(tmp_path / "spool.db" / "below.db")
    kept = Spool(tmp_path / "good.db")
    other = sqlite3.connect(tmp_path / "good.db")
    other.execute("DROP TABLE delivery")
    other.close()
    with pytest.raises(StoreError, match=r"good\.db"):
        take(kept, "1")
    kept.close()
