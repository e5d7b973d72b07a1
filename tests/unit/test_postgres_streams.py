"""Streams as numbers in the PostgreSQL store: who gives them, what is remembered, what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from ledger.errors import ConflictError, HeadMovedError, UnreachableError
from ledger.store import Forecast, Row
from ledger.stores.postgres import PostgresStore, stream_numbers
from ledger.stores.postgres.store import ROWS_A_PIECE
from ledger.stores.postgres.stream_numbers import StreamNumbers
from ledger.stores.postgres.transaction import COPY_FROM
from ledger.stores.statements import load_statements
from tests.support.stores import ORIGIN, append_rows, first_head, key_use, made_head, made_rows

MANY = COPY_FROM + 1
SQL = load_statements("postgres")


@pytest.fixture
def store(pg_url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore.open(pg_url, ORIGIN)) as opened:
        opened.create(first_head())
        yield opened


def named(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT name, number FROM asof.stream").fetchall())


def numbers_of_rows(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT stream_number FROM asof.entry ORDER BY idx").fetchall()
    return [number for (number,) in found]


def check_numbered(url: str, rows: list[Row]) -> None:
    """By the plainest reading of the rule: the index of the first entry that names the stream."""
    firsts: dict[str, int] = {}
    for row in rows:
        firsts.setdefault(row.stream, row.index)
    assert named(url) == firsts
    assert numbers_of_rows(url) == [firsts[row.stream] for row in rows]


# --------------------------------------------------------------------------- what is remembered


def test_what_is_under_way_can_be_built_upon_and_fails_as_a_whole() -> None:
    numbers = StreamNumbers()
    numbers.learn({"a": 1})
    first, second = {"b": 5}, {"c": 6}
    numbers.give(first)
    assert numbers.among({"a", "b", "x"}) == {"a": 1, "b": 5}
    numbers.give(second)
    assert numbers.among({"a", "b", "c"}) == {"a": 1, "b": 5, "c": 6}
    numbers.take_back(first)
    numbers.take_back(second)
    numbers.take_back({"a": 1})
    assert numbers.among({"a", "b", "c"}) == {"a": 1}
    numbers.give(again := {"b": 7})
    numbers.keep(again)
    assert numbers.among({"b"}) == {"b": 7} and numbers._under_way == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_numbers, "MAX_KNOWN", 10)
    numbers = StreamNumbers()
    numbers.give(given := {"under way": 99})
    for number in range(1000):
        numbers.learn({f"{number}": number})
        assert len(numbers._known) <= 10 and numbers.among({f"{number}"}) == {f"{number}": number}
    assert numbers.among(given) == given


# ------------------------------------------------------------------------------- who gives them


@pytest.mark.parametrize("count", [1, 150, 700])
def test_a_number_is_the_index_of_the_first_entry(
    store: PostgresStore, pg_url: str, count: int
) -> None:
    rows = made_rows([f"note/{number * number % 23}" for number in range(2 * count)])
    append_rows(store, rows[:count])
    append_rows(store, rows[count:])
    check_numbered(pg_url, rows)
    assert store.check_integrity() == []


def test_streams_that_another_process_began_are_asked_for(
    store: PostgresStore, pg_url: str
) -> None:
    rows = made_rows(["note/a", "note/b", "note/a", "note/b", "note/a"])
    append_rows(store, rows[:1])
    with closing(PostgresStore.open(pg_url, ORIGIN)) as other:
        append_rows(other, rows[1:3])
    with store.transaction(Forecast(head=made_head(1), streams={"note/b"})) as transaction:
        assert transaction.stream_versions(["note/b", "note/c"]) == {"note/b": 1, "note/c": 0}
        transaction.write(rows[3:], [], made_head(5), [])
    check_numbered(pg_url, rows)


@pytest.mark.parametrize("trusted", [True, False])
def test_what_was_forgotten_is_asked_in_the_middle_of_a_copy(
    store: PostgresStore, pg_url: str, trusted: bool
) -> None:
    """Another COPY of the same transaction goes on where the first one had to stop."""
    names = [f"old/{number}" for number in range(5)]
    more = ["new/1"] * 100 + names[:2] * 50 + ["new/2"] * 50 + names * 30 + ["new/1"] * 9
    rows = made_rows(names + more)
    append_rows(store, rows[:5])
    before = store.head()
    with closing(PostgresStore.open(pg_url, ORIGIN)) as other:
        with other.transaction(Forecast(head=before, trusted=trusted)) as transaction:
            for start in range(5, 300, 50):
                transaction.ahead(rows[start : start + 50], of=len(more))
            assert store.head() == before
            transaction.write(rows[5:], [], made_head(len(rows), recorded_at=10**6), [])
        assert list(other.rows(0, 10**4)) == rows
    check_numbered(pg_url, rows)


@pytest.mark.parametrize("count", [1, MANY])
def test_a_row_that_follows_nothing_is_refused(store: PostgresStore, count: int) -> None:
    rows = made_rows(["note/a"] * count + ["note/b"])
    rows[-1] = rows[-1]._replace(version=4)
    with pytest.raises(ConflictError, match="'note/b' has no entry that could be followed"):
        append_rows(store, rows)
    with pytest.raises(ConflictError, match="'note/b' has no entry"), store.transaction() as begun:
        begun.head()
        begun.ahead(rows[:-1], of=MANY + 1)
        begun.ahead(rows[-1:], of=MANY + 1)
    assert store.head() == made_head(0) and list(store.streams()) == []
    append_rows(store, rows[:-1])


@pytest.mark.parametrize("count", [1, MANY])
def test_an_append_that_fails_takes_its_numbers_with_it(
    store: PostgresStore, pg_url: str, count: int
) -> None:
    append_rows(store, made_rows(["note/a"]), keys=[key_use("k", 0)])
    for more in ({"keys": [key_use("k", 1)]}, {"head": made_head(7)}):
        with (
            pytest.raises((ConflictError, HeadMovedError)),
            store.transaction(Forecast(head=more.get("head", store.head()), trusted=True)) as begun,
        ):
            start = begun.head().size
            rows = made_rows(["note/new"] * count, start=start)
            begun.write(rows, [], made_head(start + count, recorded_at=900), more.get("keys", []))
    assert store._numbers.among({"note/new"}) == {} and store._numbers._under_way == []
    with closing(PostgresStore.open(pg_url, ORIGIN)) as other:
        append_rows(other, made_rows(["note/b", "note/new"], start=1))
    append_rows(store, made_rows(["note/new"] * count, start=3, before={"note/new": 1}))
    assert [row.stream for row in store.rows(1, 4)] == ["note/b", "note/new", "note/new"]
    assert numbers_of_rows(pg_url) == [0, 1, *[2] * (count + 1)]


def test_a_name_that_is_there_is_not_begun_again(store: PostgresStore, pg_url: str) -> None:
    append_rows(store, made_rows(["note/a"]))
    for count in (1, MANY):
        rows = made_rows(["note/a", *["note/b"] * count], start=1)
        with pytest.raises(ConflictError, match="refused the write"):
            append_rows(store, rows)
    assert named(pg_url) == {"note/a": 0}


def test_a_new_connection_remembers_nothing(
    store: PostgresStore, pg_database: str, pg_url: str
) -> None:
    append_rows(store, made_rows(["note/a"]))
    assert store._numbers.among({"note/a"}) == {"note/a": 0}
    with psycopg.connect(pg_database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with store.transaction():
        assert store._numbers.among({"note/a"}) == {}
    append_rows(store, made_rows(["note/a"], start=1, before={"note/a": 1}))
    assert numbers_of_rows(pg_url) == [0, 0]


def test_a_connection_that_is_lost_while_streams_are_asked_for(
    store: PostgresStore, pg_database: str
) -> None:
    append_rows(store, made_rows(["note/a"]))
    store._numbers = StreamNumbers()
    with (
        pytest.raises(UnreachableError),
        store.transaction(Forecast(head=store.head(), trusted=True)) as begun,
    ):
        with psycopg.connect(pg_database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        rows = made_rows(["note/a"], start=1, before={"note/a": 1})
        begun.write(rows, [], made_head(2), [])
    assert store.head() == made_head(1)


# ---------------------------------------------------------------------------------- the database


@pytest.mark.parametrize(
    ("number", "version"),
    [(1, 2), (2, 2), (0, 1), (-1, 2), (1, 0)],
)
def test_the_table_refuses_a_number_that_cannot_be(
    store: PostgresStore, pg_database: str, number: int, version: int
) -> None:
    """Of entry 1: a first entry that is numbered otherwise, a later one that is, one ahead."""
    append_rows(store, made_rows(["note/a"]))
    with psycopg.connect(pg_database) as connection:
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "INSERT INTO asof.entry (idx, recorded_at, stream_number, ledger, version, actor, "
                "type, commitment, leaf_hash) SELECT 1, recorded_at, %s, ledger, %s, actor, type, "
                "commitment, leaf_hash FROM asof.entry",
                (number, version),
            )


@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_stream_is_named_with_its_first_entry_only(
    store: PostgresStore, pg_url: str, number: int
) -> None:
    """The writer's role calls `advance` itself, with a number that is not of this append."""
    append_rows(store, made_rows(["note/a"]))
    nothing = ", ".join(["'{}'"] * 10)
    call = (
        "SELECT asof.advance(id, size, root, size + 1, last_leaf, last_leaf, recorded_at, edge, "
        f"checkpoint, {nothing}, '{{note/eve}}', '{{{number}}}') FROM asof.ledger"
    )
    with psycopg.connect(pg_url) as connection:
        with pytest.raises(psycopg.errors.IntegrityError, match="named with its first entry"):
            connection.execute(call.encode())
    assert named(pg_url) == {"note/a": 0}


