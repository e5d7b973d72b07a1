"""The contract of `ledger.store.Store` (docs/spec/store.md), asked of every store in one form."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.errors import ConflictError, NotFoundError, StoreError
from ledger.store import Forecast, Head, Row, Store, Tracked
from ledger.stores.memory import MemoryStore
from ledger.stores.postgres import PostgresStore
from ledger.stores.sqlite import ROWS_A_PIECE, SqliteStore
from tests.support.stores import (
    ORIGIN,
    append_rows,
    first_head,
    key_use,
    made_head,
    made_rows,
    made_tile,
)

Make = Callable[[], Store]
NAMES = ["note/a", "note/b", "note/a", "asset/model/ü", "note/a", "note/b", "🦉/x", "note/a"]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store in which no ledger has begun."""
    made: Store = MemoryStore()
    if request.param == "sqlite":
        made = SqliteStore.create_file(tmp_path / "asof.db")
    elif request.param == "postgres":
        made = PostgresStore.open(request.getfixturevalue("pg_url"), ORIGIN)
    with closing(made) as store:
        yield store


@pytest.fixture
def store(empty: Store) -> Store:
    """A store with a ledger without entries."""
    empty.create(first_head())
    return empty


# ------------------------------------------------------------------------------ beginning


def test_an_empty_store_has_no_head_and_answers_every_question(empty: Store) -> None:
    assert empty.head() is None
    assert list(empty.rows(0, 10)) == []
    assert list(empty.stream_rows("note/a")) == []
    assert list(empty.streams()) == []
    assert list(empty.tiles()) == []
    assert list(empty.key_uses()) == []
    assert empty.stream_version("note/a") == 0
    assert empty.leaf_hashes(0, 10) == b""
    assert empty.tile(0, 0) is None
    assert empty.key_use("k") is None
    assert empty.index_at(10**18) == 0
    assert empty.check_integrity() == []
    assert empty.check_integrity(deep=False) == []


def test_a_ledger_is_begun_once(empty: Store) -> None:
    head = first_head()
    empty.create(head)
    assert empty.head() == head
    with pytest.raises(ConflictError, match="already holds the ledger"):
        empty.create(first_head("ledger.example.com/other"))
    assert empty.head() == head


def test_nothing_is_appended_before_it_is_begun(empty: Store) -> None:
    with pytest.raises(NotFoundError, match="no ledger yet"), empty.transaction() as transaction:
        transaction.head()
    with pytest.raises(NotFoundError), empty.transaction() as transaction:
        transaction.write(made_rows(["note/a"]), [], made_head(1), [])


# ---------------------------------------------------------------------------------- order


def test_rows_come_back_in_order_and_byte_for_byte(store: Store) -> None:
    rows = made_rows(NAMES)
    head = append_rows(store, rows[:3])
    assert store.head() == head
    head = append_rows(store, rows[3:])
    assert store.head() == head
    assert list(store.rows(0, len(rows))) == rows
    assert all(type(row) is Row for row in store.rows(0, 100))
    assert list(store.rows(2, 5)) == rows[2:5]
    assert list(store.rows(-3, 2)) == rows[:2]
    assert list(store.rows(5, 2)) == []
    assert list(store.rows(100, 200)) == []
    assert [tuple(row) for row in store.raw_rows(2, 5)] == [tuple(row) for row in rows[2:5]]
    assert store.leaf_hashes(1, 4) == b"".join(row.leaf_hash for row in rows[1:4])
    assert store.leaf_hashes(-1, 99) == b"".join(row.leaf_hash for row in rows)


def test_a_stream_is_read_by_version(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows)
    ours = [row for row in rows if row.stream == "note/a"]
    assert list(store.stream_rows("note/a")) == ours
    assert list(store.stream_rows("note/a", 2)) == ours[2:]
    assert list(store.stream_rows("note/a", 1, 2)) == ours[1:3]
    assert list(store.stream_rows("note/a", 0, 0)) == []
    assert list(store.stream_rows("note/a", 99)) == []
    assert [store.stream_version(name) for name in ("note/a", "🦉/x", "none")] == [4, 1, 0]


def test_rows_of_any_indexes_at_once(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows)
    assert store.rows_at([]) == []
    assert store.rows_at([5, 0, 5, 2]) == [rows[0], rows[2], rows[5]]
    assert store.rows_at({len(NAMES), -1, 7, 1 << 70}) == [rows[7]]
    with store.transaction() as transaction:
        transaction.write(made_rows(["note/z"], start=len(NAMES)), [], made_head(9), [])
        assert store.rows_at([7, 8]) == [rows[7]]


