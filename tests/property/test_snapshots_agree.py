"""Replayed from a snapshot or from entry 0: one state, for all times and any number of entries."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import NotFoundError
from ledger.reader import Reader
from projections.at import Moment
from projections.index import Index
from projections.replay import replayed
from projections.snapshots import Beginning, Snapshots
from tests.support.histories import PIPELINES, SECOND, START, Step, histories, withhold, written
from tests.support.indexes import Indexes

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

Scope = tuple[str, str]


def instants(reader: Reader) -> list[int]:
    """Every instant at which something takes effect, and the gaps around them."""
    times = {record.effective_at for record in reader.entries()}
    return sorted(times | {min(times) - 1, max(times) + 1})


def answer(reader: Reader, scope: Scope, at: int, known: int, basis: int, **how: Any) -> Any:
    """The state as JSON; the words where there is none."""
    moments = {
        "at": Moment(text="then", instant=at),
        "known_at": Moment(text="known", instant=at, size=known),
    }
    try:
        return replayed(reader, *scope, **moments, basis=basis, now=at, **how).as_json()
    except NotFoundError as error:
        return str(error)


def leave(reader: Reader, snapshots: Snapshots, size: int) -> None:
    """Leave snapshots of the first `size` entries, and no others."""
    answer(reader, PIPELINES[0], START, 1, size, snapshots=snapshots)


def complain(text: str) -> None:
    raise AssertionError(text)


@settings(max_examples=25, deadline=None)
@given(
    history=histories(max_steps=6), scope=st.sampled_from(PIPELINES), every=st.sampled_from((1, 3))
)
def test_every_pair_of_times(history: list[Step], scope: Scope, every: int) -> None:
    with written(history) as reader, closing(Index.open(None, reader)) as index:
        snapshots = index.snapshots(every=every, notice=complain)
        size = reader.size()
        leave(reader, snapshots, size)
        assert snapshots.newest() == (size - size % every or None)
        for at in instants(reader):
            for known in range(1, size + 1):
                told = answer(reader, scope, at, known, size, snapshots=snapshots)
                assert told == answer(reader, scope, at, known, size)


@settings(max_examples=60, deadline=None)
@given(history=histories(max_steps=25), data=st.data())
def test_some_pairs_of_long_histories(
    indexes: Indexes, history: list[Step], data: st.DataObject
) -> None:
    """With entries erased before and after, and a ledger that goes on after the last snapshot."""
    with written(history) as reader, closing(indexes.fresh(reader)) as index:
        size = reader.size()
        some = st.integers(0, size - 1)
        withhold(reader, data.draw(some, label="erased before"))
        for _ in range(2):
            every = data.draw(st.sampled_from((1, 2, 5, 7)), label="every")
            snapshots = index.snapshots(every=every, notice=complain)
            leave(reader, snapshots, data.draw(st.integers(1, size), label="left at"))
        withhold(reader, data.draw(some, label="erased after"))
        for _ in range(6):
            scope = data.draw(st.sampled_from(PIPELINES))
            at = data.draw(st.sampled_from(instants(reader)))
            basis = data.draw(st.integers(1, size))
            known = data.draw(st.integers(1, basis))
            verified = data.draw(st.booleans())
            how = {"verified": verified}
            told = answer(reader, scope, at, known, basis, snapshots=snapshots, **how)
            assert told == answer(reader, scope, at, known, basis, **how)


@pytest.mark.parametrize("left_at", [1, 2, 3])
def test_an_end_may_be_known_before_its_beginning(left_at: int) -> None:
    """And a snapshot may lie between the two."""
    ended = ("run.finished/1", "run/1", "user:ann", {"status": "succeeded", "outputs": []})
    of = {"pipeline": "p", "stage": "live"}
    started = ("run.started/1", "run/1", "user:ann", {"run": "1", "kind": "training", **of})
    bound = {**of, "slot": "model", "asset_version": "model/m@2"}
    change = ("binding.changed/1", "pipeline/p@live", "user:ann", bound)
    history = [Step(gap=1, events=(one,)) for one in (change, ended, started)]
    now = START + 30 * SECOND
    with written(history) as reader, closing(Index.open(None, reader)) as index:
        snapshots = index.snapshots(every=left_at, notice=complain)
        leave(reader, snapshots, reader.size())
        for known in range(1, reader.size() + 1):
            asked = (reader, PIPELINES[0], now, known, reader.size())
            told = answer(*asked, snapshots=snapshots)
            assert told == answer(*asked)
        assert told["runs"] == []


def test_the_comparison_can_fail(monkeypatch: Any) -> None:
    """A negative control: a beginning that forgets one entry gives another state, and it shows."""
    data = {"pipeline": "p", "stage": "live", "slot": "model", "asset_version": "model/m@2"}
    bound = ("binding.changed/1", "pipeline/p@live", "user:ann", data)
    closed = ("incident.closed/1", "incident/1", "user:ann", {})
    opened = ("incident.opened/1", "incident/1", "user:ann", {"pipeline": "p"})
    history = [Step(gap=1, events=(opened, bound)), Step(gap=1, events=(closed,))]
    now = START + 30 * SECOND
    with written(history) as reader, closing(Index.open(None, reader)) as index:
        snapshots = index.snapshots(every=4, notice=complain)
        leave(reader, snapshots, 4)
        asked = (reader, PIPELINES[0], now, 4, 4)
        assert answer(*asked, snapshots=snapshots) == answer(*asked)
        monkeypatch.setattr(Beginning, "ends_of", lambda *_: [])
        assert answer(*asked, snapshots=snapshots) != answer(*asked)
