"""Positions of followers: with what follows from an event, in one transaction (recorder.md)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.utils import Environment

from ledger.errors import StoreError
from ledger.lifecycle.application import LedgerFactory
from ledger.recorder import (
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerTrackingRecorder,
)
from ledger.stores.sqlite import SqliteStore
from tests.support.empty_ledgers import Opened, empty_ledger, opened


@contextmanager
def reopened(path: Path) -> Iterator[Opened]:
    """The ledger of a file, opened again by a process that knows nothing."""
    with closing(SqliteStore.open(path)) as store, opened(store) as ledger:
        yield ledger


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    path = tmp_path / "asof.db" if request.param == "sqlite" else None
    with empty_ledger(path) as ledger:
        yield ledger


def process(ledger: Opened, follower: str = "counts") -> LedgerProcessRecorder:
    return LedgerProcessRecorder(
        ledger.writer, ledger.reader, actor="service:asof", follower=follower
    )


def note(number: int, stream: str = "note/x") -> StoredEvent:
    return StoredEvent(stream, number, "note.added/1", b'{"text":"%d"}' % number)


def test_13_entries_and_position_are_written_together_or_not_at_all(ledger: Opened) -> None:
    recorder = process(ledger)
    assert recorder.insert_events([note(1)], tracking=Tracking("shop", 7)) == [1]
    assert (recorder.max_tracking_id("shop"), ledger.reader.size()) == (7, 1)
    with pytest.raises(IntegrityError, match="'counts/shop' has come to 7"):
        recorder.insert_events([note(2)], tracking=Tracking("shop", 7))
    with pytest.raises(IntegrityError, match="note/x"):
        recorder.insert_events([note(1)], tracking=Tracking("shop", 8))
    with pytest.raises(DataError, match="unknown"):
        recorder.insert_events(
            [StoredEvent("note/x", 2, "os:system", b"{}")], tracking=Tracking("shop", 8)
        )
    assert (recorder.max_tracking_id("shop"), ledger.reader.size()) == (7, 1)


def test_13_an_event_from_which_nothing_follows_moves_the_position(ledger: Opened) -> None:
    recorder = process(ledger)
    assert recorder.insert_events([], tracking=Tracking("shop", 3)) == []
    assert recorder.insert_events([]) == []
    assert recorder.insert_events([note(1)]) == [1]
    assert (recorder.max_tracking_id("shop"), ledger.reader.size()) == (3, 1)


def test_13_a_retry_with_the_same_key_is_answered_again(ledger: Opened) -> None:
    recorder = process(ledger)
    for _ in range(2):
        ids = recorder.insert_events(
            [note(1)], tracking=Tracking("shop", 7), idempotency_key="shop-7"
        )
        assert ids == [1]
    assert (recorder.max_tracking_id("shop"), ledger.reader.size()) == (7, 1)


def test_14_positions_of_two_followers_do_not_meet(ledger: Opened) -> None:
    one, other = process(ledger, "counts"), process(ledger, "alarms")
    one.insert_tracking(Tracking("shop", 5))
    assert (one.max_tracking_id("shop"), other.max_tracking_id("shop")) == (5, None)
    other.insert_tracking(Tracking("shop", 2))
    assert (one.max_tracking_id("shop"), other.max_tracking_id("shop")) == (5, 2)
    assert ledger.reader.tracked("counts/shop") == 5
    with pytest.raises(DataError, match="'counts/shop' must not hold '/'"):
        process(ledger, "counts/shop")
    with pytest.raises(DataError, match="must not hold '/'"):
        LedgerTrackingRecorder(ledger.writer, ledger.reader, actor="service:a", follower="/")


def test_13_of_two_that_answer_the_same_event_one_is_refused(ledger: Opened) -> None:
    start, refused = threading.Barrier(4), []

    def answer(stream: str) -> None:
        recorder = process(ledger)
        start.wait()
        try:
            recorder.insert_events([note(1, stream)], tracking=Tracking("shop", 1))
        except IntegrityError:
            refused.append(stream)

    threads = [threading.Thread(target=answer, args=(f"note/{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert ledger.reader.size() == 1


def test_13_a_follower_begins_again_where_it_stood(tmp_path: Path) -> None:
    """It dies after each answer; in the end each note of the log is answered once, in order."""
    path = tmp_path / "asof.db"
    with empty_ledger(path) as ledger:
        log = LedgerApplicationRecorder(ledger.writer, ledger.reader, actor="user:mia")
        log.insert_events([note(number) for number in range(1, 6)])
    for _life in range(5):
        with reopened(path) as ledger:
            recorder = process(ledger)
            position = recorder.max_tracking_id("notes")
            heard = recorder.select_notifications(position, 1, inclusive_of_start=False)
            answered = ledger.reader.stream_version("note/answers")
            recorder.insert_events(
                [StoredEvent("note/answers", answered + 1, "note.added/1", heard[0].state)],
                tracking=Tracking("notes", heard[0].id),
            )
    with reopened(path) as ledger:
        answers = [record.data for record in ledger.reader.stream("note/answers")]
        assert answers == [{"text": str(number)} for number in range(1, 6)]
        assert process(ledger).max_tracking_id("notes") == 5


def test_13_a_bad_position_is_the_callers_mistake(ledger: Opened) -> None:
    recorder = process(ledger)
    with pytest.raises(DataError, match="a position is 0 or more, not -1"):
        recorder.insert_tracking(Tracking("shop", -1))


def test_11_failures_of_the_store_are_translated(
    ledger: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_name: str) -> int:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(ledger.store, "tracked", fails)
    with pytest.raises(OperationalError, match="the disk is gone"):
        process(ledger).max_tracking_id("shop")


def factory(ledger: Opened, **settings: str) -> LedgerFactory:
    return LedgerFactory(
        ledger.writer,
        ledger.reader,
        actor="service:asof",
        clock=ledger.clock,
        env=Environment("counts", settings),
    )


def test_14_a_factory_names_its_followers_after_its_environment(ledger: Opened) -> None:
    made = factory(ledger)
    made.tracking_recorder().insert_tracking(Tracking("shop", 4))
    assert made.process_recorder().max_tracking_id("shop") == 4
    assert ledger.reader.tracked("counts/shop") == 4


def test_14_a_view_is_of_a_class_that_keeps_its_position_here(ledger: Opened) -> None:
    class View(LedgerProcessRecorder):
        """A view's own."""

    assert type(factory(ledger).tracking_recorder(View)) is View
    named = "ledger.recorder:LedgerProcessRecorder"
    made = factory(ledger, TRACKING_RECORDER_TOPIC=named).tracking_recorder()
    assert type(made) is LedgerProcessRecorder
    with pytest.raises(NotSupportedError, match="POPOTrackingRecorder keeps its positions outside"):
        factory(ledger).tracking_recorder(POPOTrackingRecorder)
