"""docs/spec/projections.md, rules 7 to 13 and 21 to 24: what an index promises wherever it lies."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from ledger.errors import ConflictError, StoreError, TamperError
from ledger.reader import Reader
from projections import index as index_module
from projections import indexing as indexing_module
from projections.index import Index, PausedError, up_to_date
from projections.replay import replayed
from projections.state import state
from projections.tables import MovedError, Tables, UnfitRowError
from scripts.clusters import Server
from tests.support.histories import SECOND, START, Step, draft, written
from tests.support.indexes import Indexes, InPostgres
from tests.support.postgres import database_of, prepared
from tests.support.story import NOW, STREAM, Story, changed, story

ASKED = ("demand", "live")


@pytest.fixture
def told() -> Iterator[Story]:
    with story() as it:
        yield it


def model(told: Story, index: Index) -> str:
    return state(told.reader, index, *ASKED, now=NOW).bindings["model"].asset_version


def contents(index: Index) -> dict[str, str]:
    """A digest of every table of the live build, as a rebuild compares them."""
    tables = index._tables
    with tables.writing() as build:
        return tables.digests(build.number)


def test_it_lasts_and_goes_on_where_it_stopped(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as index:
        assert index.catch_up() == 12
    told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
    seen: list[tuple[int, int]] = []
    with closing(indexes.open(told.reader)) as index:
        assert index.size() == 12
        index.catch_up(lambda done, of: seen.append((done, of)))
        assert seen == [(13, 13)]
        assert model(told, index) == "model/m@3"


def test_a_question_brings_it_up_to_date(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as index:
        assert model(told, index) == "model/m@2"
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        assert model(told, index) == "model/m@3"


def test_an_answer_leaves_nothing_for_the_collector(told: Story, indexes: Indexes) -> None:
    """What a question leaves in a circle waits, with all that it holds, for a collection that stops
    some later question for 20 ms."""
    with closing(indexes.open(told.reader)) as index:
        model(told, index)
        gc.collect()
        gc.disable()
        try:
            model(told, index)
            assert gc.collect() == 0
            circle: list[object] = []
            circle.append(circle)
            del circle
            assert gc.collect() == 1  # the count can fail
        finally:
            gc.enable()


def test_batches_of_any_size_give_the_same_rows(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for size in (1, 2, 5, 1000):
        monkeypatch.setattr(index_module, "BATCH", size)
        with closing(indexes.open(told.reader, f"by {size}")) as index:
            index.catch_up()
            found.add(tuple(contents(index).items()))
    assert len(found) == 1
    with closing(indexes.open(told.reader, "shorter")) as index:
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        index.catch_up()
        assert tuple(contents(index).items()) not in found  # the comparison can fail


def test_the_planner_knows_what_was_indexed(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    with closing(indexes.open(told.reader)) as index:
        analyze = index._tables.analyze
        monkeypatch.setattr(index._tables, "analyze", lambda: (asked.append(1), analyze()))
        index.catch_up()
        assert asked == []  # a dozen entries are no reason
        index.drop()
        monkeypatch.setattr(index_module, "BATCH", 10)
        assert planned(indexes) in (0, None)
        index.catch_up()
        assert asked == [1] and planned(indexes) != 0
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        index.catch_up()
        assert asked == [1]  # it has not doubled


def planned(indexes: Indexes) -> int | None:
    """How many changes PostgreSQL's planner believes in; SQLite's believes in nothing."""
    if not isinstance(indexes, InPostgres):
        return None
    with psycopg.connect(indexes.url) as connection:
        (rows,) = connection.execute(
            "SELECT greatest(reltuples, 0)::int FROM pg_class"
            " WHERE oid = 'asof_projections.change_3_0'::regclass"
        ).fetchone() or (0,)
    return int(rows)


def test_two_may_share_it(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as one, closing(indexes.open(told.reader)) as two:
        assert (one.catch_up(), two.catch_up()) == (12, 12)
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        assert (two.catch_up(), one.catch_up()) == (13, 13)
        told.write(START + 101 * SECOND, [changed("new", "model/m@4")])
        assert (one.catch_up(), two.catch_up()) == (14, 14)
        assert model(told, one) == model(told, two) == "model/m@3"
        assert contents(one) == contents(two)


def test_many_that_begin_at_once_make_one(told: Story, indexes: Indexes) -> None:
    """Eight open and fill the same index, which is not there yet, at the same moment."""
    start = threading.Barrier(8)
    failed: list[BaseException] = []

    def begin() -> None:
        try:
            start.wait(20)
            with closing(indexes.open(told.reader, "many")) as index:
                assert index.catch_up() == 12
        except BaseException as error:
            failed.append(error)

    indexes.name("many")
    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with closing(indexes.open(told.reader, "many")) as many:
        with closing(indexes.open(told.reader, "one")) as one:
            one.catch_up()
            assert contents(many) == contents(one)


def test_another_process_may_be_ahead_of_what_we_saw(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We look at the size, the ledger grows, another process indexes it, we go on."""
    sizes = iter((7, 12, 7, 12))
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
        monkeypatch.setattr(told.reader, "size", lambda: next(sizes))
        assert index.catch_up() == 12


