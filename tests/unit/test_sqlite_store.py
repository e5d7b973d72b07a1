"""What is particular to the SQLite store: its settings, its file, its errors in our words."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ledger.stores.sqlite as sqlite_store
from ledger.errors import (
    AsofError,
    ConflictError,
    NotFoundError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)
from ledger.stores.migrations import load_migrations
from ledger.stores.sqlite import APPLICATION_ID, PAGE_BYTES, SCHEMA_VERSION, SETTINGS, SqliteStore
from ledger.stores.statements import load_statements
from tests.support.failing import FailingConnection, as_nobody, sqlite_error
from tests.support.stores import (
    append_rows,
    first_head,
    key_use,
    made_head,
    made_rows,
    made_tile,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger's file with 300 entries, a tile and a key, closed."""
    path = tmp_path / "asof.db"
    with closing(SqliteStore.create_file(path)) as store:
        store.create(first_head())
        append_rows(
            store, made_rows(["note/a"] * 300), tiles=[made_tile(0, 0)], keys=[key_use("k", 0)]
        )
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.open(path)) as store:
        yield store


def tampered(path: Path, *statements: str) -> None:
    """Run statements on the file as its owner could: without our triggers' consent."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def without_trigger(name: str) -> str:
    return f"DROP TRIGGER {name}"


# ------------------------------------------------------------------------------ settings


def test_durability_is_set_and_read_back(store: SqliteStore) -> None:
    assert store._writer is not None
    found = {name: store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS}
    assert found == SETTINGS
    assert (found["journal_mode"], found["synchronous"]) == ("wal", 2)
    assert (found["trusted_schema"], found["cell_size_check"]) == (0, 1)


@pytest.mark.parametrize(("name", "answer"), [("synchronous", 1), ("journal_mode", "delete")])
def test_a_setting_that_does_not_hold_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: object
) -> None:
    real = sqlite_store._pragma
    monkeypatch.setattr(
        sqlite_store, "_pragma", lambda c, asked: answer if asked == name else real(c, asked)
    )
    with pytest.raises(StoreError, match=f"{name} = {answer} instead of"):
        SqliteStore.open(path)


def test_the_file_is_marked(path: Path) -> None:
    header = path.read_bytes()[:100]
    assert int.from_bytes(header[68:72]) == APPLICATION_ID == int.from_bytes(b"asof")
    assert int.from_bytes(header[60:64]) == SCHEMA_VERSION == 2


def test_statements_have_names_and_no_comments() -> None:
    statements = load_statements("sqlite")
    assert all(name.isidentifier() for name in statements)
    assert not any("--" in text or text.endswith(";") for text in statements.values())
    assert all("STRICT" in step.sql for step in load_migrations("sqlite"))


# --------------------------------------------------------------------------- append only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET actor = 'user:x' WHERE idx = 3",
        "DELETE FROM entry WHERE idx = 299",
        "UPDATE tile SET hashes = zeroblob(8192)",
        "DELETE FROM tile",
        "INSERT OR REPLACE INTO tile VALUES (0, 0, zeroblob(8192))",
        "UPDATE key_use SET count = 2",
        "DELETE FROM key_use",
        "INSERT OR REPLACE INTO key_use VALUES ('k', zeroblob(32), 1, 1, 2)",
        "UPDATE head SET size = 299",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET origin = 'other', size = 400",
        "UPDATE head SET recorded_at = 1, size = 400",
        "DELETE FROM head",
        "INSERT OR REPLACE INTO head SELECT * FROM head",
    ],
)
def test_triggers_refuse_change_by_any_program(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
        with pytest.raises(sqlite3.IntegrityError, match="asof: "):
            connection.execute(statement)
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("index", [3, 299, 300])
def test_our_own_connection_cannot_replace_an_entry_either(store: SqliteStore, index: int) -> None:
    """By its index, or by its stream and version."""
    assert store._writer is not None
    statement = (
        f"INSERT OR REPLACE INTO entry SELECT {index}, recorded_at, version, 'user:x', stream,"
        " type, commitment, leaf_hash, salt, payload FROM entry WHERE idx = 3"
    )
    with pytest.raises(sqlite3.IntegrityError, match="asof: an entry is never deleted"):
        store._writer.execute(statement)


# ------------------------------------------------------------------- files that are refused


def test_a_path_without_a_ledger_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="asof init"):
        SqliteStore.open(tmp_path / "none.db")
    with pytest.raises(StoreError, match="is not a file"):
        SqliteStore.open(tmp_path)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        SqliteStore.open(tmp_path / "empty.db")
    (tmp_path / "text.db").write_text("this is a text about ledgers\n" * 10)
    with pytest.raises(StoreError, match="not a ledger"):
        SqliteStore.open(tmp_path / "text.db")
    (tmp_path / "half.db").write_bytes(sqlite_store.MAGIC + b"\xff" * 5000)
    with pytest.raises(StoreError, match="not a ledger"):
        SqliteStore.open(tmp_path / "half.db")
    with pytest.raises(StoreError, match="does not exist"):
        SqliteStore.create_file(tmp_path / "none" / "asof.db")


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    for door in (SqliteStore.open, SqliteStore.create_file):
        with pytest.raises(StoreError, match="of another program"):
            door(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statements", "error", "words"),
    [
        (["PRAGMA user_version = 3"], StoreError, "newer asof"),
        (["PRAGMA user_version = 0"], TamperError, "no such version"),
        (["PRAGMA user_version = 1"], TamperError, "follower"),
        (["DROP TRIGGER entry_is_not_updated"], TamperError, "entry_is_not_updated"),
        (["CREATE VIEW v AS SELECT 1"], TamperError, "v"),
        (["CREATE INDEX i ON entry (actor)"], TamperError, "i"),
    ],
)
def test_another_schema_is_refused(
    path: Path, statements: list[str], error: type[AsofError], words: str
) -> None:
    tampered(path, *statements)
    for write in (True, False):
        with pytest.raises(error, match=words):
            SqliteStore.open(path, write=write)


@pytest.mark.parametrize("kind", ["cut", "zeroed"])
def test_a_damaged_file_gives_our_errors_only(path: Path, kind: str) -> None:
    """Cut at every page, or zeroed page by page. A cut is always seen; a page of content that was
    zeroed is SQLite's to miss and `verify`'s to find."""
    data = path.read_bytes()
    for at in range(0, len(data), PAGE_BYTES):
        rest = b"" if kind == "cut" else bytes(PAGE_BYTES) + data[at + PAGE_BYTES :]
        path.write_bytes(data[:at] + rest)
        seen = False
        try:
            with closing(SqliteStore.open(path, write=False)) as store:
                seen = bool(store.check_integrity())
                everything(store)
        except AsofError:
            seen = True
        assert seen or kind == "zeroed"


def everything(store: SqliteStore) -> list[object]:
    return [
        store.head(),
        list(store.rows(0, 999)),
        list(store.stream_rows("note/a")),
        list(store.streams()),
        store.leaf_hashes(0, 999),
        list(store.tiles()),
        list(store.key_uses()),
        store.tile(0, 0),
        store.key_use("k"),
        store.index_at(500),
    ]


@pytest.mark.parametrize(
    ("statements", "ask", "words"),
    [
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET leaf_hash = 'text'"],
            lambda store: store.leaf_hashes(0, 3),
            "a leaf hash",
        ),
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET leaf_hash = x'00'"],
            lambda store: store.leaf_hashes(0, 3),
            "a leaf hash",
        ),
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET actor = 7 WHERE idx = 9"],
            lambda store: list(store.rows(0, 300)),
            "an entry from 0 to 299",
        ),
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET actor = x'ff' WHERE idx = 9"],
            lambda store: list(store.stream_rows("note/a")),
            "an entry",
        ),
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET recorded_at = 'x'"],
            lambda store: store.index_at(5),
            "it is missing",
        ),
        (
            ["DROP TRIGGER entry_is_not_updated", "UPDATE entry SET version = 'x' WHERE idx = 9"],
            lambda store: list(store.stream_spans(300)),
            "a stream after ''",
        ),
        (
            ["DROP TRIGGER tile_is_not_updated", "UPDATE tile SET hashes = 7"],
            lambda store: store.tile(0, 0),
            "tile 0/0",
        ),
        (
            ["DROP TRIGGER tile_is_not_updated", "UPDATE tile SET hashes = x'00'"],
            lambda store: list(store.tiles()),
            "tile 0/0",
        ),
        (
            ["DROP TRIGGER key_use_is_not_updated", "UPDATE key_use SET count = 'x'"],
            lambda store: list(store.key_uses()),
            "idempotency key",
        ),
        (
            ["DROP TRIGGER head_only_grows", "UPDATE head SET edge = x'00'"],
            lambda store: store.head(),
            "the head",
        ),
        (
            ["DROP TRIGGER head_only_grows", "UPDATE head SET size = 'x'"],
            lambda store: store.head(),
            "the head",
        ),
    ],
)
def test_a_value_of_another_type_is_evidence(
    path: Path, statements: list[str], ask: Callable[[SqliteStore], object], words: str
) -> None:
    """The tables are STRICT, so such a value was not written by SQLite's rules."""
    trigger = statements[0].split()[-1]
    with closing(sqlite3.connect(path)) as connection:
        text = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE name = ?", (trigger,)
        ).fetchone()[0]
        table = statements[1].split()[1]
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        strict = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()[0]
        loose = strict.replace("STRICT, WITHOUT", "WITHOUT").replace(") STRICT", ")")
        loose = loose.replace(" INTEGER NOT NULL", " NOT NULL").replace(
            " TEXT NOT NULL", " NOT NULL"
        )
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (loose, table))
        connection.execute(statements[0])
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statements[1])
        connection.execute(text)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (strict, table))
        connection.commit()
    with (
        closing(SqliteStore.open(path, write=False)) as store,
        pytest.raises(TamperError, match=words),
    ):
        ask(store)


