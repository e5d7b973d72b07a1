"""Two groups under way: one commits, the next is made (docs/spec/append.md, rule 4)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import ledger.sequencer as sequencing
from ledger.errors import (
    AsofError,
    ConflictError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
)
from ledger.guard import MemoryGuard
from ledger.note import Signer
from ledger.opening import _first_head
from ledger.reader import Reader
from ledger.receipt import check_receipt
from ledger.store import Tracked
from ledger.stores.memory import MemoryStore
from ledger.writer import Appended, Writer
from tests.support.ahead import AheadStore, Outcome
from tests.support.ledgers import ORIGIN, SettableClock, check_whole, note, notes, seeded

SIGNER = Signer.from_seed(ORIGIN, b"\x01" * 32)


@pytest.fixture
def store() -> AheadStore:
    return AheadStore(MemoryStore())


@pytest.fixture
def writer(store: AheadStore) -> Iterator[Writer]:
    """With the streams `note/a` and `note/b` known, at version 1; entries 0 and 1."""
    store.create(_first_head(SIGNER))
    with Writer(
        store, SIGNER, guard=MemoryGuard(), clock=SettableClock(), entropy=seeded()
    ) as writer:
        writer.append([note("first", "note/a"), note("first", "note/b")])
        yield writer
        store.go.set()


def under_way(store: AheadStore, writer: Writer, *outcomes: Outcome, **more: Any) -> Future[Any]:
    """An append that was sent and stays under way; those that follow are one group behind it."""
    store.outcomes += outcomes
    store.planned = threading.Semaphore(0)
    store.go.clear()
    future = writer.submit([note("under way", "note/a")], **more)
    assert store.planned.acquire(timeout=20)
    return future


def went_on(store: AheadStore, writer: Writer) -> list[int]:
    """Everything is whole, and appending goes on. The sizes of the groups that went ahead."""
    sent = list(store.sent)
    assert writer.append([note("last", "note/b")]).first_index + 1 == store.head().size
    check_whole(store, Reader(store, SIGNER.vkey))
    return sent


def test_the_next_group_is_made_while_one_commits(store: AheadStore, writer: Writer) -> None:
    first = under_way(store, writer)
    second = writer.submit(notes(3, "note/a"), idempotency_key="k")
    assert store.planned.acquire(timeout=20), "linked and signed"
    assert not first.done() and store.sent == [1], "and not sent before the first is known"
    store.go.set()
    assert (first.result(20).first_index, second.result(20).first_index) == (2, 3)
    for done in (first.result(), second.result()):
        for receipt in done.receipts:
            check_receipt(receipt, SIGNER.vkey)
    assert went_on(store, writer) == [1, 3]
    assert store.locked == [2], "only the first append of all took the lock"


def test_nothing_is_answered_before_it_is_durable(store: AheadStore, writer: Writer) -> None:
    first = under_way(store, writer)
    second = writer.submit([note("x", "note/a")])
    assert store.planned.acquire(timeout=20)
    with pytest.raises(TimeoutError):
        first.result(0.05)
    assert store.head().size == 2
    store.go.set()
    assert second.result(20).tree_size == 4


@pytest.mark.parametrize("outcome", ["refused", "lost"])
def test_what_follows_something_unwritten_begins_again(
    outcome: Outcome, store: AheadStore, writer: Writer
) -> None:
    first = under_way(store, writer, outcome)
    second = writer.submit([note("x", "note/a", expected=1)])
    third = writer.submit([note("y", "note/a")])
    store.go.set()
    with pytest.raises(StoreError if outcome == "refused" else UnknownOutcomeError):
        first.result(20)
    assert [second.result(20).first_index, third.result(20).first_index] == [2, 3]
    went_on(store, writer)


def test_what_follows_something_unheard_of_builds_on_it(store: AheadStore, writer: Writer) -> None:
    first = under_way(store, writer, "unheard", idempotency_key="k")
    second = writer.submit([note("x", "note/a")])
    store.go.set()
    with pytest.raises(UnknownOutcomeError):
        first.result(20)
    assert second.result(20).first_index == 3
    again = writer.append([note("under way", "note/a")], idempotency_key="k")
    assert (again.first_index, again.repeated) == (2, True)
    went_on(store, writer)


@pytest.mark.parametrize(("outcome", "accepted"), [("written", False), ("refused", True)])
def test_nothing_is_refused_for_what_may_not_be_written(
    outcome: Outcome, accepted: bool, store: AheadStore, writer: Writer
) -> None:
    """It expects the version that the stream has if the one under way is not written."""
    first = under_way(store, writer, outcome)
    second = writer.submit([note("x", "note/a", expected=1)])
    store.go.set()
    first.exception(20)
    if accepted:
        assert second.result(20).first_index == 2
    else:
        with pytest.raises(ConflictError, match="stands at version 2, not 1"):
            second.result(20)
    went_on(store, writer)


@pytest.mark.parametrize("same", [True, False])
def test_a_key_that_is_being_used_is_waited_for(
    same: bool, store: AheadStore, writer: Writer
) -> None:
    first = under_way(store, writer, idempotency_key="k")
    text = "under way" if same else "other"
    second = writer.submit([note(text, "note/a")], idempotency_key="k")
    assert not store.planned.acquire(timeout=0.05)
    store.go.set()
    assert first.result(20).first_index == 2
    if same:
        assert (second.result(20).first_index, second.result().repeated) == (2, True)
    else:
        with pytest.raises(ConflictError, match="used for another batch"):
            second.result(20)
    went_on(store, writer)


@pytest.mark.parametrize("outcome", ["written", "refused"])
def test_a_used_key_is_found_under_the_lock(
    outcome: Outcome, store: AheadStore, writer: Writer
) -> None:
    done = writer.append([note("x", "note/a")], idempotency_key="k")
    first = under_way(store, writer, outcome)
    again = writer.submit([note("x", "note/a")], idempotency_key="k")
    fine = writer.submit([note("y", "note/a")])
    store.go.set()
    first.exception(20)
    assert (again.result(20).first_index, again.result().repeated) == (done.first_index, True)
    assert fine.result(20).first_index == (4 if outcome == "written" else 3)
    went_on(store, writer)


def test_the_keys_of_many_entries_are_asked_for(store: AheadStore, writer: Writer) -> None:
    many = notes(sequencing.MAX_UNASKED + 1, "note/a")
    done = writer.append(many, idempotency_key="k")
    first = under_way(store, writer)
    again = writer.submit(many, idempotency_key="k")
    unkeyed = writer.submit(many)
    assert not store.planned.acquire(timeout=0.05), "it asks, so it waits"
    store.go.set()
    first.result(20)
    assert (again.result(20).first_index, again.result().repeated) == (done.first_index, True)
    assert unkeyed.result(20).count == len(many)
    assert store.locked == [2], "and no lock was needed to find it"
    went_on(store, writer)


def test_what_has_to_ask_waits(store: AheadStore, writer: Writer) -> None:
    for more in (
        {"drafts": [note("x", "note/new")]},
        {"drafts": [note("x", "note/a")], "tracked": Tracked("upstream", 7)},
    ):
        first = under_way(store, writer)
        second = writer.submit(**more)  # type: ignore[arg-type]
        assert not store.planned.acquire(timeout=0.05)
        store.go.set()
        assert second.result(20).first_index == first.result(20).first_index + 1
        assert store.planned.acquire(timeout=20)
    assert store.tracked("upstream") == 7
    went_on(store, writer)


def test_two_processes_that_go_ahead_take_turns(store: AheadStore, writer: Writer) -> None:
    beside = AheadStore(store._inner)
    with Writer(beside, SIGNER, guard=MemoryGuard(), clock=SettableClock()) as other:
        for number in range(40):
            futures = [(writer, other)[at % 2].submit([note("x", "note/a")]) for at in range(6)]
            assert len({future.result(20).first_index for future in futures}) == 6, number
    assert store.head().size == 2 + 40 * 6
    went_on(store, writer)


def test_a_cancelled_batch_is_left_out(store: AheadStore, writer: Writer) -> None:
    first = under_way(store, writer, "refused")
    gone, kept = writer.submit([note("x", "note/a")]), writer.submit([note("y", "note/b")])
    cancelled = gone.cancel()  # it may have had its turn already: then it is written
    store.go.set()
    first.exception(20)
    assert kept.result(20).first_index == (2 if cancelled else 3)
    went_on(store, writer)


@pytest.mark.parametrize("failure", [MemoryError(), StoreError("the disk"), TamperError("altered")])
def test_a_mistake_in_the_next_group_does_not_touch_the_first(
    failure: BaseException, store: AheadStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = under_way(store, writer)

    def fail(*_: object, **__: object) -> None:
        store.planned.release()
        raise failure

    monkeypatch.setattr(sequencing, "link", fail)
    second = writer.submit([note("x", "note/a")])
    assert store.planned.acquire(timeout=20)
    store.go.set()
    assert first.result(20).first_index == 2
    with pytest.raises(AsofError) as caught:
        second.result(20)
    assert failure in (caught.value, caught.value.__cause__)
    monkeypatch.undo()
    if isinstance(failure, TamperError | MemoryError):
        with pytest.raises(StoreError, match="writer stopped"):
            writer.append([note("x")])
    else:
        went_on(store, writer)


@pytest.mark.parametrize("recovers", [True, False])
def test_a_writer_that_stops_refuses_the_group_behind(
    recovers: bool, store: AheadStore, writer: Writer
) -> None:
    store.recovers = recovers
    first = under_way(store, writer, "lost")
    second = writer.submit([note("x", "note/a")])
    store.go.set()
    with pytest.raises(UnknownOutcomeError):
        first.result(20)
    if recovers:
        assert second.result(20).first_index == 2
    else:
        with pytest.raises(StoreError, match="nothing of this batch was written"):
            second.result(20)
        assert store.head().size == 2


@pytest.mark.parametrize("cut", [True, False])
def test_an_unknown_outcome_of_the_second_is_not_tried_again(
    cut: bool, store: AheadStore, writer: Writer
) -> None:
    """It may be there already: sent once more without a key, it would be there twice."""
    first = under_way(store, writer, "written", "unheard")
    store.cut = cut
    second = writer.submit([note("x", "note/a")])
    assert store.planned.acquire(timeout=20)
    store.go.set()
    assert first.result(20).first_index == 2
    with pytest.raises(UnknownOutcomeError):
        second.result(20)
    store.cut = False
    assert store.head().size == 4
    store.outcomes.clear()
    went_on(store, writer)


def test_closing_waits_for_both(store: AheadStore, writer: Writer) -> None:
    first = under_way(store, writer)
    second = writer.submit([note("x", "note/a")])
    assert store.planned.acquire(timeout=20)
    store.go.set()
    writer.close()
    done: list[Appended] = [first.result(0), second.result(0)]
    assert [one.first_index for one in done] == [2, 3]
