"""A snapshot that is not as it was left, or is of another history, is not used; and says so.

docs/spec/projections.md, rules 28, 29 and 31.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NoReturn

import pytest

from ledger.entry import entry_leaf
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.store import Row
from projections.replay import replayed
from projections.snapshots import (
    Marks,
    Snapshot,
    Snapshots,
    format_snapshot,
    parse_snapshot,
)
from projections.snapshots import _digest as digest_of
from projections.state import State
from tests.support.histories import SECOND, START
from tests.support.indexes import Indexes
from tests.support.story import NOW, Story, changed, story

EVERY = 6
ASKED = ("demand", "live")


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def kept(told: Story, notices: list[str]) -> Snapshots:
    """The story's snapshots, at 6 and at 12 entries."""
    snapshots = told.index.snapshots(every=EVERY, notice=notices.append)
    replay(told, snapshots=snapshots)
    assert (snapshots.newest(), notices) == (12, [])
    return snapshots


def replay(told: Story, **how: Any) -> State:
    return replayed(told.reader, *ASKED, now=NOW, **how)


def stored(told: Story, start: int) -> tuple[int, str, str]:
    """Tree size, digest and body of the snapshot that goes on from there."""
    return told.index._tables.ask(("snapshot_from", {"start_size": start}))[0][0]


def put(told: Story, start: int, size: int, digest: str, body: str) -> None:
    with told.index._tables.writing():
        told.index._tables.add("add_snapshot", [(start, size, digest, body)])


def forged(told: Story, start: int, **changes: Any) -> None:
    """The same snapshot with other members, and with the digest that goes with them."""
    size, _, body = stored(told, start)
    data = json.dumps(json.loads(body) | changes, separators=(",", ":"), sort_keys=True)
    put(told, start, size, digest_of(data.encode()), data)


def flipped(text: str) -> Iterator[str]:
    for at, letter in enumerate(text):
        yield text[:at] + chr(ord(letter) ^ 1) + text[at + 1 :]


def test_each_byte(told: Story, kept: Snapshots, notices: list[str]) -> None:
    size, digest, body = stored(told, 6)
    expected = replay(told).as_json()
    damaged = [(digest, other) for other in flipped(body)]
    damaged += [(other, body) for other in flipped(digest)]
    assert len(damaged) == len(body) + 64 > 300
    for one in damaged:
        put(told, 6, size, *one)
        assert replay(told, snapshots=kept, verified=False).as_json() == expected
        assert notices.pop().startswith("the snapshot that goes on from entry 6 in ")
        assert notices == []


