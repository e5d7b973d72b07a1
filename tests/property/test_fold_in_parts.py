"""The fold may be split anywhere, joined in any order, and be fed an entry twice."""

from __future__ import annotations

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.fold import Facts, Question, apply, folded, merged
from tests.support.histories import PIPELINES, SECOND, START, histories, written


@settings(max_examples=80, deadline=None)
@given(histories(max_steps=12), st.data())
def test_associative_commutative_idempotent(history: list, data: st.DataObject) -> None:
    with written(history) as reader:
        rows = list(reader.rows(0, reader.size()))
    pipeline, stage = data.draw(st.sampled_from(PIPELINES))
    at = START + data.draw(st.integers(-400, 800)) * SECOND
    question = Question(pipeline=pipeline, stage=stage, at=at)
    whole = folded(question, rows)
    cuts = sorted(data.draw(st.tuples(*[st.integers(0, len(rows))] * 2)))
    a, b, c = (
        folded(question, part)
        for part in (rows[: cuts[0]], rows[cuts[0] : cuts[1]], rows[cuts[1] :])
    )
    assert merged(merged(a, b), c) == merged(a, merged(b, c)) == whole
    assert merged(c, merged(a, b)) == whole
    assert merged(whole, a) == merged(whole, whole) == whole
    assert merged(Facts(), whole) == merged(whole, Facts()) == whole
    assert reduce(lambda facts, row: apply(facts, question, row), rows, Facts()) == whole
    shuffled = data.draw(st.permutations(rows))
    assert folded(question, shuffled) == whole
