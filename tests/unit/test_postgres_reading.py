"""What a question asks of the PostgreSQL store in one round trip each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from ledger.errors import TamperError
from ledger.stores.postgres import PostgresStore
from tests.support.stores import ORIGIN, append_rows, first_head, made_rows

NAMES = ["note/a", "note/b", "note/a", "note/c", "note/a", "note/b", "note/x", "note/a"]


@pytest.fixture
def store(pg_url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore.open(pg_url, ORIGIN)) as store:
        store.create(replace(first_head(), recorded_at=0))
        yield store


def test_rows_of_any_indexes_at_once(store: PostgresStore) -> None:
    rows = made_rows(NAMES)
    append_rows(store, rows)
    assert store.rows_at([]) == []
    assert store.rows_at([5, 0, 5, 2]) == [rows[0], rows[2], rows[5]]
    assert store.rows_at({len(NAMES), -1, 7, 1 << 70}) == [rows[7]]


def test_what_was_known_at_an_instant(store: PostgresStore) -> None:
    assert store.index_at(10**18) == 0
    rows = [row._replace(recorded_at=10 * (row.index // 3)) for row in made_rows(NAMES)]
    append_rows(store, rows)
    for instant in range(-1, 32):
        assert store.index_at(instant) == sum(row.recorded_at <= instant for row in rows)


def test_an_entry_that_is_missing_is_met_on_the_way(
    store: PostgresStore, postgres: object, pg_url: str
) -> None:
    append_rows(store, made_rows(NAMES))
    admin = pg_url.replace("asof_app@", "postgres@")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("ALTER TABLE asof.entry DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM asof.entry WHERE idx = 4")
    with pytest.raises(TamperError, match=r"entry 4: .*it is missing"):
        store.index_at(50)