def test_text_that_is_not_utf8_is_evidence(path: Path) -> None:
    """As a flipped bit in a name gives it: the driver cannot decode it."""
    with closing(SqliteStore.open(path)):
        pass
    data = path.read_bytes()
    path.write_bytes(data.replace(b"user:0", b"user\xff0"))
    with (
        closing(SqliteStore.open(path, write=False)) as store,
        pytest.raises(TamperError, match="is damaged"),
    ):
        list(store.rows(0, 300))


# ------------------------------------------------------------------------ rights and places


def test_without_the_rights_the_message_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "asof.db"
        with closing(SqliteStore.create_file(path)) as store:
            store.create(first_head())
        folder.chmod(0o755)
        path.chmod(0o644)
        if os.geteuid() != 0:
            path.chmod(0o444)
            folder.chmod(0o555)

        def attempts() -> None:
            with pytest.raises(StoreError, match=r"read-only|rights"):
                SqliteStore.open(path)
            with pytest.raises(StoreError, match=r"read-only|rights|writ"):
                SqliteStore.create_file(folder / "new.db")

        as_nobody(attempts)
        path.chmod(0o600 if os.geteuid() == 0 else 0o000)

        def unreadable() -> None:
            with pytest.raises(StoreError, match="cannot be read"):
                SqliteStore.open(path)

        as_nobody(unreadable)
        path.chmod(0o600)
        folder.chmod(0o755)


