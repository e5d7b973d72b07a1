"""The PostgreSQL store beyond the contract: what it refuses, how it goes on, what it says."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from select import select
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ledger.audit import Verdict, verify, verify_url
from ledger.draft import Draft
from ledger.errors import (
    AsofError,
    ConflictError,
    HeadMovedError,
    LoginRefusedError,
    MalformedError,
    NotFoundError,
    NotPreparedError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)
from ledger.opening import create_ledger, open_ledger
from ledger.places import place_of
from ledger.store import Forecast, Tracked
from ledger.stores.migrations import load_migrations
from ledger.stores.postgres import PostgresStore, migrate, shown
from ledger.stores.postgres import checks as checks_module
from ledger.stores.postgres import store as store_module
from ledger.stores.postgres import transaction as transaction_module
from ledger.stores.postgres.checks import schema_lines
from ledger.stores.postgres.comparing import digests
from ledger.stores.postgres.connecting import connect, is_alive, settings_of
from ledger.stores.postgres.errors import explained, is_lost, translated
from ledger.stores.postgres.waking import Waker
from scripts.clusters import Cluster, Server
from scripts.clusters.accounts import SERVER_ENVIRONMENT, run_as
from tests.support.ledgers import note, notes
from tests.support.postgres import APP, database_of, prepared
from tests.support.stores import ORIGIN, append_rows, first_head, key_use, made_head, made_rows


@pytest.fixture
def pg_url(pg_database: str) -> str:
    """The same database as the administrator's, as a program that appends logs in."""
    return prepared(pg_database)


@pytest.fixture
def store(pg_url: str) -> Iterator[PostgresStore]:
    """A ledger without entries."""
    with closing(PostgresStore.open(pg_url, ORIGIN)) as opened:
        opened.create(first_head())
        yield opened


