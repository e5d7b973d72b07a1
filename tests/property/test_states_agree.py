"""Indexed, replayed and naive: three ways to one state, over random histories and all times."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import NotFoundError
from ledger.reader import Reader
from projections.at import Position
from projections.facts import pipeline_stream
from projections.fold import Question, bound_refs, folded, merged
from projections.index import Index
from projections.state import State, state_at, state_of
from tests.support.histories import PIPELINES, START, histories, withhold, written
from tests.support.indexes import Indexes
from tests.support.naive_state import naive_state

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

SECOND = 1_000_000


def position_at(at: int, known: int, size: int) -> Position:
    return Position(at=at, known=known, basis=size, known_at=None, mode="")


def instants(reader: Reader) -> list[int]:
    """Every instant at which anything happens on either axis, and the gaps around them."""
    times = {record.effective_at for record in reader.entries()}
    times |= {record.recorded_at for record in reader.entries()}
    return sorted(times | {min(times) - 1, max(times) + 1})


def told(state: State) -> dict[str, Any]:
    """A state in the naive oracle's form."""
    plain = state.as_json()
    kept = ("bindings", "traffic", "shadow", "missing", "before", "after", "state_digest")
    opened = {"runs": state.runs, "incidents": state.incidents, "approvals": state.approvals}
    return {name: plain[name] for name in kept} | {
        name: [(item.id, item.since.index) for item in items] for name, items in opened.items()
    }


def replay(reader: Reader, pipeline: str, stage: str, where: Position, cut: int) -> State:
    """The replay's fold, split in two at `cut` and joined the wrong way round."""
    question = Question(pipeline=pipeline, stage=stage, at=where.at)
    rows = list(reader.rows(0, where.known))
    wanted = bound_refs(folded(question, rows))
    left = folded(question, rows[:cut], wanted=wanted)
    right = folded(question, rows[cut:], wanted=wanted)
    return state_of(merged(right, left), question, where, reader.basis(where.basis))


def compare(reader: Reader, index: Index, pipeline: str, stage: str, where: Position) -> None:
    records = list(reader.entries())
    expected = naive_state(records, pipeline, stage, where.at, where.known)
    replayed = replay(reader, pipeline, stage, where, where.known // 2)
    assert told(replayed) == expected
    stream = pipeline_stream(pipeline, stage)
    if any(record.stream == stream for record in records[: where.basis]):
        found = state_at(reader, index, pipeline, stage, where)
        assert found.as_json() == replayed.as_json()
    else:
        with pytest.raises(NotFoundError, match="no entry is about"):
            state_at(reader, index, pipeline, stage, where)


@settings(max_examples=40, deadline=None)
@given(history=histories(max_steps=6), scope=st.sampled_from(PIPELINES))
def test_every_pair_of_times(indexes: Indexes, history: list, scope: tuple[str, str]) -> None:
    with written(history) as reader, closing(indexes.fresh(reader)) as index:
        index.catch_up()
        size = reader.size()
        for at in instants(reader):
            for known in range(1, size + 1):
                compare(reader, index, *scope, position_at(at, known, size))


@given(history=histories(max_steps=25), data=st.data())
def test_some_pairs_of_long_histories(indexes: Indexes, history: list, data: st.DataObject) -> None:
    with written(history) as reader, closing(indexes.fresh(reader)) as index:
        size = reader.size()
        held_back = data.draw(st.integers(0, size - 1), label="withheld")
        withhold(reader, held_back)
        times = st.sampled_from(instants(reader))
        for _ in range(8):
            at, scope = data.draw(times), data.draw(st.sampled_from(PIPELINES))
            basis = data.draw(st.integers(1, size))
            known = data.draw(st.integers(1, basis))
            compare(reader, index, *scope, position_at(at, known, basis))


def test_the_comparison_can_fail() -> None:
    """A negative control: the oracle tells a wrong winner from the right one."""
    from tests.support.histories import Step

    def bind(ref: str) -> tuple:
        data = {"pipeline": "p", "stage": "live", "slot": "model", "asset_version": ref}
        return ("binding.changed/1", "pipeline/p@live", "user:ann", data)

    history = [
        Step(gap=10, events=(bind("model/m@2"),)),
        Step(gap=10, events=(bind("model/m@1"),), late=(15,)),
    ]
    with written(history) as reader:
        records = list(reader.entries())
        known, late = naive_state(records, "p", "live", START + 30 * SECOND, 3), None
        assert known["bindings"]["model"]["asset_version"] == "model/m@2"
        late = naive_state(records, "p", "live", START + 6 * SECOND, 3)
        assert late["bindings"]["model"]["asset_version"] == "model/m@1"
