"""Neither indexing nor replaying needs more memory for a longer log of other things."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import closing

import pytest

from projections import index as index_module
from projections import replay as replay_module
from projections.index import Index
from projections.replay import replayed
from tests.support.histories import SECOND, START, draft
from tests.support.story import NOW, Story, changed, story

KIB = 1024


def grown(told: Story, entries: int) -> None:
    note = {"text": "x" * 400}
    told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
    for _ in range(0, entries, 500):
        told.write(START + 100 * SECOND, [draft("note.added/1", "note/n", "user:ann", note)] * 500)


def peak(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("verified", [False, True])
def test_flat(verified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BATCH", 200)
    monkeypatch.setattr(replay_module, "BATCH", 200)

    def indexed(told: Story) -> None:
        with closing(Index.open(None, told.reader)) as index:
            index.catch_up()

    def measured(entries: int) -> tuple[int, int]:
        with story() as told:
            grown(told, entries)
            indexed(told)
            return (
                peak(lambda: indexed(told)),
                peak(lambda: replayed(told.reader, "demand", "live", now=NOW, verified=verified)),
            )

    measured(500)
    short, long = measured(1000), measured(6000)
    assert long[0] < short[0] + 100 * KIB
    assert long[1] < short[1] + 100 * KIB
