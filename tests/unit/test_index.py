"""docs/spec/projections.md, rules 7 to 13: what the index file promises, and what happens to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import ConflictError, StoreError, TamperError
from ledger.reader import Reader
from projections import index as index_module
from projections.index import DamagedIndexError, Index, open_index
from projections.indexing import bucket_of
from projections.state import state
from tests.support.histories import SECOND, START, Step, written
from tests.support.story import NOW, Story, changed, story

ASKED = ("demand", "live")


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asof.db.index"


def model(told: Story, index: Index) -> str:
    return state(told.reader, index, *ASKED, now=NOW).bindings["model"].asset_version


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_it_lasts_and_goes_on_where_it_stopped(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        assert index.catch_up() == 12
    told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
    seen: list[tuple[int, int]] = []
    with closing(Index.open(path, told.reader)) as index:
        assert index.size() == 12
        index.catch_up(lambda done, of: seen.append((done, of)))
        assert seen == [(13, 13)]
        assert model(told, index) == "model/m@3"


def test_a_question_brings_it_up_to_date(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        assert model(told, index) == "model/m@2"
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        assert model(told, index) == "model/m@3"


def test_batches_of_any_size_give_the_same_file(
    told: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for size in (1, 2, 5, 1000):
        monkeypatch.setattr(index_module, "BATCH", size)
        files.append(tmp_path / f"{size}.index")
        with closing(Index.open(files[-1], told.reader)) as index:
            index.catch_up()
    assert len({tuple(dump(file)) for file in files}) == 1


def test_two_may_share_the_file(told: Story, path: Path) -> None:
    with (
        closing(Index.open(path, told.reader)) as one,
        closing(Index.open(path, told.reader)) as two,
    ):
        assert (one.catch_up(), two.catch_up()) == (12, 12)
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        assert (two.catch_up(), one.catch_up()) == (13, 13)
        assert model(told, one) == model(told, two) == "model/m@3"


def test_another_process_may_be_ahead_of_what_we_saw(
    told: Story, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We look at the size, the ledger grows, another process indexes it, we go on."""
    sizes = iter((7, 12, 7, 12))
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
        monkeypatch.setattr(told.reader, "size", lambda: next(sizes))
        assert index.catch_up() == 12


def test_rows_and_position_change_together(
    told: Story, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that dies before its position is written leaves the batch before it."""
    monkeypatch.setattr(index_module, "BATCH", 5)
    with closing(Index.open(path, told.reader)) as index:
        run, calls = index._run, []

        def die(name: str, *values: object) -> None:
            calls.append(name)
            if len(calls) == 2:
                raise KeyboardInterrupt
            run(name, *values)

        monkeypatch.setattr(index, "_run", die)
        with pytest.raises(KeyboardInterrupt):
            index.catch_up()
        assert index.size() == 5
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
        assert model(told, index) == "model/m@2"
    fresh = path.with_name("fresh.index")
    with closing(Index.open(fresh, told.reader)) as index:
        index.catch_up()
    assert dump(fresh) == dump(path)


def test_another_ledgers_index_is_refused_and_rebuilt_on_request(told: Story, path: Path) -> None:
    with written([Step(gap=1, events=())], origin="other.example/l") as other:
        with closing(Index.open(path, other)) as index:
            index.catch_up()
    with closing(Index.open(path, told.reader)) as index:
        with pytest.raises(ConflictError, match=r"belongs to the ledger 'other\.example/l'"):
            index.catch_up()
        assert index.rebuild() == 12
        assert model(told, index) == "model/m@2"


class _Shorter(Reader):
    """The same ledger as it was earlier: what a restored backup looks like."""

    def size(self) -> int:
        return 7


def test_a_ledger_that_was_rolled_back_is_noticed(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    shorter = _Shorter(told.store, told.reader.vkey)
    with closing(Index.open(path, shorter)) as index:
        with pytest.raises(TamperError, match="a history that this ledger does not hold") as caught:
            index.catch_up()
    assert caught.value.index == 11
    assert caught.value.expected == told.reader.leaf_hash(11).hex()
    assert caught.value.found == "no such entry"


def test_a_rewritten_ledger_is_noticed_and_the_index_built_again(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    said: list[str] = []
    with story() as other:
        other.write(START + 95 * SECOND, [changed("model", "model/m@7")])
        with closing(open_index(path, other.reader, notice=said.append)) as index:
            assert model(other, index) == "model/m@7"
            assert index.size() == 13
    assert len(said) == 1 and "the index is built again" in said[0]
    assert told.reader.leaf_hash(11).hex() in said[0]


def test_a_file_of_somebody_else_is_never_touched(told: Story, path: Path) -> None:
    for content in (b"my notes", b"SQLite format 3\x00" + bytes(200)):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="is not an index of asof"):
            open_index(path, told.reader)
        assert path.read_bytes() == content


def test_a_damaged_index_is_built_again(told: Story, path: Path) -> None:
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with (
        closing(Index.open(path, told.reader)) as damaged,
        pytest.raises(DamagedIndexError, match="delete it and ask again"),
    ):
        damaged.catch_up()
    said: list[str] = []
    with closing(open_index(path, told.reader, notice=said.append)) as index:
        assert model(told, index) == "model/m@2"
    assert len(said) == 1 and "it is built again" in said[0]


def test_a_place_that_cannot_be_written(told: Story, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used: unable to open"):
        Index.open(tmp_path / "missing" / "asof.db.index", told.reader)


def test_in_memory_without_a_path(told: Story) -> None:
    with closing(open_index(None, told.reader)) as index:
        assert model(told, index) == "model/m@2"


@given(st.integers(-10, 1 << 61))
def test_a_bucket_is_the_least_power_of_two(duration: int) -> None:
    bucket = bucket_of(duration)
    if duration <= 0:
        assert bucket == -1
    else:
        assert duration <= 1 << bucket
        assert bucket == 0 or duration > 1 << (bucket - 1)


def test_nothing_is_written_where_nothing_is_new(told: Story, path: Path) -> None:
    """So that a question never waits for another process that indexes."""
    with closing(Index.open(path, told.reader)) as index:
        index.catch_up()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(open_index(path, told.reader)) as index:
            assert model(told, index) == "model/m@2"


def test_a_file_that_may_not_be_written(
    told: Story, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"")
    monkeypatch.setattr(index_module.os, "access", lambda *_: False)
    said: list[str] = []
    with closing(open_index(path, told.reader, notice=said.append)) as index:
        assert model(told, index) == "model/m@2"
    assert path.read_bytes() == b""
    assert "building one in memory" in said[0]
