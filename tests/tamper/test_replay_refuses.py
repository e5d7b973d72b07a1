"""A replay gives no state of entries that are not what was signed: each field of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import AsofError, IncompleteError, TamperError
from ledger.store import Row
from projections.replay import replayed
from projections.state import State
from tests.support.histories import SECOND, START
from tests.support.story import NOW, Story, changed, story


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def replay(told: Story, **how: Any) -> State:
    return replayed(told.reader, "demand", "live", now=NOW, **how)


CHANGES: dict[str, Callable[[Row], Row]] = {
    "recorded_at": lambda row: row._replace(recorded_at=row.recorded_at + 1),
    "actor": lambda row: row._replace(actor="user:eve"),
    "stream": lambda row: row._replace(stream="note/other"),
    "type": lambda row: row._replace(type="note.added/9"),
    "version": lambda row: row._replace(version=row.version + 1),
    "commitment": lambda row: row._replace(commitment=bytes(32)),
    "salt": lambda row: row._replace(salt=bytes(16)),
    "payload": lambda row: row._replace(payload=(row.payload or b"") + b" "),
    "leaf_hash": lambda row: row._replace(leaf_hash=bytes(32)),
    "index": lambda row: row._replace(index=row.index + 1),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("index", range(12))
def test_any_field_of_any_row(told: Story, field: str, index: int) -> None:
    told.store._rows[index] = CHANGES[field](told.store._rows[index])
    with pytest.raises(TamperError) as caught:
        replay(told)
    assert caught.value.index in (index, index + 1)


def test_the_untouched_story_replays(told: Story) -> None:
    """The control: without a change there is a state."""
    assert replay(told).bindings["model"].asset_version == "model/m@2"


def test_two_rows_swapped(told: Story) -> None:
    rows = told.store._rows
    rows[4], rows[5] = rows[5], rows[4]
    with pytest.raises(TamperError):
        replay(told)


def test_a_row_too_few(told: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(told.reader.rows(0, 12))
    for left in (rows[:11], rows[1:], rows[:5] + rows[6:]):
        monkeypatch.setattr(told.store, "rows", _rows_of(left))
        with pytest.raises((TamperError, IncompleteError)):
            replay(told)


def _rows_of(rows: list[Row]) -> Callable[[int, int], Iterator[Row]]:
    return lambda start, stop: (row for row in rows if start <= row.index < stop)


def test_a_withheld_payload_is_said_and_not_guessed(told: Story) -> None:
    row = told.store._rows[7]
    told.store._rows[7] = row._replace(salt=None, payload=None)
    found = replay(told)
    assert found.bindings["model"].asset_version == "model/m@1"
    assert found.warnings[0].startswith("entry 7 is about this pipeline, but its payload is")


def test_a_stream_that_hides_an_entry(told: Story) -> None:
    """The store's own list leads to fewer versions than the entries do."""
    told.store._streams["pipeline/demand@live"].remove(7)
    with pytest.raises(AsofError, match="does not agree with its entries"):
        replay(told)


def test_a_checkpoint_of_other_entries(told: Story) -> None:
    """Every row fits, and the signed root says that other entries were meant."""
    with story() as other:
        other.write(START + 95 * SECOND, [changed("model", "model/m@7")])
        told.write(START + 95 * SECOND, [changed("model", "model/m@8")])
        head, foreign = told.store.head(), other.store.head()
        assert head is not None and foreign is not None
        told.store._head = replace(head, checkpoint=foreign.checkpoint)
        with pytest.raises(TamperError):
            replay(told)
        told.store._head = replace(head, root=foreign.root)
        with pytest.raises(TamperError, match="another root"):
            replay(told)
        for basis in (4, 12):
            told.store._head = head
            assert replay(told, basis=basis).basis.tree_size == basis


def test_what_is_not_verified_is_not_checked(told: Story) -> None:
    told.store._rows[0] = CHANGES["salt"](told.store._rows[0])
    assert replay(told, verified=False).bindings["model"].asset_version == "model/m@2"