def as_admin(url: str, *statements: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def opening(url: str, **more: Any) -> Callable[[], object]:
    return lambda: PostgresStore.open(url, ORIGIN, **more).close()


# ------------------------------------------------------------------------------ the server


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_loses_with_the_power_is_refused(pg_cluster: Cluster, setting: str) -> None:
    url = prepared(pg_cluster.create_database("audit"))
    opening(url)()
    pg_cluster.execute(f"ALTER SYSTEM SET {setting} = off")
    pg_cluster.reload()
    until(lambda: pg_cluster.execute(f"SHOW {setting}") == [("off",)])
    with pytest.raises(StoreError, match=rf"{setting} is off, so a power loss takes"):
        opening(url)()
    opening(url, write=False)()


def until(done: Callable[[], bool]) -> None:
    for _ in range(200):
        if done():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("commit", ["off", "local", "remote_write"])
def test_commits_that_are_answered_early_are_refused(
    pg_database: str, pg_url: str, commit: str
) -> None:
    role = urlsplit(pg_url).username
    database = urlsplit(pg_url).path.removeprefix("/")
    setting = f'ALTER ROLE {role} IN DATABASE "{database}" SET synchronous_commit'
    as_admin(pg_database, f"{setting} = {commit}")
    with pytest.raises(StoreError, match=f"synchronous_commit is {commit}"):
        opening(pg_url)()
    as_admin(pg_database, f"{setting} = remote_apply")
    opening(pg_url)()


def test_missing_checksums_may_be_taken(pg_cluster: Cluster, tmp_path: Path) -> None:
    url = prepared(pg_cluster.create_database("audit"))
    pg_cluster.stop()
    subprocess.run(
        [pg_cluster.bindir / "pg_checksums", "--disable", "-D", pg_cluster.data],
        check=True,
        capture_output=True,
        cwd=pg_cluster.folder,
        env=SERVER_ENVIRONMENT,
        **run_as(),
    )
    pg_cluster.start()
    with pytest.raises(StoreError, match="ASOF_PG_WITHOUT_CHECKSUMS=1"):
        create_ledger(url, keys=tmp_path / "keys")
    told: list[str] = []
    place = place_of(url, checksums=False, notice=told.append)
    create_ledger(place, keys=tmp_path / "keys").close()
    assert told and all("data checksums are off" in words for words in told)
    open_ledger(place_of(url, checksums=False), keys=tmp_path / "keys").close()


def test_an_old_server_and_a_standby_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering:
        def __init__(self, *answer: object) -> None:
            self.answer = answer

        def execute(self, _statement: str) -> Any:
            return self

        def fetchone(self) -> object:
            return self.answer

    good = ("on", "on", "on", "on")
    for answer, words in (
        ((140_020, "14.20", *good, False), "runs PostgreSQL 14.20; asof needs 15"),
        ((180_004, "18.4", *good, True), "is a standby"),
    ):
        with pytest.raises(StoreError, match=words):
            checks_module.check_server(
                Answering(*answer),  # type: ignore[arg-type]
                "x",
                checksums=True,
                notice=print,
            )


# ------------------------------------------------------------------------------- the role


def test_roles_that_can_more_are_refused(pg_database: str, pg_url: str) -> None:
    with pytest.raises(RefusedError, match=r"role postgres can do more .* it is a superuser"):
        opening(pg_database)()
    login = urlsplit(pg_url).username
    as_admin(pg_database, f"GRANT pg_write_all_data TO {login}")
    try:
        with pytest.raises(RefusedError, match="it is a member of pg_write_all_data"):
            opening(pg_url)()
    finally:
        as_admin(pg_database, f"REVOKE pg_write_all_data FROM {login}")
    as_admin(pg_database, f"GRANT DELETE ON asof.entry TO {login}")
    with pytest.raises(RefusedError, match="it has the right to DELETE entry"):
        opening(pg_url)()


def test_a_reader_reads_and_does_not_write(pg_database: str, tmp_path: Path) -> None:
    url = prepared(pg_database)
    with create_ledger(url, keys=tmp_path / "keys") as ledger:
        ledger.writer.append(notes(3, "note/a"))
    reader = url.replace(APP, f"{APP}_reading")
    migrate(pg_database, login=f"{APP}_reading", roles=("reader",))
    with open_ledger(reader, keys=tmp_path / "keys", write=False) as ledger:
        assert ledger.reader.size() == 4
        report = verify(ledger.store, vkey=ledger.vkey)
        assert report.result is Verdict.VALID
    with pytest.raises(RefusedError, match="may not append"):
        open_ledger(reader, keys=tmp_path / "keys")


# ------------------------------------------------------------------- schema and migrations


def test_the_schema_is_what_the_migrations_make(pg_version_server: Server) -> None:
    """On each version of the server: schema.txt, which every opening compares with."""
    with database_of(pg_version_server) as url:
        prepared(url)
        with closing(connect(url, "admin")) as connection:
            assert set(schema_lines(connection)) == checks_module._expected_lines()
            checks_module.check_schema(connection, "here")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TRIGGER entry_is_not_changed ON asof.entry", "entry_is_not_changed"),
        ("ALTER TABLE asof.entry DISABLE TRIGGER entry_is_not_changed", "enabled D"),
        ("ALTER TABLE asof.entry ENABLE TRIGGER entry_is_not_changed", "enabled O"),
        ("ALTER TABLE asof.entry DROP CONSTRAINT entry_pkey", "entry_pkey"),
        ("CREATE VIEW asof.eve AS SELECT 1", "eve"),
        ("CREATE RULE eve AS ON INSERT TO asof.tile DO INSTEAD NOTHING", "rule tile.eve"),
        ("GRANT INSERT ON asof.tile TO asof_reader", "grant INSERT on tile to asof_reader"),
        ("GRANT EXECUTE ON FUNCTION asof.track TO PUBLIC", "function track to PUBLIC"),
        ("GRANT CREATE ON SCHEMA asof TO asof_reader", "grant CREATE on schema"),
        ("ALTER TABLE asof.entry OWNER TO postgres", "table entry owner postgres"),
        ("ALTER FUNCTION asof.track SECURITY INVOKER", "function track"),
        (
            "CREATE OR REPLACE FUNCTION asof.refuse_change() RETURNS trigger LANGUAGE plpgsql "
            "SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
            "refuse_change",
        ),
    ],
)
def test_a_schema_that_was_changed_is_evidence(
    pg_database: str, tmp_path: Path, statement: str, words: str
) -> None:
    url = prepared(pg_database)
    with create_ledger(url, keys=tmp_path / "keys") as ledger:
        as_admin(pg_database, statement)
        complaints = ledger.store.check_integrity()
        assert len(complaints) >= 1 and words in " ".join(complaints)
    with pytest.raises(TamperError, match=f"not what the migrations made: .*{words}"):
        open_ledger(url, keys=tmp_path / "keys")


