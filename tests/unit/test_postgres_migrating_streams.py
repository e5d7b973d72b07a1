"""Migration 0004, which gives the streams of a ledger numbers: on ledgers that were there before.

The ledgers are real ones, made in a file and put into the tables as they were at 0003.
"""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from ledger.audit import verify
from ledger.errors import StoreError, TamperError, UnreachableError
from ledger.guard import Guard
from ledger.keys import GUARD_FILE
from ledger.opening import create_ledger, open_ledger
from ledger.store import Head, Row, Store
from ledger.stores.migrations import load_migrations
from ledger.stores.postgres import migrate, migrating
from ledger.verdict import Verdict
from tests.support.ledgers import note, notes
from tests.support.postgres import prepared

NAMES = ("one", "two")
STREAMS = ["ledger", *(f"note/{n}" for n in range(9)), "note/ü 🦉"]


@pytest.fixture
def before(
    pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[Head, list[Row]]]:
    """Two ledgers at 0003 in one database, with their keys in `tmp_path`: what is in each."""
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "load_migrations", lambda _: load_migrations("postgres")[:3])
        migrate(pg_database)
    return {name: made(pg_database, tmp_path / name, name) for name in NAMES}


def made(url: str, keys: Path, name: str) -> tuple[Head, list[Row]]:
    file = f"sqlite:///{keys}.db"
    with create_ledger(file, origin=f"ledger.example.com/{name}", keys=keys) as ledger:
        for at in range(0, 300, 60):
            batch = [note(f"{number}", f"note/{number % 9}") for number in range(at, at + 60)]
            ledger.writer.append(batch, idempotency_key=f"{at}")
        ledger.writer.append(notes(4, "note/ü 🦉"))
        head = ledger.store.head()
        assert head is not None
        with psycopg.connect(url) as connection:
            put(connection, ledger.store, head)
        return head, list(ledger.store.rows(0, head.size))


def put(connection: psycopg.Connection, store: Store, head: Head) -> None:
    """The content of a store, into the tables of 0003."""
    found = connection.execute(
        "SELECT asof.begin_ledger(%s, %s, %s, %s, %s, %s, %s)",
        (
            head.origin,
            head.size,
            head.root,
            head.last_leaf,
            head.recorded_at,
            b"".join(head.edge),
            head.checkpoint,
        ),
    ).fetchone()
    assert found is not None
    (number,) = found
    tables = {
        "entry (idx, recorded_at, actor, stream, type, version, commitment, salt, payload,"
        " leaf_hash, ledger)": store.rows(0, head.size),
        "tile (level, number, hashes, ledger)": store.tiles(),
        "key_use (key, body_digest, first_index, count, tree_size, ledger)": store.key_uses(),
        "follower (name, position, ledger)": [("asof/schema", 3)],
    }
    with connection.cursor() as cursor:
        for table, rows in tables.items():
            values = ", ".join(["%s"] * (table.count(",") + 1))
            cursor.executemany(
                f"INSERT INTO asof.{table} VALUES ({values})".encode(),
                [(*row, number) for row in rows],
            )


def asked(url: str, statement: str, *, damaging: bool = False) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        if damaging:
            connection.execute("ALTER TABLE asof.entry DISABLE TRIGGER USER")
        return connection.execute(statement.encode()).fetchall()


def test_ledgers_that_were_there_are_what_they_were(
    pg_database: str, tmp_path: Path, before: dict[str, tuple[Head, list[Row]]]
) -> None:
    url = prepared(pg_database)
    for name, (head, rows) in before.items():
        keys = tmp_path / name
        with open_ledger(url, keys=keys, write=False) as ledger:
            assert ledger.store.head() == head
            assert list(ledger.store.rows(0, head.size)) == rows
            assert list(ledger.store.streams()) == STREAMS
            for stream in STREAMS:
                found = list(ledger.store.stream_rows(stream))
                assert found == [row for row in rows if row.stream == stream]
            report = verify(ledger.store, vkey=ledger.vkey, guard=Guard(keys / GUARD_FILE))
            assert report.result is Verdict.VALID, report.findings
        with open_ledger(url, keys=keys) as ledger:
            told = ledger.reader.entry(head.size)
            assert told.type == "migration.applied/1"
            assert told.data is not None and told.data["migration"] == "0004_streams"
            ledger.writer.append([note("more", "note/3"), note("new", "note/new")])
            assert ledger.reader.stream_version("note/3") == 34
            assert verify(ledger.store, vkey=ledger.vkey).result is Verdict.VALID


def test_a_migration_that_is_killed_leaves_what_was_there(
    pg_database: str, tmp_path: Path, before: dict[str, tuple[Head, list[Row]]]
) -> None:
    """Killed at its last statement, the note that it was applied, when all else was done."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            migrate(pg_database)
        except BaseException as exc:
            failures.append(exc)

    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
        "current_database() AND query LIKE 'INSERT INTO asof.migration%'"
    )
    with psycopg.connect(pg_database) as holding:
        holding.execute("LOCK TABLE asof.migration IN SHARE MODE")
        thread = threading.Thread(target=work)
        thread.start()
        while not (found := asked(pg_database, waiting)):
            assert thread.is_alive()
        asked(pg_database, f"SELECT pg_terminate_backend({found[0][0]}, 5000)")
        thread.join()
    assert [type(exc) for exc in failures] == [UnreachableError]
    assert asked(pg_database, "SELECT max(number) FROM asof.migration") == [(3,)]
    assert asked(pg_database, "SELECT stream FROM asof.entry WHERE idx = 1") == [("note/0",)] * 2
    assert asked(pg_database, "SELECT to_regclass('asof.stream')") == [(None,)]
    test_ledgers_that_were_there_are_what_they_were(pg_database, tmp_path, before)


@pytest.mark.parametrize(
    ("damage", "entry"),
    [
        ("DELETE FROM asof.entry WHERE idx = 2 AND ledger = 2", 11),
        ("UPDATE asof.entry SET stream = 'note/eve' WHERE idx = 30 AND ledger = 2", 30),
    ],
)
@pytest.mark.usefixtures("before")
def test_a_damaged_ledger_is_not_carried_over(pg_database: str, damage: str, entry: int) -> None:
    """Nothing is changed then, so that the evidence stays where it is."""
    asked(pg_database, f"{damage} RETURNING idx", damaging=True)
    with pytest.raises(TamperError, match=f"entry {entry} of ledger 2 has no first entry"):
        migrate(pg_database)
    assert asked(pg_database, "SELECT max(number) FROM asof.migration") == [(3,)]
    assert len(asked(pg_database, "SELECT stream FROM asof.entry")) >= 600


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT idx, stream FROM asof.entry",
        "COPY asof.entry (idx, stream) FROM STDIN",
        f"SELECT asof.advance({', '.join(['NULL'] * 19)})",
        f"SELECT asof.append({', '.join(['NULL'] * 28)})",
    ],
)
def test_what_a_program_of_before_says_is_refused(pg_url: str, statement: str) -> None:
    """One that is running meanwhile: a new one does not get past the check of the migrations."""
    with psycopg.connect(pg_url) as connection:
        with pytest.raises((psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)):
            connection.execute(statement.encode())


def test_a_program_of_before_does_not_open_it(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.stores.postgres import checks

    create_ledger(pg_url, keys=tmp_path / "keys").close()
    monkeypatch.setattr(checks, "load_migrations", lambda _: load_migrations("postgres")[:3])
    for write in (True, False):
        with pytest.raises(StoreError, match="migrated by a newer asof"):
            open_ledger(pg_url, keys=tmp_path / "keys", write=write)
