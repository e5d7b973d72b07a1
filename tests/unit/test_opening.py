"""Beginning, opening and recovering a ledger: what is checked, in the module's order."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledger.opening as opening
from ledger import places
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.clock import system_clock
from ledger.errors import (
    ConflictError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
)
from ledger.guard import Guard, GuardMark
from ledger.keys import GUARD_FILE, SIGNING_FILE, VKEY_FILE, load_key, load_vkey
from ledger.note import Signer, format_vkey
from ledger.opening import (
    check_tail,
    create_ledger,
    open_ledger,
    recover,
)
from ledger.places import place_of, sqlite_path
from ledger.stores.sqlite import SqliteStore
from tests.support.ledgers import (
    NOON,
    ORIGIN,
    SettableClock,
    check_whole,
    memory_ledger,
    note,
    notes,
    sqlite_ledger,
    sqlite_url,
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A closed ledger of 301 entries."""
    with sqlite_ledger(tmp_path) as ledger:
        ledger.writer.append(notes(300))
    return sqlite_url(tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "asof.keys"


# ------------------------------------------------------------------------------ beginning


def test_a_new_ledger(tmp_path: Path, keys: Path) -> None:
    with create_ledger(sqlite_url(tmp_path), actor="user:1") as ledger:
        assert ledger.reader.size() == 1
        first = ledger.reader.entry(0)
        assert (first.type, first.stream, first.actor) == ("ledger.opened/1", "ledger", "user:1")
        assert first.data == {"origin": ledger.reader.origin, "keys": [format_vkey(ledger.vkey)]}
        assert ledger.reader.origin.startswith("asof.local/")
        assert ledger.guard.read() == GuardMark(ledger.reader.origin, 1, ledger.reader.root(1))
        assert abs(first.recorded_at - system_clock()) < 60_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asof.db", "asof.keys"]
    assert sorted(path.name for path in keys.iterdir()) == [
        ".gitignore",
        GUARD_FILE,
        VKEY_FILE,
        SIGNING_FILE,
    ]


def test_its_first_events_are_of_the_vocabulary(url: str, keys: Path) -> None:
    events = pytest.importorskip("ledger.events")
    (keys / GUARD_FILE).unlink()
    recover(url, why="the guard was lost", actor="user:1")
    with open_ledger(url) as ledger:
        for record in ledger.reader.stream("ledger"):
            events.parse_event(record.type, record.data)
        assert [record.type for record in ledger.reader.stream("ledger")] == [
            "ledger.opened/1",
            "epoch.started/1",
        ]


def test_a_ledger_is_begun_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="already holds the ledger"):
        create_ledger(url)
    elsewhere = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(ConflictError, match="has signed a ledger of 301 entries"):
        create_ledger(elsewhere, keys=tmp_path / "asof.keys")
    with pytest.raises(ConflictError, match=r"not of 'ledger.example.com/x'"):
        create_ledger(elsewhere, keys=tmp_path / "asof.keys", origin="ledger.example.com/x")
    with create_ledger(elsewhere) as other:
        assert other.reader.origin != ORIGIN