def test_rows_and_position_change_together(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that dies before its position is written leaves the batch before it."""
    monkeypatch.setattr(index_module, "BATCH", 5)
    with closing(indexes.open(told.reader)) as index:
        tables: Any = index._tables
        advance, calls = tables.advance, []

        def die(size: int, leaf_hash: bytes) -> None:
            calls.append(size)
            if len(calls) == 2:
                raise KeyboardInterrupt
            advance(size, leaf_hash)

        monkeypatch.setattr(tables, "advance", die)
        with pytest.raises(KeyboardInterrupt):
            index.catch_up()
        monkeypatch.setattr(tables, "advance", advance)
        assert index.size() == 5
        index.catch_up()
        assert model(told, index) == "model/m@2"
        with closing(indexes.open(told.reader, "fresh")) as fresh:
            fresh.catch_up()
            assert contents(fresh) == contents(index)


def test_another_ledgers_index_is_refused_and_rebuilt_on_request(
    told: Story, indexes: Indexes
) -> None:
    with written([Step(gap=1, events=())], origin="other.example/l") as other:
        with closing(indexes.open(other)) as index:
            index.catch_up()
    with closing(indexes.open(told.reader)) as index:
        with pytest.raises(ConflictError, match=r"belongs to the ledger 'other\.example/l'"):
            index.catch_up()
        assert index.rebuild().size == 12
        assert model(told, index) == "model/m@2"


class _Shorter(Reader):
    """The same ledger as it was earlier: what a restored backup looks like."""

    def size(self) -> int:
        return 7


def test_a_ledger_that_was_rolled_back_is_noticed(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
    shorter = _Shorter(told.store, told.reader.vkey)
    with closing(indexes.open(shorter)) as index:
        with pytest.raises(TamperError, match="a history that this ledger does not hold") as caught:
            index.catch_up()
    assert caught.value.index == 11
    assert caught.value.expected == told.reader.leaf_hash(11).hex()
    assert caught.value.found == "no such entry"


def test_a_rewritten_ledger_is_noticed_and_the_index_built_again(
    told: Story, indexes: Indexes
) -> None:
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
    said: list[str] = []
    with story() as other:
        other.write(START + 95 * SECOND, [changed("model", "model/m@7")])
        opened = up_to_date(indexes.open(other.reader), notice=said.append)
        with closing(opened) as index:
            assert model(other, index) == "model/m@7"
            assert index.size() == 13
    assert len(said) == 1 and "the index is built again" in said[0]
    assert told.reader.leaf_hash(11).hex() in said[0]


# --- building it again ------------------------------------------------------------------------


def test_a_rebuild_is_compared_and_switched(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
        before = contents(index)
        (old,) = index.builds()
        assert index.rebuild() == (12, ())
        (new,) = index.builds()
        assert new.number > old.number and new.live and new.size == 12
        assert contents(index) == before
        assert model(told, index) == "model/m@2"
        told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
        assert model(told, index) == "model/m@3"  # it goes on where the rebuild came to
        assert index.rebuild() == (13, ())


def test_a_rebuild_says_where_the_index_was_wrong(told: Story, indexes: Indexes) -> None:
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
        with index._tables.writing():
            index._tables.add("add_unreadable", [(1, 3)])
        assert index.rebuild() == (12, ("unreadable",))
        assert index.rebuild() == (12, ())


def test_a_rebuild_of_one_ledger_leaves_the_others(told: Story, indexes: Indexes) -> None:
    with (
        closing(indexes.open(told.reader, "one")) as one,
        closing(indexes.open(told.reader, "other")) as other,
    ):
        one.catch_up()
        other.catch_up()
        before = contents(other)
        one.rebuild()
        one.drop()
        assert one.size() == 0
        assert contents(other) == before
        assert model(told, other) == "model/m@2"
        assert model(told, one) == "model/m@2"  # the question has built it again


def test_an_answer_says_of_which_build_it_is(told: Story, indexes: Indexes) -> None:
    """Whatever another process did with the build of which we heard last."""
    asked = ("records", {"refs": ["model/m@1"], "known": 12})
    with (
        closing(indexes.open(told.reader)) as index,
        closing(indexes.open(told.reader)) as other,
    ):
        tables = index._tables
        assert tables.ask_one(asked)[1:] == (0, [])  # there is a build, and nothing is in it
        index.catch_up()
        build, size, rows = tables.ask_one(asked)
        assert (size, len(rows)) == (12, 1) and [build] == [one.number for one in index.builds()]
        with tables.reading():
            assert tables.ask_one(asked) == (build, size, rows)
        for _ in range(2):  # from the shared tables to others, and from those, which are dropped
            other.rebuild()
            (live,) = other.builds()
            assert live.number > build
            build = live.number
            assert tables.ask_one(asked) == (build, 12, rows)
        assert tables.ask_one(("records", {"refs": ["model/m@9"], "known": 12})) == (build, 12, [])
        other.drop()
        assert tables.ask_one(asked)[1:] == (0, [])
        assert model(told, index) == "model/m@2"  # the question has built it again


def test_a_state_is_of_one_build(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another goes live between the two questions of a state: then both are asked again."""
    with (
        closing(indexes.open(told.reader)) as index,
        closing(indexes.open(told.reader)) as other,
    ):
        index.catch_up()
        with index._tables.writing():
            index._tables.add("add_dead_letter", [(0, "a build of its own")])
        named: list[tuple[int, bool]] = []
        deciding = index.deciding

        def meanwhile(*asked: Any) -> Any:
            found = deciding(*asked)
            named.append((found[0], 0 in found[1]))
            if len(named) == 1:
                other.rebuild()
            return found

        monkeypatch.setattr(index, "deciding", meanwhile)
        assert model(told, index) == "model/m@2"
        (live,) = index.builds()
        assert [build for build, _ in named][1:] == [live.number]
        assert [dead for _, dead in named] == [True, False]


def test_a_state_asks_postgres_twice(
    told: Story, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two statements, however many slots; more only where another build went live meanwhile."""
    said: list[object] = []
    execute = psycopg.Connection.execute

    def noted(self: Any, query: Any, *values: Any, **options: Any) -> Any:
        said.append(query)
        return execute(self, query, *values, **options)

    with ExitStack() as stack:
        indexes = InPostgres(prepared(stack.enter_context(database_of(postgres))))
        index = stack.enter_context(closing(indexes.open(told.reader)))
        other = stack.enter_context(closing(indexes.open(told.reader)))
        index.catch_up()
        other.rebuild()
        monkeypatch.setattr(psycopg.Connection, "execute", noted)
        model(told, index)
        assert "BEGIN" in said  # it heard that the build is another one
        said.clear()
        model(told, index)
        assert len(said) == 2


def test_a_ledger_that_shrinks_under_a_question_is_told(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(indexes.open(told.reader)) as index:
        monkeypatch.setattr(told.reader, "size", lambda: 7)
        with pytest.raises(StoreError, match="had 12 entries a moment ago and gives 7 now"):
            model(told, index)


class _Meanwhile:
    """The fresh build's tables, with something happening before the switch."""

    def __init__(self, tables: Tables, act: Any) -> None:
        self._tables, self._act = tables, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    def finish_load(self) -> None:
        self._tables.finish_load()
        self._act()


def test_what_was_indexed_during_a_rebuild_is_not_lost(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(indexes.open(told.reader)) as index,
        closing(indexes.open(told.reader)) as live,
    ):
        index.catch_up()

        def go_on() -> None:
            told.write(START + 100 * SECOND, [changed("model", "model/m@3")])
            live.catch_up()
            assert model(told, live) == "model/m@3"  # answered from the build that is live

        begin = index._tables.begin_build
        monkeypatch.setattr(
            index._tables, "begin_build", lambda: _Meanwhile(begin(), go_on), raising=True
        )
        assert index.rebuild() == (13, ())
        assert model(told, live) == model(told, index) == "model/m@3"


def test_a_second_rebuild_takes_the_place_of_the_first(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(indexes.open(told.reader)) as index,
        closing(indexes.open(told.reader)) as other,
    ):
        index.catch_up()
        begin = index._tables.begin_build
        monkeypatch.setattr(
            index._tables, "begin_build", lambda: _Meanwhile(begin(), other.rebuild), raising=True
        )
        with pytest.raises(MovedError):
            index.rebuild()
        assert model(told, index) == model(told, other) == "model/m@2"
        assert len(index.builds()) == 1


def test_a_rebuild_that_died_is_cleared_away_by_the_next(
    told: Story, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
        with pytest.raises(KeyboardInterrupt):
            index.rebuild(progress=die)
        assert [build.live for build in index.builds()] == [True, False]
        assert model(told, index) == "model/m@2"
        assert index.rebuild() == (12, ())
        assert [build.live for build in index.builds()] == [True]


# --- what cannot be applied -------------------------------------------------------------------


@pytest.fixture
def stumbling(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Indexing stumbles over the entries named in this list, as over a mistake of our own."""
    bad = [7]
    real = indexing_module.fact_of

    def fact_of(row: Any) -> Any:
        if row[0] in bad:
            raise KeyError("no rule for it")
        return real(row)

    monkeypatch.setattr(indexing_module, "fact_of", fact_of)
    yield bad


def test_a_dead_letter_is_read_with_every_state(
    told: Story, indexes: Indexes, stumbling: list[int]
) -> None:
    """Entry 7 binds the model: the index does not have it, the answer does."""
    with closing(indexes.open(told.reader)) as index:
        assert index.catch_up() == 12
        assert index.dead_letters() == [(7, "KeyError: 'no rule for it'")]
        found = state(told.reader, index, *ASKED, now=NOW)
        assert found.bindings["model"].asset_version == "model/m@2"
        assert found.as_json() == replayed(told.reader, *ASKED, now=NOW).as_json()


def test_a_paused_index_says_so_and_goes_on_when_it_can(
    told: Story, indexes: Indexes, stumbling: list[int]
) -> None:
    with closing(Index(indexes.tables(told.reader), told.reader, on_unfit="pause")) as index:
        for _ in range(2):
            with pytest.raises(PausedError, match="stands before entry 7, which it cannot apply"):
                index.catch_up()
            assert index.size() == 7
            assert [letter.entry for letter in index.dead_letters()] == [7]
        stumbling.clear()
        assert index.catch_up() == 12
        assert index.dead_letters() == []
        assert model(told, index) == "model/m@2"


def test_too_many_dead_letters_are_no_accident(
    told: Story, indexes: Indexes, stumbling: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "MOST_DEAD_LETTERS", 2)
    stumbling[:] = [3, 4, 5]
    with closing(indexes.open(told.reader)) as index:
        with pytest.raises(PausedError, match="entry 5"):
            index.catch_up()
        assert index.size() == 5


def test_a_rebuild_stops_at_the_first_error(
    told: Story, indexes: Indexes, stumbling: list[int]
) -> None:
    with closing(indexes.open(told.reader)) as index:
        index.catch_up()
        with pytest.raises(UnfitRowError, match="no rule for it"):
            index.rebuild()
        assert index.size() == 12
        assert model(told, index) == "model/m@2"


def test_text_that_a_database_cannot_hold(told: Story, indexes: Indexes) -> None:
    """PostgreSQL holds no U+0000. The entry becomes a dead letter; the answers are the same."""
    odd = {"pipeline": "demand", "stage": "live", "slot": "a\0b", "asset_version": "model/m@1"}
    told.write(
        START + 100 * SECOND,
        [
            changed("model", "model/m@3"),
            draft("binding.changed/1", STREAM, "user:ann", odd),
            changed("model", "model/m@4"),
        ],
    )
    with closing(indexes.open(told.reader)) as index:
        assert index.catch_up() == 15
        letters = [letter.entry for letter in index.dead_letters()]
        assert letters == ([13] if indexes.kind == "postgres" else [])
        found = state(told.reader, index, *ASKED, now=NOW)
        assert found.as_json() == replayed(told.reader, *ASKED, now=NOW).as_json()
        assert found.bindings["a\0b"].asset_version == "model/m@1"
