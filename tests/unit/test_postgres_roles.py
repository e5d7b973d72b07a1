"""What each role of a PostgreSQL ledger may not do: hostile statements, executed for real.

Each statement runs as a login that is a member of one group, in a database that holds a ledger, and
must be refused; afterwards the ledger is what it was, to the last byte. What such a login may still
do is listed too, so that a change of it is noticed. The control runs the same list as the owner of
the database, whom nothing in it stops.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from ledger.opening import create_ledger
from ledger.stores.postgres import migrate
from tests.support.ledgers import notes
from tests.support.postgres import APP, prepared

GROUPS = ("writer", "reader", "auditor", "projector")
TABLES = ("ledger", "entry", "stream", "tile", "key_use", "follower", "migration")

CHANGES = [
    *(f"DELETE FROM asof.{table}" for table in TABLES),
    *(f"TRUNCATE asof.{table}" for table in TABLES),
    "UPDATE asof.entry SET actor = 'user:eve' WHERE idx = 1",
    "UPDATE asof.entry SET payload = NULL, salt = NULL",
    "UPDATE asof.stream SET name = 'note/eve'",
    "UPDATE asof.stream SET number = 1 WHERE name = 'note/kept'",
    "UPDATE asof.ledger SET size = 1",
    "UPDATE asof.ledger SET size = size + 1, root = last_leaf",
    "UPDATE asof.ledger SET origin = 'ledger.example.com/eve'",
    "UPDATE asof.tile SET hashes = repeat('x', 8192)::bytea",
    "UPDATE asof.key_use SET body_digest = repeat('x', 32)::bytea",
    "UPDATE asof.follower SET position = 0",
    "UPDATE asof.migration SET checksum = ''",
    "INSERT INTO asof.ledger OVERRIDING SYSTEM VALUE"
    " SELECT 99, 'x', 0, root, root, 0, edge, root FROM asof.ledger",
    "INSERT INTO asof.stream (ledger, number, name) VALUES (1, 2, 'note/eve')",
    "INSERT INTO asof.stream SELECT * FROM asof.stream ON CONFLICT (ledger, number)"
    " DO UPDATE SET name = 'note/eve'",
    "COPY asof.stream (ledger, number, name) FROM PROGRAM 'echo 1'",
    "INSERT INTO asof.tile VALUES (1, 0, 0, repeat('x', 8192)::bytea)",
    "INSERT INTO asof.key_use VALUES (1, 'k', repeat('x', 32)::bytea, 0, 1, 1)",
    "INSERT INTO asof.follower VALUES (1, 'eve', 1)",
    "INSERT INTO asof.migration VALUES (99, 'eve', '')",
    "INSERT INTO asof.entry SELECT * FROM asof.entry"
    " ON CONFLICT (ledger, idx) DO UPDATE SET actor = 'user:eve'",
    "MERGE INTO asof.entry AS e USING (VALUES (1)) AS v (i) ON e.idx = v.i"
    " WHEN MATCHED THEN DELETE",
    "COPY asof.tile FROM PROGRAM 'true'",
    "COPY asof.entry TO '/tmp/entries'",
    "SELECT * FROM asof.ledger FOR UPDATE",
    "SELECT * FROM asof.entry FOR UPDATE",
    "SELECT * FROM asof.stream FOR UPDATE",
    "LOCK TABLE asof.stream IN SHARE ROW EXCLUSIVE MODE",
    "LOCK TABLE asof.ledger IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE asof.entry IN SHARE ROW EXCLUSIVE MODE",
]
SCHEMA = [
    "ALTER TABLE asof.entry DISABLE TRIGGER ALL",
    "ALTER TABLE asof.entry DISABLE TRIGGER entry_is_not_changed",
    "DROP TRIGGER entry_is_not_changed ON asof.entry",
    "ALTER TABLE asof.stream DISABLE TRIGGER stream_is_not_changed",
    "DROP TRIGGER stream_is_not_truncated ON asof.stream",
    "ALTER TABLE asof.stream DROP CONSTRAINT stream_ledger_name_key",
    "DROP TABLE asof.stream",
    "CREATE TRIGGER eve BEFORE INSERT ON asof.entry"
    " FOR EACH ROW EXECUTE FUNCTION asof.refuse_change()",
    "CREATE OR REPLACE FUNCTION asof.refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    "ALTER FUNCTION asof.refuse_change() OWNER TO CURRENT_USER",
    "ALTER FUNCTION asof.track(integer, text, bigint) SET search_path = public",
    "DROP TABLE asof.entry",
    "ALTER TABLE asof.entry DROP COLUMN payload",
    "ALTER TABLE asof.entry OWNER TO CURRENT_USER",
    "ALTER TABLE asof.entry DROP CONSTRAINT entry_pkey",
    "DROP INDEX asof.entry_pkey",
    "CREATE RULE eve AS ON INSERT TO asof.entry DO INSTEAD NOTHING",
    "ALTER TABLE asof.entry ENABLE ROW LEVEL SECURITY",
    "CREATE TABLE asof.eve (i integer)",
    "CREATE TABLE public.entry (i integer)",
    "CREATE TEMPORARY TABLE ledger (i integer)",
    "CREATE VIEW asof.eve AS SELECT 1",
    "DROP SCHEMA asof CASCADE",
    "ALTER SCHEMA asof RENAME TO eve",
    "CREATE SCHEMA eve",
]
POWERS = [
    "SET session_replication_role = replica",
    "SET ROLE asof_owner",
    "SET SESSION AUTHORIZATION asof_owner",
    "GRANT asof_owner TO CURRENT_USER",
    "GRANT UPDATE ON asof.entry TO CURRENT_USER",
    "GRANT ALL ON SCHEMA asof TO PUBLIC",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE asof_owner LOGIN PASSWORD 'eve'",
    "CREATE ROLE eve SUPERUSER",
    "ALTER SYSTEM SET fsync = off",
    "ALTER DATABASE {database} SET synchronous_commit = off",
    "CREATE EXTENSION file_fdw",
    "CREATE EVENT TRIGGER eve ON ddl_command_end EXECUTE FUNCTION asof.refuse_change()",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "DO $$ BEGIN PERFORM dblink_exec('x', 'y'); END $$",
]
CALLS = [
    "SELECT asof.begin_ledger('x', 0, root, root, 0, root, root) FROM asof.ledger",
    "SELECT asof.lock_head(id, 0, 0) FROM asof.ledger",
    "SELECT asof.track(id, 'eve', 1) FROM asof.ledger",
]
NOTHING = ", ".join(["'{}'"] * 12)
UNNAMED = ", ".join(["'{}'"] * 10)
FORGERIES = [  # what a writer may call, with what must not come of it
    "SELECT asof.advance(id, size, root, size - 1, root, root, recorded_at, edge, root, "
    f"{NOTHING}) FROM asof.ledger",
    "SELECT asof.advance(id, size, root, size + 1, root, root, 0, edge, root, "
    f"{NOTHING}) FROM asof.ledger",
    "SELECT asof.advance(id, size, root, size + 1, 'short', root, recorded_at, edge, root, "
    f"{NOTHING}) FROM asof.ledger",
    "SELECT asof.advance(id, size, root, size + 1, root, root, recorded_at, edge, root, "
    f"{UNNAMED}, '{{note/eve}}', '{{7}}') FROM asof.ledger",
    "SELECT asof.advance(id, size, root, size + 1, root, root, recorded_at, edge, root, "
    f"{UNNAMED}, '{{note/kept}}', '{{301}}') FROM asof.ledger",
    "INSERT INTO asof.entry SELECT * FROM asof.entry",
]
ALLOWED = [
    "SELECT count(*) FROM asof.entry",
    "LISTEN asof_appended",
    "SELECT pg_advisory_lock(7)",
    "SET statement_timeout = 0",
    "SELECT pg_notify('asof_appended', '1')",
]


def hostile(group: str) -> list[str]:
    """The statements that a member of the group must not get through."""
    more = (
        FORGERIES
        if group == "writer"
        else [*CALLS, "INSERT INTO asof.entry SELECT * FROM asof.entry"]
    )
    return [*CHANGES, *SCHEMA, *POWERS, *more]


def contents(url: str) -> str:
    """Everything in the schema, in order, as one digest."""
    parts = " || ".join(
        f"coalesce((SELECT string_agg(t::text, '|' ORDER BY t::text) FROM asof.{table} AS t), '')"
        for table in TABLES
    )
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT md5({parts})".encode()).fetchone()
    assert found is not None
    return str(found[0])


@pytest.fixture
def kept(pg_database: str, tmp_path: Path) -> str:
    """An administrator's URL of a database with a ledger of some hundred entries in it."""
    with create_ledger(prepared(pg_database), keys=tmp_path / "keys") as ledger:
        ledger.writer.append(notes(300, "note/kept"), idempotency_key="k")
    return pg_database