def test_a_file_that_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ledger.stores.sqlite.hold", denied)
    with pytest.raises(StoreError, match="cannot be read: Permission denied"):
        SqliteStore.open(path)


def test_a_store_opened_for_reading_writes_nothing(path: Path) -> None:
    with closing(SqliteStore.open(path, write=False)) as store:
        with pytest.raises(StoreError, match="reading only"):
            store.create(first_head())
        with pytest.raises(StoreError, match="reading only"), store.transaction():
            pass
        with pytest.raises(StoreError, match="cannot be written"):
            store._fetch("DELETE FROM head", ())
        store.tend()


def test_a_file_that_is_replaced_while_open_takes_nothing_more(
    path: Path, store: SqliteStore
) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)
    with pytest.raises(StoreError, match="removed or replaced"), store.transaction():
        pass
    path.unlink()
    with pytest.raises(StoreError, match="removed or replaced"), store.transaction():
        pass


def test_an_interrupted_beginning_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "asof.db"
    path.touch()
    SqliteStore.create_file(path).close()
    SqliteStore.create_file(path).close()
    marked = tmp_path / "marked.db"  # a database without a table: killed before the schema
    with closing(sqlite3.connect(marked)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA user_version = 0")
    with closing(SqliteStore.create_file(marked)) as store:
        store.create(first_head())
    with closing(SqliteStore.create_file(marked)) as store:
        assert store.head() == first_head()
    (tmp_path / "half.db").write_bytes(sqlite_store.MAGIC + b"\xff" * 5000)
    with pytest.raises(StoreError, match="not a ledger"):
        SqliteStore.create_file(tmp_path / "half.db")


# ---------------------------------------------------------------------------- failures


def failing(store: SqliteStore, statement: str, error: Exception, *, after: bool = False) -> None:
    assert store._writer is not None
    store._writer = FailingConnection(store._writer, statement, error, after=after)  # type: ignore[assignment]


def append_next(store: SqliteStore) -> None:
    rows = made_rows(["note/b"], start=300)
    with store.transaction() as transaction:
        transaction.write(rows, [], made_head(301, recorded_at=3010), [])


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY]
)
def test_a_commit_for_which_there_is_no_room_wrote_nothing(store: SqliteStore, code: int) -> None:
    writer = store._writer
    failing(store, "COMMIT", sqlite_error(code))
    with pytest.raises(StoreError) as caught:
        append_next(store)
    assert not isinstance(caught.value, UnknownOutcomeError)
    store._writer = writer
    append_next(store)
    assert store.stream_version("note/b") == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_that_fails_otherwise_is_unknown_and_the_last(
    path: Path, store: SqliteStore, after: bool
) -> None:
    """Failed-and-not-written, failed-but-written: one answer, and the truth after re-opening."""
    writer = store._writer
    failing(store, "COMMIT", sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), after=after)
    with pytest.raises(UnknownOutcomeError, match="same idempotency key"):
        append_next(store)
    store._writer = writer
    for attempt in (lambda: append_next(store), lambda: store.create(first_head())):
        with pytest.raises(StoreError, match="stopped writing"):
            attempt()
    store.tend()
    assert store.stream_version("note/a") == 300
    with closing(SqliteStore.open(path)) as again:
        assert again.stream_version("note/b") == int(after)