def test_streams_are_named_once_in_code_point_order(store: Store) -> None:
    append_rows(store, made_rows(NAMES))
    assert list(store.streams()) == ["asset/model/ü", "note/a", "note/b", "🦉/x"]
    assert list(store.streams("note/")) == ["note/a", "note/b"]
    assert list(store.streams("note/b")) == ["note/b"]
    assert list(store.streams("nothing")) == []


def test_the_span_of_each_stream_up_to_a_size(store: Store) -> None:
    append_rows(store, made_rows(NAMES))
    assert list(store.stream_spans(0)) == []
    assert list(store.stream_spans(5)) == [
        ("asset/model/ü", 1, 1, 1),
        ("note/a", 3, 1, 3),
        ("note/b", 1, 1, 1),
    ]
    assert len(list(store.stream_spans(99))) == 4


def test_long_answers_are_streamed_whole(store: Store) -> None:
    many = 2 * ROWS_A_PIECE + 7
    rows = made_rows([f"note/{n:05}" for n in range(many)])
    append_rows(store, rows)
    same = made_rows(["note/same"] * many, start=many)
    append_rows(store, same, keys=[key_use(f"key {n:05}", n) for n in range(many)])
    assert list(store.rows(0, 2 * many)) == rows + same
    assert list(store.streams("note/0")) == [row.stream for row in rows]
    assert list(store.stream_rows("note/same")) == same
    assert len(list(store.stream_spans(2 * many))) == many + 1
    assert list(store.stream_rows("note/same", 1, ROWS_A_PIECE + 1)) == same[1 : ROWS_A_PIECE + 2]
    assert [use.key for use in store.key_uses()] == [f"key {n:05}" for n in range(many)]


