"""Where a version was bound and what it was made from: the index against a naive reading."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.record import Record
from projections.at import Position
from projections.diff import diff_states
from projections.state import state_at
from tests.support.histories import REFS, histories, written
from tests.support.indexes import Indexes

# Counting branches doubles the time of a search, and others reach the same ones.
pytestmark = pytest.mark.no_cover

FAR = 1 << 61


def known_and_in_effect(records: Iterable[Record], at: int, known: int) -> list[Record]:
    return [record for record in records if record.index < known and record.effective_at <= at]


def naive_intervals(records: list[Record], ref: str, at: int, known: int) -> set[tuple]:
    """(place, entry, start, stop) of one version: the changes of each slot, side by side."""
    slots: dict[tuple, list[Record]] = {}
    for record in known_and_in_effect(records, at, known):
        if record.type.startswith("binding.") and record.data:
            place = (record.data["pipeline"], record.data["stage"], record.data["slot"])
            slots.setdefault(place, []).append(record)
    found = set()
    for place, changes in slots.items():
        changes.sort(key=lambda record: (record.effective_at, record.index))
        for one, following in pairwise([*changes, None]):
            assert one is not None
            stop = None if following is None else following.effective_at
            held = (one.data or {}).get("asset_version") if "changed" in one.type else None
            if held == ref and stop != one.effective_at:
                found.add((*place, one.index, one.effective_at, stop))
    return found


def naive_edges(records: list[Record], at: int, known: int) -> set[tuple[str, str, str]]:
    """(parent, child, run): each pair of a run's inputs and outputs, each parent of a record."""
    seen = known_and_in_effect(records, at, known)
    found = set()
    for record in seen:
        data = record.data or {}
        if record.type == "asset.version.recorded/1":
            child = f"{data['kind']}/{data['name']}@{data['version']}"
            found |= {(parent, child, "") for parent in data["parents"]}
        elif record.type == "run.started/1":
            for end in seen:
                if end.type == "run.finished/1" and end.stream == record.stream:
                    outputs = (end.data or {})["outputs"]
                    found |= {(i, o, record.stream) for i in data["inputs"] for o in outputs}
    return found


@settings(max_examples=60, deadline=None)
@given(history=histories(max_steps=20), data=st.data())
def test_uses_and_edges(indexes: Indexes, history: list, data: st.DataObject) -> None:
    with written(history) as reader, closing(indexes.fresh(reader)) as index:
        index.catch_up()
        records = list(reader.entries())
        times = sorted({record.effective_at for record in records})
        for _ in range(4):
            at = data.draw(st.sampled_from(times))
            known = data.draw(st.integers(1, len(records)))
            edges = naive_edges(records, at, known)
            for ref in set(REFS):
                found = index.intervals(ref, at=at, known=known, limit=1000)
                assert {
                    (one.pipeline, one.stage, one.name, one.entry, one.start, one.stop)
                    for one in found
                    if one.part == "slot"
                } == naive_intervals(records, ref, at, known)
                up = index.parents(ref, at=at, known=known, limit=1000)
                assert {(e.ref, ref, e.run) for e in up} == {e for e in edges if e[1] == ref}
                down = index.children(ref, at=at, known=known, limit=1000)
                assert {(ref, e.ref, e.run) for e in down} == {e for e in edges if e[0] == ref}


@settings(max_examples=40, deadline=None)
@given(history=histories(max_steps=15), data=st.data())
def test_a_difference_is_empty_where_the_digests_are_equal(
    indexes: Indexes, history: list, data: st.DataObject
) -> None:
    with written(history) as reader, closing(indexes.fresh(reader)) as index:
        index.catch_up()
        records = list(reader.entries())
        if not any(record.stream == "pipeline/p@live" for record in records):
            return
        times = st.sampled_from(sorted({record.effective_at for record in records}))
        knowns = st.integers(1, len(records))
        before, after = (
            state_at(
                reader,
                index,
                "p",
                "live",
                Position(
                    at=data.draw(times),
                    known=data.draw(knowns),
                    basis=len(records),
                    known_at=None,
                    mode="",
                ),
            )
            for _ in range(2)
        )
        found = diff_states(reader, index, before, after)
        assert found.is_empty == (before.state_digest == after.state_digest)
        assert all(item.entries for item in found.bindings)