def member_of(admin: str, group: str) -> str:
    migrate(admin, login=f"{APP}_{group}", roles=(group,))
    parts = urlsplit(admin)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{APP}_{group}@{host}"))


def got_through(url: str, statements: list[str]) -> list[str]:
    """Those that were carried out. A warning ("no privileges were granted") is a refusal, too."""
    database = urlsplit(url).path.removeprefix("/")
    passed = []
    for statement in statements:
        warnings: list[object] = []
        with psycopg.connect(url, autocommit=True) as connection:
            connection.add_notice_handler(warnings.append)
            try:
                said = statement.replace("{database}", database)
                connection.execute(said.encode())
            except psycopg.Error:
                continue
        if not warnings:
            passed.append(statement)
    return passed


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_statements_are_refused(kept: str, group: str) -> None:
    statements = hostile(group)
    assert len(statements) >= 40
    before = contents(kept)
    assert got_through(member_of(kept, group), statements) == []
    assert contents(kept) == before


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_role_may_do(kept: str, group: str) -> None:
    before = contents(kept)
    assert got_through(member_of(kept, group), ALLOWED) == ALLOWED
    assert contents(kept) == before


def test_the_projector_writes_in_its_own_schema_only(kept: str) -> None:
    url = member_of(kept, "projector")
    made = "SET ROLE asof_projector; CREATE TABLE asof_projections.t (i integer)"
    assert got_through(url, [made]) != []
    writer = member_of(kept, "writer")
    assert got_through(writer, ["SELECT * FROM asof_projections.t"]) != []
    assert got_through(writer, ["INSERT INTO asof_projections.t VALUES (1)"]) == []


def test_control_the_owner_of_the_database_is_not_stopped(kept: str) -> None:
    """What no database can refuse: that is what receipts, guards and witnesses are for."""
    before = contents(kept)
    assert got_through(kept, ["ALTER TABLE asof.entry DISABLE TRIGGER ALL"]) != []
    assert got_through(kept, ["UPDATE asof.entry SET actor = 'user:eve' WHERE idx = 1"]) != []
    assert got_through(kept, ["ALTER TABLE asof.stream DISABLE TRIGGER ALL"]) != []
    assert got_through(kept, ["UPDATE asof.stream SET name = 'note/eve' WHERE number = 1"]) != []
    assert contents(kept) != before


def test_playing_replica_does_not_pass_the_triggers(kept: str) -> None:
    """ENABLE ALWAYS: also for those who may set it."""
    for table in ("entry", "stream"):
        statement = f"SET session_replication_role = replica; DELETE FROM asof.{table}"
        assert got_through(kept, [statement]) == []