def test_a_database_that_is_not_prepared(pg_database: str) -> None:
    for write in (True, False):
        with pytest.raises(NotFoundError, match="not prepared for ledgers: run `asof migrate`"):
            opening(pg_database, write=write)()
    done = migrate(pg_database, dry_run=True)
    assert [step.number for step in done.steps] == [1, 2, 3, 4] and done.before == 0
    with pytest.raises(NotFoundError):
        opening(pg_database)()


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("INSERT INTO asof.migration VALUES (5, 'more', '')", StoreError, "newer asof"),
        ("UPDATE asof.migration SET checksum = '' WHERE number = 2", TamperError, "0002 append"),
        ("DELETE FROM asof.migration WHERE number = 4", StoreError, "lacks .* 0004 streams"),
    ],
)
def test_other_migrations_are_refused(
    pg_database: str, statement: str, error: type[AsofError], words: str
) -> None:
    url = prepared(pg_database)
    as_admin(pg_database, statement)
    for write in (True, False):
        with pytest.raises(error, match=words):
            opening(url, write=write)()


def test_eight_may_migrate_at_once(pg_database: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            migrate(pg_database, login=APP)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert as_admin(pg_database, "SELECT count(*) FROM asof.migration") == [(4,)]
    again = migrate(pg_database)
    assert (again.before, again.steps, again.password) == (4, (), None)


def test_only_an_administrator_migrates(pg_database: str) -> None:
    url = prepared(pg_database)
    with pytest.raises(RefusedError, match=f"{APP} may not create roles"):
        migrate(url)


def test_a_new_login_gets_a_password_once(pg_database: str) -> None:
    name = f"once_{urlsplit(pg_database).path.rpartition('_')[2]}"
    try:
        first, second = (migrate(pg_database, login=name) for _ in range(2))
        assert first.password is not None and len(first.password) >= 32
        assert second.password is None
    finally:
        as_admin(pg_database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_ledger_tells_of_a_migration_once(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_ledger(pg_url, keys=tmp_path / "keys").close()
    with open_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        assert ledger.reader.size() == 1
        assert ledger.reader.tracked("asof/schema") == 4
    told = [*(step.applied() for step in load_migrations("postgres"))]
    told.append(told[-1]._replace(number=5, name="more"))
    monkeypatch.setattr(PostgresStore, "migrations", lambda self: told)
    for _ in range(2):
        with open_ledger(pg_url, keys=tmp_path / "keys") as ledger:
            assert ledger.reader.size() == 2
            record = ledger.reader.entry(1)
            assert record.type == "migration.applied/1" and record.data is not None
            assert (record.data["migration"], record.data["from"]) == ("0005_more", "4")


# ------------------------------------------------------------------------- several writers


def test_a_trusted_head_that_moved_writes_nothing(pg_url: str, store: PostgresStore) -> None:
    many = made_rows(["note/a"] * (transaction_module.COPY_FROM + 1))
    with closing(PostgresStore.open(pg_url, ORIGIN)) as other:
        append_rows(other, made_rows(["note/b"]))
    for rows in (many[:1], many):
        foreseen = Forecast(head=made_head(0), trusted=True)
        with pytest.raises(HeadMovedError), store.transaction(foreseen) as transaction:
            transaction.write(rows, [], made_head(len(rows)), [])
    with (
        pytest.raises(HeadMovedError),
        store.transaction(Forecast(head=made_head(0), trusted=True)) as transaction,
    ):
        transaction.ahead(many[:10], of=len(many))
    assert store.head() == made_head(1)
    assert [row.stream for row in store.rows(0, 99)] == ["note/b"]


def sent_ahead(
    store: PostgresStore, start: int, stop: int, stream: str = "note/a", key: str | None = None
) -> transaction_module.PostgresTransaction:
    """Entries of one stream, sent behind whatever is under way, and not waited for."""
    rows = made_rows([stream] * stop)[start:]
    foreseen = Forecast(head=made_head(start), trusted=True, ahead=True)
    with store.transaction(foreseen) as transaction:
        transaction.write(rows, [], made_head(stop), [key_use(key, start)] if key else [])
    return transaction


def test_another_use_of_the_connection_waits_for_what_is_under_way(store: PostgresStore) -> None:
    sent = sent_ahead(store, 0, 2)
    assert sent.answer_at is not None
    store.track(Tracked("billing", 8))
    assert sent.answer_at is None
    sent.wait()
    behind = sent_ahead(store, 2, 3)
    with store.transaction() as transaction:
        assert transaction.head() == made_head(3)
    behind.wait()


def test_nothing_is_sent_behind_what_was_not_written(store: PostgresStore) -> None:
    append_rows(store, made_rows(["note/a"]), keys=[key_use("k", 0)])
    used = sent_ahead(store, 1, 2, key="k")
    with pytest.raises(HeadMovedError):
        sent_ahead(store, 2, 3)
    with pytest.raises(HeadMovedError):
        used.wait()
    other = sent_ahead(store, 0, 1)
    foreseen = Forecast(head=made_head(1), trusted=True, ahead=True, streams={"note/b"})
    with pytest.raises(HeadMovedError), store.transaction(foreseen) as transaction:
        transaction.stream_versions(["note/b"])
    with pytest.raises(HeadMovedError):
        other.wait()
    assert store.head() == made_head(1)
    sent_ahead(store, 1, 2).wait()


def test_a_connection_that_ends_under_way_is_unknown(
    pg_database: str, store: PostgresStore
) -> None:
    """The lock is held from outside, so that the append is certainly under way."""
    with psycopg.connect(pg_database) as holder:
        holder.execute("SELECT * FROM asof.ledger FOR UPDATE")
        sent = sent_ahead(store, 0, 2)
        end = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        until(lambda: as_admin(pg_database, end) == [(True,)])
        with pytest.raises(HeadMovedError):
            sent_ahead(store, 2, 3)
        with pytest.raises(UnknownOutcomeError):
            sent.wait()
    assert store.head() == made_head(0)
    sent_ahead(store, 0, 2).wait()


def test_a_stream_that_begins_twice_is_looked_into_under_the_lock(store: PostgresStore) -> None:
    append_rows(store, made_rows(["note/a"]))
    (twice,) = made_rows(["note/a"], start=1)
    foreseen = Forecast(head=made_head(1), trusted=True, ahead=True)
    with store.transaction(foreseen) as transaction:
        transaction.write([twice], [], made_head(2), [])
    with pytest.raises(HeadMovedError):
        transaction.wait()
    assert store.head() == made_head(1)


def test_rows_that_do_not_fit_into_one_packet_go_ahead(store: PostgresStore) -> None:
    rows = [row._replace(payload=bytes(1 << 19)) for row in made_rows(["note/a"] * 40)]
    foreseen = Forecast(head=made_head(0), trusted=True, ahead=True)
    with store.transaction(foreseen) as transaction:
        transaction.write(rows, [], made_head(40), [])
    transaction.wait()
    assert list(store.rows(0, 99)) == rows


def test_a_server_that_does_not_know_the_statement_is_told(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(transaction_module.SQL, "append", "SELECT asof.attach(%s)")
    with pytest.raises(StoreError, match=r"function asof\.attach.* does not exist"):
        sent_ahead(store, 0, 1)
    monkeypatch.undo()
    sent_ahead(store, 0, 1).wait()


@pytest.mark.parametrize("count", [1, 192, 193, 700])
@pytest.mark.parametrize("trusted", [True, False])
def test_few_and_many_rows_arrive_alike(store: PostgresStore, count: int, trusted: bool) -> None:
    rows = made_rows([f"note/{number % 7}" for number in range(count)])
    with store.transaction(Forecast(head=made_head(0), trusted=trusted)) as transaction:
        for start in range(0, count, 100):
            transaction.ahead(rows[start : start + 100], of=count)
        transaction.write(rows, [], made_head(count), [key_use("k", 0)], [Tracked("f", 3)])
        with pytest.raises(ConflictError, match="written once"):
            transaction.write(rows, [], made_head(count), [])
    assert list(store.rows(0, 9_999)) == rows
    assert store.tracked("f") == 3 and store.key_use("k") is not None


def test_an_exception_in_the_middle_of_a_copy_undoes_it(store: PostgresStore) -> None:
    rows = made_rows(["note/a"] * 300)
    with pytest.raises(KeyError), store.transaction() as transaction:
        transaction.head()
        transaction.ahead(rows[:200], of=300)
        raise KeyError
    append_rows(store, rows)
    assert list(store.rows(0, 999)) == rows


def test_a_row_that_the_server_refuses_undoes_a_copy(store: PostgresStore) -> None:
    rows = made_rows(["note/a"] * 300)
    rows[250] = rows[250]._replace(version=3)
    with pytest.raises(ConflictError, match="refused the write"):
        append_rows(store, rows)
    assert store.head() == made_head(0) and list(store.rows(0, 9)) == []
    append_rows(store, made_rows(["note/a"] * 2))


def test_questions_that_were_not_foreseen_are_answered(store: PostgresStore) -> None:
    append_rows(store, made_rows(["note/a", "note/b"]), keys=[key_use("k", 0)])
    store.track(Tracked("f", 1))
    with store.transaction(Forecast(head=made_head(2), trusted=True)) as transaction:
        assert transaction.stream_versions(["note/a", "x"]) == {"note/a": 1, "x": 0}
        assert set(transaction.key_uses(["k", "l"])) == {"k"}
        assert transaction.tracked(["f", "g"]) == {"f": 1}
        assert len(transaction.leaf_hashes(0, 2)) == 64


def test_two_writers_of_one_ledger_continue_each_other(pg_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    with create_ledger(pg_url, keys=keys) as one, open_ledger(pg_url, keys=keys) as two:
        for number in range(12):
            for ledger in (one, two, two)[number % 3 :]:
                ledger.writer.append(notes(1 + number * 40, f"note/{number % 2}"))
        report = verify(one.store, vkey=one.vkey, workers=2)
        assert report.result is Verdict.VALID, report.findings
        assert report.entries == one.reader.size() == two.reader.size()


def test_a_history_that_another_server_wrote_is_refused(pg_database: str, tmp_path: Path) -> None:
    """A standby that was promoted without the newest entries, and written to by somebody else:
    larger than what this process signed, and not a continuation of it."""
    url, keys = prepared(pg_database), tmp_path / "keys"
    with create_ledger(url, keys=keys, origin=ORIGIN) as ledger:
        ledger.writer.append(notes(10, "note/a"))
        saved = as_admin(pg_database, "SELECT row_to_json(l) FROM asof.ledger AS l")[0][0]
        ledger.writer.append([note("lost")])
        without_triggers(
            pg_database,
            f"DELETE FROM asof.entry WHERE idx >= {saved['size']}",
            f"UPDATE asof.ledger SET size = {saved['size']}, root = '{saved['root']}',"
            f" last_leaf = '{saved['last_leaf']}', recorded_at = {saved['recorded_at']},"
            f" edge = '{saved['edge']}', checkpoint = '{saved['checkpoint']}'",
        )
        (keys / "guard").rename(tmp_path / "guard")
        with pytest.raises(TamperError, match="went back while it was open"):
            ledger.writer.append([note("more")])
        with pytest.raises(StoreError, match="the writer stopped"):
            ledger.writer.append([note("more")])


def without_triggers(url: str, *statements: str) -> None:
    tables = ("entry", "ledger")
    as_admin(
        url,
        *(f"ALTER TABLE asof.{table} DISABLE TRIGGER USER" for table in tables),
        *statements,
    )


# --------------------------------------------------------------------- lost and slow servers


def test_a_dropped_connection_is_replaced_before_anything_is_sent(
    pg_database: str, pg_url: str, tmp_path: Path
) -> None:
    with create_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        for number in range(3):
            ledger.writer.append([note(f"before {number}")])
            assert ledger.reader.size() == 2 + number
            end_sessions(pg_database)
    with open_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        assert ledger.reader.size() == 4


def end_sessions(url: str) -> None:
    as_admin(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_connection_that_only_has_something_to_say_is_kept(pg_url: str) -> None:
    with closing(connect(pg_url, "reader")) as one, closing(connect(pg_url, "reader")) as two:
        one.execute("LISTEN asof_appended")
        two.execute("SELECT pg_notify('asof_appended', '1')")
        assert select([one], [], [], 10)[0] == [one], "it has been told something"
        assert is_alive(one) and is_alive(two)
        one.close()
        assert not is_alive(one)


@pytest.mark.parametrize("locked", [False, True])
def test_a_commit_with_a_warning_is_unknown(
    pg_database: str, pg_url: str, tmp_path: Path, locked: bool
) -> None:
    create_ledger(pg_url, keys=tmp_path / "keys").close()
    with open_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        if not locked:  # as the first append of a writer always is
            ledger.writer.append([note("before")])
        as_admin(
            pg_database,
            "CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE WARNING 'canceling wait for the standby'; RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON asof.entry INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION public.warn()",
        )
        with pytest.raises(UnknownOutcomeError, match="may be missing on the standby"):
            ledger.writer.append([note("a")], idempotency_key="a")
        as_admin(pg_database, "DROP FUNCTION public.warn CASCADE")
        done = ledger.writer.append([note("a")], idempotency_key="a")
        assert done.repeated and ledger.reader.size() == done.first_index + 1


@pytest.mark.parametrize("locked", [False, True])
def test_a_word_of_the_server_is_no_warning(
    pg_database: str, pg_url: str, tmp_path: Path, locked: bool
) -> None:
    create_ledger(pg_url, keys=tmp_path / "keys").close()
    with open_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        if not locked:
            ledger.writer.append([note("before")])
        as_admin(
            pg_database,
            "CREATE FUNCTION public.say() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE NOTICE 'good morning'; RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER say AFTER INSERT ON asof.entry INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION public.say()",
        )
        assert ledger.writer.append([note("a")]).first_index == (1 if locked else 2)


def test_a_connection_that_cannot_undo_is_closed(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_transaction: object) -> None:
        raise StoreError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(transaction_module.PostgresTransaction, "abort", fail)
        with pytest.raises(KeyError), store.transaction() as transaction:
            transaction.head()
            raise KeyError
    append_rows(store, made_rows(["note/a"]))
    assert store.head() == made_head(1)


def test_a_pool_that_was_closed_says_so(store: PostgresStore) -> None:
    store._pool.close()
    with pytest.raises(StoreError, match="is closed"):
        store.head()


def test_tiles_read_ahead_are_given_out_once(pg_database: str, pg_url: str, tmp_path: Path) -> None:
    """Who asks again is answered from the server, so a change in between is seen."""
    with create_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        ledger.writer.append(notes(1200, "note/a"))
        store = ledger.store
        tiles = [store.tile(0, number) for number in range(5)]
        assert [tile is None for tile in tiles] == [False] * 4 + [True]
        without_triggers(
            pg_database,
            "UPDATE asof.entry SET actor = 'user:eve' WHERE idx = 3",
            "DELETE FROM asof.entry WHERE idx = 900",
        )
        assert store.raw_rows(0, 256)[3][2] == "user:eve"
        assert len(store.raw_rows(768, 1024)) == 255
        assert len(store.raw_rows(1100, 1400)) == 101
        assert store.tile(0, 0) == tiles[0] and store.tile(0, 1) == tiles[1]


def test_a_lock_that_is_held_is_waited_for_and_given_up(
    pg_database: str, pg_url: str, tmp_path: Path
) -> None:
    url = f"{pg_url}?options=-c%20lock_timeout%3D200"
    with create_ledger(url, keys=tmp_path / "keys") as ledger:
        with psycopg.connect(pg_database) as holding:
            holding.execute("SELECT 1 FROM asof.ledger FOR UPDATE")
            with pytest.raises(UnreachableError, match="held by another process"):
                ledger.writer.append([note("a")])
            assert ledger.reader.size() == 1  # reading does not wait
        ledger.writer.append([note("a")])


def test_a_statement_that_takes_too_long_writes_nothing(
    pg_database: str, pg_url: str, tmp_path: Path
) -> None:
    url = f"{pg_url}?options=-c%20statement_timeout%3D200"
    with create_ledger(url, keys=tmp_path / "keys") as ledger:
        with psycopg.connect(pg_database) as holding:
            holding.execute("SELECT 1 FROM asof.ledger FOR UPDATE")
            with pytest.raises(UnreachableError, match="took too long"):
                ledger.writer.append([note("a")])
        assert ledger.writer.append([note("b")]).first_index == 1


def test_an_exhausted_pool_says_so(store: PostgresStore) -> None:
    store._pool.timeout = 0.1
    borrowed = [store._pool.getconn(timeout=10) for _ in range(store_module.MOST_CONNECTIONS)]
    try:
        with pytest.raises(UnreachableError, match="every connection of this process is in use"):
            store.head()
    finally:
        for connection in borrowed:
            store._pool.putconn(connection)
    assert store.head() == made_head(0)


def test_reading_goes_on_after_the_sessions_were_ended(
    pg_database: str, store: PostgresStore
) -> None:
    assert store.head() == made_head(0)
    end_sessions(pg_database)
    assert store.head() == made_head(0)


def test_what_cannot_be_asked_twice_is_said(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_arguments: object) -> Any:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(store, "_answer", lost)
    with pytest.raises(UnreachableError, match="does not answer: server closed"):
        store.head()


def test_a_wrong_address_password_and_database_are_told_apart(pg_url: str) -> None:
    parts = urlsplit(pg_url)
    with pytest.raises(UnreachableError, match="does not answer"):
        opening(parts._replace(netloc=f"{APP}@127.0.0.1:1").geturl())()
    with pytest.raises(NotFoundError, match=r'"nowhere" does not exist. Create it, then run'):
        opening(parts._replace(path="/nowhere").geturl())()
    with pytest.raises(UnreachableError, match="refused the login"):
        opening(parts._replace(netloc=parts.netloc.replace(APP, "nobody_here")).geturl())()


# -------------------------------------------------------------------------------- reading


def test_a_missing_entry_is_found_when_times_are_searched(
    pg_database: str, store: PostgresStore
) -> None:
    append_rows(store, made_rows(["note/a"] * 3))
    without_triggers(pg_database, "DELETE FROM asof.entry WHERE idx = 1")
    with pytest.raises(TamperError, match=r"entry 1: .*missing"):
        store.index_at(10)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("entry_stream_number_ledger_version_key", "the index over streams and versions"),
        ("stream_ledger_name_key", "the index over names of streams"),
        ("stream_pkey", "the index over numbers of streams"),
    ],
)
def test_an_index_that_differs_from_its_table_is_reported(
    pg_database: str, store: PostgresStore, index: str, words: str
) -> None:
    """It is not written to for a while, so that it lacks what came meanwhile."""
    ready = f"UPDATE pg_index SET indisready = %s WHERE indexrelid = 'asof.{index}'::regclass"
    rows = made_rows(["note/a", "note/a", "note/b"])
    append_rows(store, rows[:1])
    assert store.check_integrity() == []
    as_admin(pg_database, ready.replace("%s", "false"))
    append_rows(store, rows[1:])
    as_admin(pg_database, ready.replace("%s", "true"))
    complaints = store.check_integrity()
    assert complaints[0] == f"{words} holds other rows than the table"
    assert store.check_integrity(deep=False) == []


def test_a_deep_check_is_of_one_moment(store: PostgresStore, pg_url: str) -> None:
    """Another process appends between its questions, and is not taken for damage."""
    append_rows(store, made_rows(["note/a"]))
    ledger = store._id()
    assert ledger is not None
    with psycopg.connect(pg_url) as reading, closing(PostgresStore.open(pg_url, ORIGIN)) as other:
        reading.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        by_table = digests(reading, ledger, "table")
        append_rows(other, made_rows(["note/b"], start=1))
        assert digests(reading, ledger, "index") == by_table
        reading.commit()
        assert digests(reading, ledger, "index") != by_table


def test_verification_by_url(pg_url: str, tmp_path: Path) -> None:
    with create_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        ledger.writer.append(notes(700, "note/a"), idempotency_key="k")
        vkey = ledger.vkey
    for workers in (1, 2):
        report = verify_url(pg_url, vkey=vkey, workers=workers)
        assert (report.result, report.entries, report.findings) == (Verdict.VALID, 701, [])


def test_a_changed_entry_is_named(pg_database: str, tmp_path: Path) -> None:
    url = prepared(pg_database)
    with create_ledger(url, keys=tmp_path / "keys") as ledger:
        ledger.writer.append(notes(300, "note/a"))
        without_triggers(pg_database, "UPDATE asof.entry SET actor = 'user:eve' WHERE idx = 77")
        report = verify(ledger.store, vkey=ledger.vkey)
    assert report.result is Verdict.INVALID
    assert 77 in {finding.index for finding in report.findings}


def test_ledgers_of_one_database_do_not_meet(pg_url: str, tmp_path: Path) -> None:
    with (
        create_ledger(pg_url, keys=tmp_path / "one", origin="ledger.example.com/one") as one,
        create_ledger(pg_url, keys=tmp_path / "two", origin="ledger.example.com/two") as two,
    ):
        one.writer.append(notes(5, "note/a"), idempotency_key="k")
        two.writer.append(notes(7, "note/a"), idempotency_key="k")
        assert (one.reader.size(), two.reader.size()) == (6, 8)
        assert one.reader.stream_version("note/a") == 5
    with pytest.raises(ConflictError, match="already holds the ledger"):
        create_ledger(pg_url, keys=tmp_path / "one")


def test_a_withheld_payload_stays_withheld(store: PostgresStore) -> None:
    rows = made_rows(["note/a"] * 14)
    assert rows[6].payload is None
    append_rows(store, rows)
    assert list(store.rows(6, 7)) == rows[6:7]


# ---------------------------------------------------------------------------------- words


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("postgresql://app:s3cret@db.example.com:6432/audit") == (
        "postgresql://app@db.example.com:6432/audit"
    )
    assert shown("postgresql:///audit?host=/run/pg&password=s3cret") == "postgresql:///run/pg/audit"
    assert shown("postgres://") == "postgresql://localhost/"
    place = place_of("postgresql://app:s3cret@db/audit")
    assert "s3cret" not in repr(place) and "s3cret" not in place.url
    for url in ("mysql://x", "postgresql://h/d?nonsense=1"):
        with pytest.raises(MalformedError, match="URL"):
            shown(url)


def test_what_the_url_says_wins() -> None:
    found = settings_of("postgresql://h/d?connect_timeout=3&options=-c%20a%3Db", "writer")
    assert "connect_timeout" not in found and found["options"].endswith(" -c a=b")
    assert found["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in settings_of("postgresql://h/d", "reader")


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("28P01", LoginRefusedError, "refused the login"),
        ("3D000", NotPreparedError, "run `asof migrate`"),
        ("42P01", NotPreparedError, "Run `asof migrate`"),
        ("42501", StoreError, "member of asof_writer"),
        ("23505", ConflictError, "refused the write"),
        ("40001", UnreachableError, "held by another process"),
        ("53100", StoreError, "disk is full"),
        ("53300", UnreachableError, "takes no more connections"),
        ("25006", UnreachableError, "is a standby"),
        ("57P03", UnreachableError, "stopping or starting"),
        ("XX001", TamperError, "is damaged"),
        ("22012", StoreError, "SQLSTATE 22012"),
    ],
)
def test_errors_are_told_in_our_words(state: str, kind: type[AsofError], words: str) -> None:
    error = psycopg.errors.lookup(state)("something happened\nand more")
    found = explained(error, "postgresql://h/d")
    assert type(found) is kind
    assert words in str(found) and "postgresql://h/d" in str(found) and "and more" not in str(found)


def test_errors_without_a_state() -> None:
    for text, kind in (
        ("connection to server failed: FATAL:  password authentication failed", LoginRefusedError),
        ('connection failed: FATAL:  database "x" does not exist', NotPreparedError),
        ("", UnreachableError),
    ):
        assert type(explained(psycopg.OperationalError(text), "here")) is kind
    assert is_lost(psycopg.OperationalError("gone"))
    assert not is_lost(psycopg.errors.UniqueViolation("x"))
    with pytest.raises(UnreachableError, match="no connection became free"), translated("here"):
        raise PoolTimeout


def test_a_waker_calls_once_for_many_and_outlives_failures() -> None:
    called = threading.Event()
    calls: list[int] = []

    def notify() -> None:
        calls.append(1)
        called.set()
        if len(calls) == 1:
            raise StoreError("no connection")

    waker = Waker(notify)
    waker.wake()
    assert called.wait(10)
    called.clear()
    for _ in range(50):
        waker.wake()
    assert called.wait(10)
    waker.close()
    waker.close()
    assert 2 <= len(calls) <= 10


def test_readers_are_woken(pg_url: str, tmp_path: Path) -> None:
    with (
        create_ledger(pg_url, keys=tmp_path / "keys") as ledger,
        psycopg.connect(pg_url, autocommit=True) as listening,
    ):
        listening.execute("LISTEN asof_appended")
        ledger.writer.append([note("a")])
        assert next(listening.notifies(timeout=10)).channel == "asof_appended"


def test_a_draft_with_a_follower(pg_url: str, tmp_path: Path) -> None:
    with create_ledger(pg_url, keys=tmp_path / "keys") as ledger:
        draft = Draft(type="note.added/1", stream="note/a", actor="user:7", payload=b"{}")
        ledger.writer.append([draft], tracked=Tracked("billing", 4))
        with pytest.raises(ConflictError, match="has come to 4"):
            ledger.writer.append([draft], tracked=Tracked("billing", 4))
        ledger.writer.track(Tracked("billing", 9))
        assert ledger.reader.tracked("billing") == 9 and ledger.reader.size() == 2