def test_what_was_known_at_an_instant(store: Store) -> None:
    rows = [row._replace(recorded_at=10 * (row.index // 3)) for row in made_rows(NAMES)]
    append_rows(store, rows)
    for instant in range(-1, 32):
        known = sum(row.recorded_at <= instant for row in rows)
        assert store.index_at(instant) == known


def test_tiles_and_keys_are_kept(store: Store) -> None:
    tiles = [made_tile(0, 1), made_tile(0, 0), made_tile(1, 0)]
    uses = [key_use("k2", 0, count=2), key_use("k1", 2)]
    append_rows(store, made_rows(NAMES[:3]), tiles=tiles, keys=uses)
    assert store.tile(0, 1) == tiles[0].data
    assert store.tile(2, 0) is None
    assert list(store.tiles()) == sorted(tiles)
    assert store.key_use("k2") == uses[0]
    assert store.key_use("k3") is None
    assert list(store.key_uses()) == sorted(uses)
    with store.transaction() as transaction:
        assert transaction.key_uses(["k1", "k3"]) == {"k1": uses[1]}
        assert transaction.stream_versions(["note/a", "none"]) == {"note/a": 2, "none": 0}
        assert transaction.head() == store.head()


# ------------------------------------------------------------------------------ atomicity


def test_an_exception_undoes_the_transaction(store: Store) -> None:
    head = store.head()
    with pytest.raises(KeyboardInterrupt), store.transaction() as transaction:
        transaction.write(
            made_rows(NAMES), [made_tile(0, 0)], made_head(len(NAMES)), [key_use("k", 0)]
        )
        raise KeyboardInterrupt
    assert store.head() == head
    assert list(store.rows(0, 99)) == []
    assert store.tile(0, 0) is None
    assert store.key_use("k") is None
    assert store.stream_version("note/a") == 0
    append_rows(store, made_rows(NAMES))


def test_a_transaction_without_a_write_changes_nothing(store: Store) -> None:
    head = store.head()
    with store.transaction():
        pass
    assert store.head() == head


def test_nobody_sees_half_a_transaction(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows[:2])
    with store.transaction() as transaction:
        transaction.write(rows[2:], [], made_head(len(rows)), [])
        assert store.head() == made_head(2)
        assert len(list(store.rows(0, 99))) == 2
        assert store.stream_version("note/a") == 1
        assert list(store.streams()) == ["note/a", "note/b"]
        assert store.leaf_hashes(0, 99) == rows[0].leaf_hash + rows[1].leaf_hash
        assert store.index_at(10**18) == 2
    assert len(list(store.rows(0, 99))) == len(rows)


# ------------------------------------------------------------------------- what is refused


def refused(store: Store, rows: list[Row], head: Head, **more: object) -> None:
    before = store.head(), list(store.rows(0, 10**6)), list(store.tiles()), list(store.key_uses())
    with pytest.raises(ConflictError), store.transaction() as transaction:
        transaction.write(rows, more.get("tiles", ()), head, more.get("keys", ()))  # type: ignore[arg-type]
    after = store.head(), list(store.rows(0, 10**6)), list(store.tiles()), list(store.key_uses())
    assert after == before


def test_a_fork_is_refused(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows[:4])
    refused(store, rows[3:5], made_head(5))  # an index that is taken
    refused(store, rows[5:6], made_head(6))  # an index that leaves a gap
    refused(store, rows[4:6], made_head(7))  # a head of more than there is
    refused(store, [], made_head(4))  # nothing to append
    refused(store, [rows[4], rows[6]], made_head(6))  # a gap inside
    refused(store, [rows[4]._replace(version=2), *rows[5:]], made_head(8))  # a version taken
    refused(store, rows[4:5], replace(made_head(5), origin="ledger.example.com/other"))
    refused(store, rows[4:5], made_head(5, recorded_at=1))  # time that runs backwards
    append_rows(store, rows[4:])


def test_keys_and_tiles_are_written_once(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows[:2], tiles=[made_tile(0, 0)], keys=[key_use("k", 0)])
    refused(store, rows[2:3], made_head(3), keys=[key_use("k", 2)])
    refused(store, rows[2:3], made_head(3), keys=[key_use("l", 2), key_use("l", 2)])
    refused(store, rows[2:3], made_head(3), tiles=[made_tile(0, 0)])


def test_a_transaction_is_written_once(store: Store) -> None:
    rows = made_rows(NAMES)
    with pytest.raises(ConflictError), store.transaction() as transaction:
        transaction.write(rows[:2], [], made_head(2), [])
        transaction.write(rows[2:4], [], made_head(4), [])
    assert store.head() == made_head(0)


# ------------------------------------------------------------------------------- followers


def test_a_followers_position_is_written_with_the_entries_that_it_answers(store: Store) -> None:
    rows = made_rows(NAMES)
    assert store.tracked("billing") is None
    with store.transaction() as transaction:
        assert transaction.tracked(["billing"]) == {}
        transaction.write(rows[:2], [], made_head(2), [], [Tracked("billing", 7)])
    assert store.tracked("billing") == 7
    with store.transaction() as transaction:
        assert transaction.tracked(["billing", "other"]) == {"billing": 7}


@pytest.mark.parametrize("position", [7, 6, 0])
def test_a_follower_only_goes_on(store: Store, position: int) -> None:
    rows = made_rows(NAMES)
    store.track(Tracked("billing", 7))
    with pytest.raises(ConflictError, match="has come to 7"):
        store.track(Tracked("billing", position))
    with pytest.raises(ConflictError), store.transaction() as transaction:
        transaction.write(rows[:1], [], made_head(1), [], [Tracked("billing", position)])
    assert store.head() == made_head(0) and list(store.rows(0, 9)) == []
    store.track(Tracked("billing", 8))
    assert store.tracked("billing") == 8 and store.tracked("other") is None


# ---------------------------------------------------------------------------- what is foreseen


def test_a_forecast_that_is_right_changes_nothing(store: Store) -> None:
    rows = made_rows(NAMES)
    foreseen = Forecast(
        head=made_head(0), trusted=True, streams={"note/a"}, keys={"k"}, followers={"f"}
    )
    with store.transaction(foreseen) as transaction:
        assert transaction.head() == made_head(0)
        assert transaction.stream_versions(["note/a"]) == {"note/a": 0}
        assert transaction.key_uses(["k"]) == {} == transaction.tracked(["f"])
        transaction.write(rows[:3], [], made_head(3), [key_use("k", 0)], [Tracked("f", 1)])
    assert list(store.rows(0, 9)) == rows[:3]
    assert store.head() == made_head(3)


def test_a_forecast_that_is_wrong_writes_nothing(store: Store) -> None:
    """Either the store finds the head moved, or it asked itself and the rows do not fit."""
    rows = made_rows(NAMES)
    append_rows(store, rows[:3])
    with (
        pytest.raises(ConflictError),
        store.transaction(Forecast(head=made_head(0), trusted=True)) as transaction,
    ):
        transaction.write(rows[:3], [], made_head(3), [])
    assert list(store.rows(0, 9)) == rows[:3]
    with store.transaction(Forecast(head=made_head(0), streams={"note/a"})) as transaction:
        assert transaction.head() == made_head(3)
        assert transaction.leaf_hashes(0, 3) == b"".join(row.leaf_hash for row in rows[:3])
        assert transaction.leaf_hashes(1, 2) == rows[1].leaf_hash
        assert transaction.stream_versions(["note/a", "note/b"]) == {"note/a": 2, "note/b": 1}


def test_appends_that_go_ahead_are_durable_when_they_were_waited_for(store: Store) -> None:
    """The second is made, and may be sent, while the first is under way."""
    rows, sent = made_rows(NAMES), []
    for start, stop in ((0, 3), (3, 5), (5, len(NAMES))):
        foreseen = Forecast(head=made_head(start), trusted=True, ahead=True)
        with store.transaction(foreseen) as transaction:
            transaction.write(rows[start:stop], [], made_head(stop), [key_use(f"k{start}", start)])
        sent.append(transaction)
        assert store.works_elsewhere or transaction.answer_at is None
    for transaction in sent:
        transaction.wait()
        transaction.wait()
        assert transaction.answer_at is None
    assert list(store.rows(0, 99)) == rows and store.head() == made_head(len(NAMES))


def test_what_goes_ahead_on_another_head_writes_nothing(store: Store) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows[:3])
    with pytest.raises(ConflictError):
        foreseen = Forecast(head=made_head(0), trusted=True, ahead=True)
        with store.transaction(foreseen) as transaction:
            transaction.write(rows[:3], [], made_head(3), [])
        transaction.wait()
    assert list(store.rows(0, 9)) == rows[:3]
    store.track(Tracked("billing", 8))
    append_rows(store, rows[3:])


def test_a_second_door_shows_the_same_ledger(store: Store) -> None:
    append_rows(store, made_rows(NAMES))
    again = store.again()
    if again is None:
        assert isinstance(store, MemoryStore)
        return
    with closing(pickle.loads(pickle.dumps(again))()) as second:
        assert list(second.rows(0, 99)) == made_rows(NAMES)
        with pytest.raises(StoreError, match="reading only"), second.transaction():
            pass
        with pytest.raises(StoreError, match="reading only"):
            second.track(Tracked("f", 1))


# ----------------------------------------------------------------------------- concurrency


def test_transactions_take_turns(store: Store) -> None:
    """8 threads append 25 batches each, the head read under the lock: none is lost or doubled."""

    def append_batches() -> None:
        for _ in range(25):
            with store.transaction() as transaction:
                size = transaction.head().size
                version = transaction.stream_versions(["note/a"])["note/a"]
                rows = made_rows(["note/a"] * 3, start=size, before={"note/a": version})
                transaction.write(rows, [], made_head(size + 3), [])

    threads = [threading.Thread(target=append_batches) for _ in range(8)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        head = store.head()
        assert head is not None and head.size >= seen and head.size % 3 == 0
        seen = head.size
        assert len(store.leaf_hashes(0, seen)) == 32 * seen
    for thread in threads:
        thread.join()
    assert [row.version for row in store.rows(0, 10**6)] == list(range(1, 601))


def test_reading_does_not_wait_for_a_writer(store: Store) -> None:
    append_rows(store, made_rows(NAMES))
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction():
            begun.set()
            assert done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(20)
    assert len(list(store.rows(0, 99))) == len(NAMES)
    done.set()
    thread.join()


def test_a_stream_of_rows_goes_on_while_others_append(store: Store) -> None:
    rows = made_rows(["note/a"] * (ROWS_A_PIECE + 5))
    append_rows(store, rows[:-5])
    reading = store.rows(0, 10**6)
    first = next(reading)
    append_rows(store, rows[-5:])
    rest = list(reading)
    assert [first, *rest][:ROWS_A_PIECE] == rows[:-5]


# ---------------------------------------------------------------------------------- close


def test_after_close_everything_is_refused_clearly(store: Store) -> None:
    store.tend()
    store.close()
    store.close()
    for ask in (
        store.head,
        lambda: list(store.rows(0, 1)),
        lambda: store.rows_at([0]),
        lambda: list(store.stream_rows("a")),
        lambda: store.stream_version("a"),
        lambda: list(store.streams()),
        lambda: store.leaf_hashes(0, 1),
        lambda: store.tile(0, 0),
        lambda: list(store.tiles()),
        lambda: store.key_use("k"),
        lambda: list(store.key_uses()),
        lambda: store.tracked("f"),
        lambda: store.track(Tracked("f", 1)),
        lambda: store.index_at(0),
        store.check_integrity,
        lambda: store.create(first_head()),
        lambda: store.transaction().__enter__(),
    ):
        with pytest.raises(StoreError, match="closed"):
            ask()
    store.tend()