@pytest.mark.parametrize(
    ("name", "values", "index"),
    [
        ("rows", (1, 0, 4096, 4096), "entry_pkey on entry"),
        ("names", (1, [5, 2000]), "stream_pkey on stream"),
        ("rows_at", (1, [5, 2000]), "stream_pkey on stream"),
        (
            "stream_rows",
            {"ledger": 1, "stream": "note/7", "after": 0, "most": 10},
            "stream_ledger_name_key on stream",
        ),
        ("stream_version", {"ledger": 1, "stream": "note/7"}, "stream_ledger_name_key on stream"),
    ],
)
def test_a_plan_of_the_first_day_is_not_kept(
    store: PostgresStore, name: str, values: Any, index: str
) -> None:
    """Each question is asked often enough to be prepared while there is nothing, and no statistics
    are there when there is much."""
    with store._reading() as connection:
        for _ in range(12):
            connection.execute(SQL[name], values)
        append_rows(store, made_rows([f"note/{number}" for number in range(3000)]))
        for _ in range(12):
            plan = connection.execute(f"EXPLAIN {SQL[name]}".encode(), values).fetchall()
        words = " ".join(line for (line,) in plan)
        assert f"using {index}" in words and "Seq Scan" not in words
        assert connection.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)


def test_names_come_in_pieces_as_long_as_the_prefix_lasts(store: PostgresStore) -> None:
    names = [f"b/{number:05}" for number in range(2 * ROWS_A_PIECE)]
    append_rows(store, made_rows(["a/1", "c/1", *names, "b", "🦉/x"]))
    assert list(store.streams("b/")) == names
    assert list(store.streams("b")) == ["b", *names]
    assert list(store.streams()) == ["a/1", "b", *names, "c/1", "🦉/x"]
    assert list(store.streams("b/00001")) == ["b/00001"]