def test_a_rollback_that_fails_is_the_end_too(store: SqliteStore) -> None:
    writer = store._writer
    failing(store, "ROLLBACK", sqlite_error(sqlite3.SQLITE_IOERR))
    with pytest.raises(KeyError), store.transaction():
        raise KeyError
    store._writer = writer
    with pytest.raises(StoreError, match="stopped writing"):
        append_next(store)


@pytest.mark.parametrize(
    ("code", "stops"), [(sqlite3.SQLITE_FULL, False), (sqlite3.SQLITE_IOERR_FSYNC, True)]
)
def test_tending_copies_the_log_and_stops_where_the_disk_lies(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, code: int, stops: bool
) -> None:
    monkeypatch.setattr(sqlite_store, "WAL_BYTES", 100)
    before = path.read_bytes()
    append_next(store)
    assert path.read_bytes() == before
    store.tend()
    tended = path.read_bytes()
    assert tended != before
    rows = made_rows(["note/c"], start=301)
    append_rows(store, rows)
    failing(store, "PRAGMA wal_checkpoint", sqlite_error(code))
    store.tend()
    if stops:
        with pytest.raises(StoreError, match="while tending"), store.transaction():
            pass
    else:
        append_rows(store, made_rows(["note/d"], start=302))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (sqlite3.SQLITE_BUSY, UnreachableError, "another process"),
        (sqlite3.SQLITE_LOCKED, UnreachableError, "another process"),
        (sqlite3.SQLITE_CONSTRAINT, ConflictError, "refused the write"),
        (sqlite3.SQLITE_FULL, StoreError, "disk is full"),
        (sqlite3.SQLITE_IOERR_WRITE, StoreError, "disk is full or a quota"),
        (sqlite3.SQLITE_READONLY, StoreError, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, StoreError, "check the rights"),
        (sqlite3.SQLITE_NOTADB, StoreError, "not a ledger"),
        (sqlite3.SQLITE_CORRUPT, TamperError, "damaged"),
        (sqlite3.SQLITE_IOERR_READ, StoreError, "injected"),
    ],
)
def test_the_drivers_errors_are_ours_at_the_edge(
    store: SqliteStore, code: int, error: type[AsofError], words: str
) -> None:
    failing(store, "BEGIN", sqlite_error(code))
    with pytest.raises(error, match=words), store.transaction():
        pass


