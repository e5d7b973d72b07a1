"""What our recorders promise beyond the library's own tests (docs/spec/recorder.md)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from eventsourcing.persistence import (
    IntegrityError,
    Notification,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
)

from ledger.draft import Draft
from ledger.errors import StoreError, TamperError
from ledger.recorder import (
    ActedEvent,
    LedgerApplicationRecorder,
    LedgerSubscription,
    originator_of,
    stream_name,
)
from tests.support.empty_ledgers import Opened, empty_ledger

SOME = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@pytest.fixture
def ledger() -> Iterator[Opened]:
    with empty_ledger() as opened:
        yield opened


@pytest.fixture
def recorder(ledger: Opened) -> LedgerApplicationRecorder:
    return LedgerApplicationRecorder(ledger.writer, ledger.reader, actor="service:asof")


def note(number: int, stream: str | UUID = "note/x") -> StoredEvent:
    return StoredEvent(stream, number, "note.added/1", b'{"text":"%d"}' % number)


@pytest.mark.parametrize(
    ("originator", "stream"),
    [
        (SOME, f"aggregate/{SOME}"),
        ("rollback/7", "rollback/7"),
        ("aggregate/6BA7B810-9DAD-11D1-80B4-00C04FD430C8",) * 2,
        ("aggregate/6ba7b8109dad11d180b400c04fd430c8",) * 2,
        ("aggregate/",) * 2,
    ],
)
def test_2_an_originator_and_its_stream(originator: UUID | str, stream: str) -> None:
    assert stream_name(originator) == stream
    assert originator_of(stream) == originator


def test_2_a_name_that_a_uuid_would_have_is_refused(recorder: LedgerApplicationRecorder) -> None:
    with pytest.raises(NotSupportedError, match="pass the UUID"):
        recorder.insert_events([note(1, f"aggregate/{SOME}")])


def test_3_a_gap_and_a_version_before_the_first_are_conflicts(
    recorder: LedgerApplicationRecorder,
) -> None:
    for version in (-1, 0, 2):
        with pytest.raises(IntegrityError):
            recorder.insert_events([note(version)])
    assert recorder.max_notification_id() is None


def test_5_events_of_several_originators_are_one_batch(
    recorder: LedgerApplicationRecorder,
) -> None:
    with pytest.raises(IntegrityError):
        recorder.insert_events([note(1), note(1, "note/y"), note(3)])
    assert recorder.max_notification_id() is None
    assert recorder.insert_events([note(1), note(1, "note/y"), note(2)]) == [1, 2, 3]


def test_6_who_acted(ledger: Opened, recorder: LedgerApplicationRecorder) -> None:
    recorder.insert_events([note(1)])
    recorder.insert_events([note(2)], actor="user:mia")
    event = ActedEvent("note/x", 3, "note.added/1", b'{"text":"3"}', "user:noah")
    recorder.insert_events([event], actor="user:mia")
    actors = [record.actor for record in ledger.reader.entries()]
    assert actors == ["service:asof", "user:mia", "user:noah"]
    read = recorder.select_events("note/x", gt=2)
    assert read == [event] == [note(3)]
    assert isinstance(read[0], ActedEvent) and read[0].actor == "user:noah"
    assert len({*read, event, note(4)}) == 2 and read[0] != "note/x"


def test_5_an_idempotency_key_makes_a_retry_safe(recorder: LedgerApplicationRecorder) -> None:
    for _ in range(2):
        assert recorder.insert_events([note(1)], idempotency_key="once") == [1]
    assert recorder.max_notification_id() == 1


@pytest.mark.parametrize("desc", [False, True])
@pytest.mark.parametrize("limit", [None, 0, 1, 3, 99])
@pytest.mark.parametrize("lte", [None, 0, 3, 7, 99])
@pytest.mark.parametrize("gt", [None, -1, 0, 3, 7, 99])
def test_selecting_is_slicing(
    recorder: LedgerApplicationRecorder,
    gt: int | None,
    lte: int | None,
    limit: int | None,
    desc: bool,
) -> None:
    events = [note(number) for number in range(1, 8)]
    recorder.insert_events(events)
    wanted = [
        event
        for event in (events[::-1] if desc else events)
        if (gt is None or event.originator_version > gt)
        and (lte is None or event.originator_version <= lte)
    ][:limit]
    assert recorder.select_events("note/x", gt=gt, lte=lte, desc=desc, limit=limit) == wanted


def test_9_an_erased_payload_is_an_empty_state(ledger: Opened) -> None:
    class Erased:
        """The reader of a ledger whose first payload is gone."""

        def __init__(self) -> None:
            [row] = ledger.reader.rows(0, 1)
            self.row = row._replace(salt=None, payload=None)

        def size(self) -> int:
            return 1

        def rows(self, start: int, stop: int) -> Iterator[object]:
            yield self.row

    recorder = LedgerApplicationRecorder(ledger.writer, ledger.reader, actor="service:asof")
    recorder.insert_events([note(1)])
    blank = LedgerApplicationRecorder(ledger.writer, Erased(), actor="service:asof")  # type: ignore[arg-type]
    assert [found.state for found in blank.select_notifications(1, 9)] == [b""]


def test_11_trouble_of_the_store_and_evidence(
    recorder: LedgerApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(error: Exception) -> object:
        def raising() -> int:
            raise error

        return raising

    monkeypatch.setattr(recorder._reader, "size", broken(StoreError("the disk is gone")))
    with pytest.raises(OperationalError, match="the disk is gone"):
        recorder.max_notification_id()
    monkeypatch.setattr(recorder._reader, "size", broken(TamperError("forged", index=3)))
    with pytest.raises(TamperError, match="entry 3: forged"):
        recorder.select_notifications(1, 9)


# ------------------------------------------------------------------------------- 10, subscriptions


def take(subscription: LedgerSubscription, count: int) -> list[Notification]:
    return [next(subscription) for _ in range(count)]


def test_10_what_this_recorder_writes_wakes_a_waiting_subscription(
    recorder: LedgerApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerSubscription, "poll_seconds", 30)
    with recorder.subscribe(gt=0) as subscription:
        found: list[Notification] = []
        waiting = threading.Thread(target=lambda: found.extend(take(subscription, 2)))
        waiting.start()
        time.sleep(0.02)
        recorder.insert_events([note(1), note(2)])
        waiting.join(timeout=5)
    assert [notification.id for notification in found] == [1, 2]


def test_10_stopping_from_another_thread_ends_the_wait(
    recorder: LedgerApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerSubscription, "poll_seconds", 30)
    with recorder.subscribe() as subscription:
        found: list[Notification] = []
        waiting = threading.Thread(target=lambda: found.extend(subscription))
        waiting.start()
        time.sleep(0.02)
        subscription.stop()
        waiting.join(timeout=5)
        assert not waiting.is_alive() and found == []
        with pytest.raises(ProgrammingError):
            subscription.__enter__()


def test_10_a_subscription_reads_on_past_what_it_does_not_want(
    ledger: Opened, recorder: LedgerApplicationRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerSubscription, "chunk", 3)
    recorder.insert_events([note(number) for number in range(1, 11)])
    ledger.writer.append(
        [Draft(type="tag.set/1", stream="tag/r", actor="user:a", payload=b'{"tag":"r","index":3}')]
    )
    with recorder.subscribe(topics=["tag.set/1"]) as subscription:
        assert next(subscription).id == 11
    with recorder.subscribe(gt=7) as subscription:
        assert [found.id for found in take(subscription, 4)] == [8, 9, 10, 11]


CHILD = """
import sys
from pathlib import Path
from ledger.draft import Draft
from ledger.stores.sqlite import SqliteStore
from tests.support.empty_ledgers import opened
store = SqliteStore.open(Path(sys.argv[1]))
with opened(store) as ledger:
    ledger.writer.append(
        [Draft(type="note.added/1", stream="note/x", actor="user:b", payload=b'{"text":"hi"}')]
    )
store.close()
"""


def test_10_entries_of_another_process_are_seen(tmp_path: Path, checkout: Path) -> None:
    with empty_ledger(tmp_path / "asof.db") as ledger:
        recorder = LedgerApplicationRecorder(ledger.writer, ledger.reader, actor="service:asof")
        with recorder.subscribe(gt=0) as subscription:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(tmp_path / "asof.db")], cwd=checkout
            )
            seen = next(subscription)
            assert child.wait(timeout=20) == 0
    assert (seen.id, seen.state) == (1, b'{"text":"hi"}')
