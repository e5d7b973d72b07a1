"""Following a ledger, waiting for what was written, how far an index is behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from ledger.errors import UnreachableError
from projections.index import Index
from projections.runner import Lag, Listening, Polling, follow, lag_of, wait_for
from tests.support.histories import SECOND, START
from tests.support.story import NOW, Story, changed, story


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def add_one(told: Story) -> int:
    told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
    return told.reader.size() - 1


def test_it_indexes_what_comes_until_it_is_told_to_stop(told: Story) -> None:
    steps = iter((True, True, False))
    seen = []
    with closing(Index.open(None, told.reader)) as index:

        def wake() -> bool:
            seen.append(index.size())
            add_one(told)
            return next(steps)

        follow(index, wake)
        assert seen == [12, 13, 14]


def test_a_database_that_does_not_answer_is_asked_again(
    told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter((True, False))
    with closing(Index.open(None, told.reader)) as index:
        real, failures = told.reader.size, [UnreachableError("away")]

        def size() -> int:
            if failures:
                raise failures.pop()
            return real()

        monkeypatch.setattr(told.reader, "size", size)
        follow(index, lambda: next(steps))
        assert index.size() == 12


def test_what_was_written_is_waited_for(told: Story, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "asof.db.index"
    stop = threading.Event()

    def run() -> None:
        with closing(Index.open(path, told.reader)) as followed:
            follow(followed, Polling(stop, seconds=0.01))

    with closing(Index.open(path, told.reader)) as index:
        with pytest.raises(UnreachableError, match="not yet entry 11: is anybody indexing"):
            wait_for(index, 11, seconds=0.02)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert wait_for(index, 11, seconds=20) == 12
            assert wait_for(index, add_one(told), seconds=20) == 13
        finally:
            stop.set()
            thread.join()


def test_waiting_grows_patient_and_ends(told: Story) -> None:
    """With a clock and a sleep of its own: what it costs to wait a second."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with closing(Index.open(None, told.reader)) as index:
        with pytest.raises(UnreachableError, match="after 1 s"):
            wait_for(index, 0, seconds=1, sleep=sleep, clock=lambda: now[0])
    assert len(slept) < 25 and max(slept) == 0.1 and slept[0] == 0.002


def test_the_lag_is_told_in_entries_and_seconds(told: Story) -> None:
    with closing(Index.open(None, told.reader)) as index:
        assert lag_of(told.reader, index, now=NOW) == Lag(12, 1000.0)
        index.catch_up()
        assert lag_of(told.reader, index, now=NOW) == Lag(0, 0.0)
        add_one(told)
        assert lag_of(told.reader, index, now=START + 103 * SECOND) == Lag(1, 3.0)
        assert lag_of(told.reader, index, now=START) == Lag(1, 0.0)  # a clock that runs behind


def test_a_notification_wakes_at_once(pg_database: str) -> None:
    stop = threading.Event()
    with closing(Listening(pg_database, stop, seconds=30)) as wake:
        assert wake()  # the first call only begins to listen: there may be something already
        with psycopg.connect(pg_database, autocommit=True) as other:
            other.execute("SELECT pg_notify('asof_appended', '1')")
        begun = time.monotonic()
        assert wake()
        assert time.monotonic() - begun < 20
        stop.set()
        assert not wake()


def test_without_a_notification_it_looks_all_the_same(pg_database: str) -> None:
    with closing(Listening(pg_database, threading.Event(), seconds=0.05)) as wake:
        assert wake() and wake() and wake()


def test_a_server_that_is_away_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    with closing(Listening("postgresql://x@127.0.0.1:1/none", stop, seconds=0.01)) as wake:
        assert wake()
        stop.set()
        assert not wake()