def test_a_message_that_quotes_damaged_text_is_evidence(store: SqliteStore) -> None:
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    failing(store, "BEGIN", error)
    with pytest.raises(TamperError, match="not UTF-8"), store.transaction():
        pass


def test_a_writer_in_another_process_is_waited_for_and_then_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "BUSY_SECONDS", 0.05)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(SqliteStore.open(path)) as store,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnreachableError, match="held by another process"), store.transaction():
            pass
        other.execute("ROLLBACK")
        append_next(store)


def test_a_head_that_moved_under_the_lock_is_a_conflict(store: SqliteStore) -> None:
    """Cannot happen while SQLite keeps its locks; compared all the same."""
    with pytest.raises(ConflictError, match="head moved"), store.transaction() as transaction:
        transaction.head()
        transaction._head = made_head(300, origin="ledger.example.com/other")
        transaction.write(
            made_rows(["note/b"], start=300),
            [],
            made_head(301, origin="ledger.example.com/other"),
            [],
        )


def test_integrity_complaints_are_lines_not_exceptions(path: Path) -> None:
    with closing(SqliteStore.open(path, write=False)) as store:
        broken = FailingConnection(
            store._connect_reader(), "PRAGMA integrity", sqlite_error(sqlite3.SQLITE_CORRUPT)
        )
        store._connect_reader = lambda: broken  # type: ignore[assignment,return-value,method-assign]
        (line,) = store.check_integrity()
        assert "damaged" in line


def test_zeros_cut_off_the_end_are_missed(path: Path) -> None:
    """SQLite itself reads zeros beyond the end; only the length tells."""
    data = path.read_bytes()
    assert data.endswith(bytes(100))
    path.write_bytes(data[:-100])
    with closing(SqliteStore.open(path, write=False)) as store:
        assert store.check_integrity() == [
            f"the file has {len(data) - 100} bytes, its pages take {len(data)}"
        ]


def test_a_file_behind_its_log_is_no_cut_file(path: Path) -> None:
    with closing(SqliteStore.open(path)) as store:
        rows = [row._replace(payload=bytes(9000)) for row in made_rows(["note/z"], start=300)]
        with store.transaction() as transaction:
            transaction.write(rows, [], made_head(301), [])
        with store._reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        assert path.stat().st_size < pages * PAGE_BYTES
        assert store.check_integrity() == []


def test_an_index_that_leads_back_does_not_lead_there_for_ever(store: SqliteStore) -> None:
    with pytest.raises(TamperError, match="out of order at 'b'"):
        store._beyond("b", "b")
    assert store._beyond("a", "b") == "b"


def test_a_reader_that_outlives_the_store_is_closed(store: SqliteStore) -> None:
    with store._reading() as connection:
        store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


# ------------------------------------------------------------------------------ migrations


def test_a_file_of_an_older_schema_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(sqlite_store._script(sqlite_store.MIGRATIONS[:1]))
    for write in (True, False):
        with pytest.raises(StoreError, match=r"older asof \(schema 1.* run `asof migrate`"):
            SqliteStore.open(path, write=write)
    for dry_run in (True, True, False):
        steps = SqliteStore.migrate(path, dry_run=dry_run)
        assert [step.name for step in steps] == ["followers"]
    assert SqliteStore.migrate(path) == []
    with closing(SqliteStore.open(path)) as store:
        assert store.check_integrity() == [] and store.tracked("f") is None


def test_a_position_of_another_type_is_evidence() -> None:
    with pytest.raises(TamperError, match="a follower's position"):
        sqlite_store._as_position((1, "x"), "here")