@pytest.mark.parametrize("step", ["file", "signing", "vkey", "guard", "head"])
def test_an_interrupted_beginning_is_finished(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Cut off after each step of `create_ledger`, then called again."""
    url = sqlite_url(tmp_path)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if step == "file":
            patched.setattr(opening, "create_key", stop)
        elif step == "guard":
            patched.setattr(opening, "_begun", stop)
        elif step == "head":
            patched.setattr("ledger.writer.Writer.append", stop)
        else:
            patched.setattr(Guard, "create", stop)
        with pytest.raises(KeyboardInterrupt):
            create_ledger(url, origin=ORIGIN)
    if step == "signing":
        (keys / VKEY_FILE).unlink()
    if step != "head":  # a ledger without entries is one
        with pytest.raises((StoreError, NotFoundError)):
            open_ledger(url)
    with create_ledger(url, origin=ORIGIN) as ledger:
        assert ledger.reader.size() == 1
    with open_ledger(url) as ledger:
        check_whole(ledger.store, ledger.reader)


@pytest.mark.parametrize(
    "url",
    ["", "asof.db", "sqlite://asof.db", "sqlite:///", "sqlite:///:memory:", "mysql://h/d",
     "memory", "memory://", "file:///asof.db"],
)  # fmt: skip
def test_other_urls_are_refused_with_the_supported_ones(url: str) -> None:
    for door in (open_ledger, create_ledger):
        with pytest.raises(MalformedError, match=r"sqlite:///relative/path, sqlite:////absolute"):
            door(url)


def test_urls_name_files() -> None:
    assert sqlite_path("sqlite:///asof.db") == Path("asof.db")
    assert sqlite_path("sqlite:////var/lib/asof.db") == Path("/var/lib/asof.db")
    assert sqlite_path("sqlite:///a b?#ü.db") == Path("a b?#ü.db")
    assert place_of("sqlite:///x/asof.db").beside(".keys") == Path("x/asof.keys")
    assert place_of("postgresql://app@db/audit").exists()
    assert place_of("postgresql://app@db/audit").beside(".keys") == Path("asof.keys")


def test_a_relative_path_with_odd_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with create_ledger("sqlite:///a b?#%ü.db") as ledger:
        ledger.writer.append(notes(1))
    assert (tmp_path / "a b?#%ü.db").exists()
    with open_ledger("sqlite:///a b?#%ü.db", write=False) as ledger:
        assert ledger.reader.size() == 2


def test_a_ledger_in_memory_is_new_each_time() -> None:
    with open_ledger("memory:") as one, open_ledger("memory:") as two:
        assert one.reader.size() == two.reader.size() == 1
        assert one.reader.origin != two.reader.origin
        one.writer.append(notes(3))
        check_whole(one.store, one.reader)
    with memory_ledger() as named:
        assert named.reader.origin == ORIGIN


# -------------------------------------------------------------------------------- opening


def test_what_was_appended_is_there_again(url: str) -> None:
    clock = SettableClock(NOON - 10**9)
    with open_ledger(url, clock=clock) as ledger:
        assert ledger.reader.size() == 301
        done = ledger.writer.append([note("more", expected=300)])
        assert done.recorded_at == NOON
        check_whole(ledger.store, ledger.reader)
    ledger.close()


def test_a_reader_needs_the_public_key_only(url: str, keys: Path) -> None:
    (keys / SIGNING_FILE).unlink()
    (keys / GUARD_FILE).unlink()
    with open_ledger(url, write=False) as ledger:
        assert len(list(ledger.reader.entries())) == 301
        assert ledger.signer is None
        with pytest.raises(StoreError, match="reading only"):
            _ = ledger.writer
    with pytest.raises(NotFoundError, match="can read, not write"):
        open_ledger(url)


def test_a_reader_reads_while_a_writer_writes(url: str) -> None:
    with open_ledger(url) as writing, open_ledger(url, write=False) as reading:
        for n in range(20):
            writing.writer.append([note(str(n))])
            assert reading.reader.size() == 302 + n
            assert reading.reader.entry(301 + n).data == {"text": str(n)}


def test_the_keys_of_another_ledger_are_refused(url: str, tmp_path: Path) -> None:
    with create_ledger(f"sqlite:///{tmp_path / 'other.db'}"):
        pass
    for write in (True, False):
        with pytest.raises(TamperError, match="another ledger than the key belongs to") as caught:
            open_ledger(url, keys=tmp_path / "other.keys", write=write)
        assert caught.value.found == ORIGIN
    with pytest.raises(NotFoundError, match="asof init"):
        open_ledger(url, keys=tmp_path / "none", write=False)


def test_a_swapped_file_is_refused(url: str, tmp_path: Path) -> None:
    with create_ledger(f"sqlite:///{tmp_path / 'other.db'}", origin=ORIGIN):
        pass
    shutil.copy(tmp_path / "other.db", tmp_path / "asof.db")
    with pytest.raises(TamperError, match="signature"):
        open_ledger(url)


def owner_changes(url: str, *statements: str, table: str = "entry") -> None:
    """What the owner of the file can do: take the triggers off, change, put them back."""
    with closing(sqlite3.connect(sqlite_path(url))) as connection:
        found = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in found:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, text in found:
            connection.execute(text)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE entry SET actor = 'user:x' WHERE idx = 300", "entry 300: "),
        ("UPDATE entry SET payload = x'7b7d' WHERE idx = 240", "entry 240: "),
        ("UPDATE entry SET recorded_at = 5 WHERE idx = 300", "entry 300: "),
        ("DELETE FROM entry WHERE idx = 300", "entry 300: "),
        ("DELETE FROM entry WHERE idx = 270", "entry 270: |entry 271: "),
        ("DELETE FROM entry", "it is missing|another root"),
        (
            "INSERT INTO entry SELECT 301, recorded_at, 301, actor, stream, type, commitment,"
            " leaf_hash, salt, payload FROM entry WHERE idx = 300",
            "entry 301: it lies beyond the head",
        ),
        ("UPDATE tile SET hashes = zeroblob(8192)", "the tiles lead to another root"),
        ("DELETE FROM tile", None),
        ("UPDATE head SET size = 300", "edge is not|not what its checkpoint signs"),
        ("UPDATE head SET root = zeroblob(32)", "not what its checkpoint signs"),
        ("UPDATE head SET last_leaf = zeroblob(32)", "what the head ends with"),
        ("UPDATE head SET recorded_at = 9e15", "head ends with"),
        ("UPDATE head SET edge = substr(edge, 33)", "edge is not that of"),
        ("UPDATE head SET checkpoint = x'00'", "checkpoint cannot be read"),
        ("UPDATE head SET origin = 'ledger.example.com/x'", "another ledger than the key"),
        ("DELETE FROM head", "no ledger yet"),
    ],
)
def test_the_tail_is_checked_at_every_open(url: str, statement: str, words: str | None) -> None:
    owner_changes(url, statement)
    if words is None:  # tiles are made again of the leaves: nothing is lost, `verify` reports it
        open_ledger(url).close()
        return
    for write in (True, False):
        with pytest.raises((TamperError, StoreError), match=words):
            open_ledger(url, write=write)
    open_ledger(url, write=False, check=False).close()


def test_the_wrong_signature_is_refused(url: str, keys: Path) -> None:
    """The head of a forger who has the file but not the key."""
    forger = Signer.from_seed(ORIGIN, b"\x05" * 32)
    with closing(SqliteStore.open(sqlite_path(url), write=False)) as store:
        head = store.head()
        assert head is not None
        forged = sign_checkpoint(Checkpoint(ORIGIN, head.size, head.root), forger)
    owner_changes(url, f"UPDATE head SET checkpoint = x'{forged.hex()}'")
    with pytest.raises((TamperError, MalformedError), match="sign"):
        open_ledger(url)
    assert load_vkey(keys) == load_key(keys).vkey


def test_a_small_file_is_checked_as_a_whole(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints = ["row 7 missing from index"]
    monkeypatch.setattr(SqliteStore, "check_integrity", lambda self, deep: complaints)
    with pytest.raises(TamperError, match="damaged: row 7"):
        open_ledger(url)
    monkeypatch.setattr(places, "SMALL_FILE_BYTES", 10)
    open_ledger(url).close()


# -------------------------------------------------------------------- guard and recovery


@pytest.fixture
def restored(tmp_path: Path, url: str) -> str:
    """A backup of 301 entries, put back after 10 more were signed."""
    shutil.copy(tmp_path / "asof.db", tmp_path / "backup.db")
    with open_ledger(url) as ledger:
        ledger.writer.append(notes(10, "note/lost"))
    shutil.copy(tmp_path / "backup.db", tmp_path / "asof.db")
    return url


def test_a_store_behind_its_guard_does_not_sign(restored: str, keys: Path) -> None:
    for write in (True, False):
        with pytest.raises(
            TamperError, match=r"entries 301 to 310 are missing.*holds 301.*asof ledger recover"
        ):
            open_ledger(restored, write=write)
    (keys / GUARD_FILE).unlink()
    with pytest.raises(StoreError, match=r"guard .* is missing"):
        open_ledger(restored)


def test_recovery_is_an_entry_and_resets_the_guard(restored: str, keys: Path) -> None:
    done = recover(restored, why="restored the backup of Friday", actor="user:1")
    assert (done.first_index, done.count) == (301, 1)
    with open_ledger(restored) as ledger:
        epoch = ledger.reader.entry(301)
        assert (epoch.type, epoch.stream, epoch.actor) == ("epoch.started/1", "ledger", "user:1")
        assert epoch.data is not None
        assert epoch.data["why"] == "restored the backup of Friday"
        assert epoch.data["from"]["tree_size"] == 311
        assert epoch.data["to"] == {
            "tree_size": 301,
            "root": f"sha256:{ledger.reader.root(301).hex()}",
        }
        ledger.writer.append(notes(1))
        check_whole(ledger.store, ledger.reader)
    with pytest.raises(RefusedError, match=r"nothing to recover: .* 303 entries"):
        recover(restored, why="again", actor="user:1")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"junk")])
def test_a_lost_guard_is_made_again_on_request(
    url: str, keys: Path, harm: Callable[[Path], Any]
) -> None:
    harm(keys / GUARD_FILE)
    with pytest.raises((StoreError, TamperError), match="asof ledger recover"):
        open_ledger(url)
    recover(url, why="the disk with the keys was replaced", actor="user:1")
    with open_ledger(url) as ledger:
        assert ledger.reader.entry(301).data == {
            "why": "the disk with the keys was replaced",
            "to": {"tree_size": 301, "root": f"sha256:{ledger.reader.root(301).hex()}"},
        }


def test_an_interrupted_recovery_is_repeated(
    restored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Guard, "reset", stop)
        with pytest.raises(KeyboardInterrupt):
            recover(restored, why="first try", actor="user:1")
    with pytest.raises(TamperError, match="entries 302 to 310 are missing"):
        open_ledger(restored)
    recover(restored, why="second try", actor="user:1")
    with open_ledger(restored) as ledger:
        assert [record.type for record in ledger.reader.entries(301)] == ["epoch.started/1"] * 2


def test_recovery_is_not_for_a_rewritten_history(url: str, keys: Path) -> None:
    guard = Guard(keys / GUARD_FILE)
    guard.reset(GuardMark(ORIGIN, 200, b"\x07" * 32))
    with pytest.raises(TamperError, match="first 200 entries are not those"):
        recover(url, why="x", actor="user:1")
    guard.reset(GuardMark("ledger.example.com/other", 900, b"\x07" * 32))
    with pytest.raises(TamperError, match="another ledger"):
        recover(url, why="x", actor="user:1")
    with pytest.raises(MalformedError, match="say what happened"):
        recover(url, why="  ", actor="user:1")


def test_an_append_between_two_looks_is_no_evidence(url: str) -> None:
    """Another process appends while we check: the head has moved, nothing lies beyond it."""
    with open_ledger(url) as other, closing(SqliteStore.open(sqlite_path(url))) as store:
        real = store.rows

        def rows(start: int, stop: int) -> Any:
            if start == 301:
                other.writer.append([note("meanwhile")])
            return real(start, stop)

        store.rows = rows  # type: ignore[method-assign]
        check_tail(store, other.vkey)


def test_a_head_without_its_tree_is_refused(url: str) -> None:
    """The comparison that no honest file reaches."""
    with open_ledger(url) as ledger:
        head = ledger.reader.head()
        store: Any = ledger.store
        store.head = lambda: replace(head, recorded_at=head.recorded_at + 1)
        with pytest.raises(TamperError, match="head ends with"):
            check_tail(store, ledger.vkey)


def test_a_ledger_that_cannot_tell_of_a_migration_is_closed_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = SqliteStore.close

    def watched(store: SqliteStore) -> None:
        closed.append(store.url)
        close(store)

    def fail(_store: SqliteStore) -> list[Any]:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "migrations", fail)
        patched.setattr(SqliteStore, "close", watched)
        with pytest.raises(StoreError, match="the disk is gone"):
            open_ledger(url)
        assert closed
    open_ledger(url).close()