def test_the_untouched_are_used_and_read_less(
    told: Story, kept: Snapshots, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what is as it was left raises no notice, and spares the entries before it."""
    begun: list[int] = []
    rows = told.store.rows
    monkeypatch.setattr(
        told.store, "rows", lambda start, stop: begun.append(start) or rows(start, stop)
    )
    whole = replay(told).as_json()
    assert 0 in begun
    begun.clear()
    assert replay(told, snapshots=kept).as_json() == whole
    assert 0 not in begun and notices == []


def test_what_is_made_again_is_used_again(told: Story, kept: Snapshots, notices: list[str]) -> None:
    good = stored(told, 6)
    put(told, 6, *good[:2], good[2] + " ")
    replay(told, snapshots=kept)
    assert (len(notices), stored(told, 6)) == (1, good)
    replay(told, snapshots=kept)
    assert len(notices) == 1


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "form": ({"form": "asof-snapshot/2"}, "not of the form asof-snapshot/1"),
    "ledger": ({"origin": "test.example/other"}, "its ledger is another"),
    "root": ({"root": "00" * 32}, "its root is another"),
    "a root of another length": ({"root": "00"}, "its root is another"),
    "place": ({"start_size": 5}, "its place is another"),
    "size": ({"tree_size": 13}, "its place is another"),
    "nothing in it": ({"tree_size": 6}, "it adds nothing"),
    "entries of another": ({"unread": [3]}, "do not ascend, or lie outside"),
    "entries beyond": ({"ends": {"run/1": [12]}}, "do not ascend, or lie outside"),
    "entries twice": ({"unread": [7, 7]}, "do not ascend, or lie outside"),
    "no numbers": ({"unread": ["7"]}, "not of the form"),
    "no list": ({"unread": None}, "not of the form"),
    "no table": ({"scopes": []}, "not of the form"),
    "more than there is": ({"more": 1}, "not of the form"),
}


@pytest.mark.parametrize("what", WRONG)
def test_with_a_digest_that_fits(
    told: Story, kept: Snapshots, notices: list[str], what: str
) -> None:
    changes, words = WRONG[what]
    forged(told, 6, **changes)
    assert replay(told, snapshots=kept).as_json() == replay(told).as_json()
    assert len(notices) == 1 and words in notices[0]


def test_no_json(told: Story, kept: Snapshots, notices: list[str]) -> None:
    for text in ("", "[]", "{}", '{"form":'):
        put(told, 0, 6, digest_of(text.encode()), text)
        assert replay(told, snapshots=kept).as_json() == replay(told).as_json()
    assert len(notices) == 4 and all("goes on from entry 0" in text for text in notices)


def test_of_another_ledger_and_of_another_history(
    told: Story, kept: Snapshots, notices: list[str]
) -> None:
    """The same origin and as many entries, and one of them is another."""
    with story() as other:
        other.write(START + 95 * SECOND, [changed("model", "model/m@7")] * 6)
        replay(other, snapshots=other.index.snapshots(every=18))
        foreign = stored(other, 0)
    told.write(START + 95 * SECOND, [changed("model", "model/m@8")] * 6)
    put(told, 0, *foreign)
    found = replay(told, snapshots=told.index.snapshots(every=EVERY, notice=notices.append))
    assert found.bindings["model"].asset_version == "model/m@8"
    assert len(notices) == 1 and "its root is another" in notices[0]


def test_beyond_the_basis_is_no_fault(told: Story, kept: Snapshots, notices: list[str]) -> None:
    assert replay(told, basis=8, snapshots=kept).as_json() == replay(told, basis=8).as_json()
    assert replay(told, basis=5, snapshots=kept).as_json() == replay(told, basis=5).as_json()
    assert notices == []


CHANGES: dict[str, Callable[[Row], Row]] = {
    "recorded_at": lambda row: row._replace(recorded_at=row.recorded_at + 1),
    "actor": lambda row: row._replace(actor="user:eve"),
    "payload": lambda row: row._replace(payload=(row.payload or b"") + b" "),
    "leaf_hash": lambda row: row._replace(leaf_hash=bytes(32)),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("index", [3, 5, 6, 7, 10, 11])
def test_an_entry_before_the_snapshot_that_was_changed(
    told: Story, kept: Snapshots, field: str, index: int
) -> None:
    """What is used is checked, whether it is read on the way or named by a snapshot."""
    told.store._rows[index] = CHANGES[field](told.store._rows[index])
    with pytest.raises(TamperError) as caught:
        replay(told, snapshots=kept)
    assert caught.value.index is not None


def test_an_entry_that_fits_itself_and_not_the_tree(
    told: Story, kept: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewritten, with the leaf hash that its new fields give."""
    stated = told.store.leaf_hashes(0, 12)
    monkeypatch.setattr(
        told.store, "leaf_hashes", lambda start, stop: stated[start * 32 : stop * 32]
    )
    told.store._rows[7] = told.store._rows[7]._replace(actor="user:eve")
    leaf = entry_leaf(told.reader.entry_bytes(7))
    told.store._rows[7] = told.store._rows[7]._replace(leaf_hash=leaf)
    with pytest.raises(TamperError, match="not the entry that the tree holds") as caught:
        replay(told, snapshots=kept)
    assert (caught.value.index, caught.value.found) == (7, leaf.hex())


def test_what_no_question_needs_is_not_checked_but_for_evidence(
    told: Story, kept: Snapshots
) -> None:
    told.store._rows[1] = CHANGES["payload"](told.store._rows[1])
    assert replay(told, snapshots=kept).bindings["model"].asset_version == "model/m@2"
    with pytest.raises(TamperError):
        replay(told, snapshots=kept, evidence=True)


def test_evidence_begins_at_the_first_entry(
    told: Story, kept: Snapshots, notices: list[str]
) -> None:
    """A snapshot that hides an entry changes what is answered from it, and never what is proved."""
    forged(told, 6, scopes={}, unread=[])
    with pytest.raises(TamperError, match="does not agree with its entries"):
        replay(told, snapshots=kept)
    assert replay(told, snapshots=kept, evidence=True).as_json() == replay(told).as_json()
    replay(told, snapshots=kept)  # made again on the way
    assert notices == []


def test_only_what_was_verified_is_left(told: Story) -> None:
    snapshots = told.index.snapshots(every=EVERY)
    replay(told, snapshots=snapshots, verified=False)
    assert snapshots.newest() is None


@pytest.mark.parametrize("every", [0, -1])
def test_every_so_many(told: Story, every: int) -> None:
    with pytest.raises(MalformedError, match="write 1 or more"):
        told.index.snapshots(every=every)


def test_there_and_back() -> None:
    marks = Marks(scopes={"pipeline/p@s": [3, 4]}, assets={"model/é@1": [5]}, unread=[6])
    snapshot = Snapshot(origin="o", start_size=3, tree_size=7, root=bytes(32), marks=marks)
    assert parse_snapshot(format_snapshot(snapshot)) == snapshot


def test_a_rebuild_and_a_drop_take_them_away(
    told: Story, indexes: Indexes, notices: list[str]
) -> None:
    with closing(indexes.open(told.reader)) as index, closing(indexes.open(told.reader)) as other:
        index.catch_up()
        snapshots = index.snapshots(every=2, notice=notices.append)
        replay(told, snapshots=snapshots)
        assert other.snapshots().newest() == snapshots.newest() == 12
        assert other.rebuild().differing == ()
        assert other.snapshots().newest() is snapshots.newest() is None
        replay(told, snapshots=snapshots)
        assert other.snapshots().newest() == 12
        other.drop()
        assert other.snapshots().newest() is None
    assert notices == []


def test_a_place_that_fails_ends_no_replay(
    told: Story, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nothing can be kept is said once; that nothing can be read, each time."""

    def fail(*_: object) -> NoReturn:
        raise StoreError("the disk is full")

    snapshots = told.index.snapshots(every=2, notice=notices.append)
    monkeypatch.setattr(told.index._tables, "add", fail)
    assert replay(told, snapshots=snapshots).as_json() == replay(told).as_json()
    assert notices == ["no snapshot was kept: the disk is full"]
    monkeypatch.setattr(told.index._tables, "ask", fail)
    assert replay(told, snapshots=snapshots).as_json() == replay(told).as_json()
    assert len(notices) == 2 and "the disk is full" in notices[1]
    silent = told.index.snapshots(every=2)
    assert replay(told, snapshots=silent).as_json() == replay(told).as_json()
