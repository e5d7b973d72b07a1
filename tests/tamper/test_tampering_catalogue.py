"""The catalogue of docs/threats.md, each attack done to a real ledger file by somebody who owns it.

The attacker takes the deny triggers away, does the deed, and puts the triggers back word for word,
so that what is found is found by verification and not by the schema. Rows that the table calls *not
detected* are here too, and the test demands that they are not: a published limit is tested.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.audit import Report, Verdict, verify_url
from ledger.canonical import format_time
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.entry import EntryFormatter, entry_leaf
from ledger.guard import GuardMark, MemoryGuard
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import Frontier
from ledger.note import Signer
from ledger.receipt import Receipt
from ledger.stores.sqlite import SqliteStore
from tests.support.claims import ORIGIN, SIGNER, STRANGER, opened, story, tell


@dataclass(frozen=True)
class Case:
    """A ledger file, and what somebody kept outside of it."""

    path: Path
    guard: MemoryGuard
    checkpoint: bytes
    receipt: Receipt


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("sound") / "asof.db"
    store = SqliteStore.create_file(path)
    with story(store) as told:
        draft = next(iter(told.reader.entries(11, 12)))
        from ledger.draft import Draft

        made = Draft(type=draft.type, stream="note/kept", actor="user:ada", payload=b"{}")
        receipt = told.writer.append([made]).receipts[0]
        receipt.proof()
        head = told.reader.head()
    store.close()
    guard = MemoryGuard()
    guard.advance(GuardMark(ORIGIN, head.size, head.root))
    return Case(path, guard, head.checkpoint, receipt)


@pytest.fixture
def case(sound: Case, tmp_path: Path) -> Case:
    copy = tmp_path / "asof.db"
    shutil.copy(sound.path, copy)
    return Case(copy, sound.guard, sound.checkpoint, sound.receipt)


@contextmanager
def owning(path: Path) -> Iterator[sqlite3.Connection]:
    """The file in the hands of its owner: no trigger, until the end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, text in triggers:
            connection.execute(text)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def judged(case: Case, **kept: object) -> Report:
    return verify_url(f"sqlite:///{case.path}", vkey=SIGNER.vkey, **kept)  # type: ignore[arg-type]


def steps(report: Report) -> list[tuple[str, int | None]]:
    return [(finding.step, finding.index) for finding in report.findings]


def rehash(connection: sqlite3.Connection, signer: Signer | None) -> None:
    """Make chain, head and, with a key, checkpoint fit the rows again: what T8 to T10 do."""
    formatter, prev, leaves = EntryFormatter(ORIGIN), EMPTY_ROOT, []
    rows = connection.execute(
        "SELECT idx, recorded_at, actor, stream, type, version, commitment FROM entry ORDER BY idx"
    ).fetchall()
    for index, at, actor, stream, type_, version, commitment in rows:
        data = formatter.format(
            index, prev.hex(), format_time(at), actor, stream, type_, version, commitment.hex()
        )
        prev = entry_leaf(data)
        leaves.append(prev)
        connection.execute("UPDATE entry SET leaf_hash = ? WHERE idx = ?", (prev, index))
    frontier = Frontier.empty().extended(leaves)
    connection.execute(
        "UPDATE head SET size = ?, root = ?, last_leaf = ?, edge = ?, recorded_at = ?",
        (len(rows), frontier.root(), prev, b"".join(frontier.edge), rows[-1][1]),
    )
    if signer is not None:
        note = sign_checkpoint(Checkpoint(ORIGIN, len(rows), frontier.root()), signer)
        connection.execute("UPDATE head SET checkpoint = ?", (note,))


def older(case: Case, size: int) -> None:
    """T6, T11: the file as it was when it had `size` entries, with its checkpoint of then."""
    case.path.unlink()
    store = SqliteStore.create_file(case.path)
    with opened(store) as told:
        from tests.support import claims

        recorded = 0
        original = claims.Told.record

        def until(self: claims.Told, *given: object, **named: object) -> int:
            nonlocal recorded
            recorded += 1
            return original(self, *given, **named) if recorded <= size else -1  # type: ignore[arg-type]

        claims.Told.record = until  # type: ignore[method-assign]
        try:
            tell(told)
        finally:
            claims.Told.record = original  # type: ignore[method-assign]
    store.close()


Deed = Callable[[sqlite3.Connection], object]

EDITS: dict[str, tuple[Deed, list[tuple[str, int | None]]]] = {
    "T1 a field": (
        lambda db: db.execute("UPDATE entry SET actor = 'user:eve' WHERE idx = 7"),
        [("3 entries", 7)],
    ),
    "T1 a time": (
        lambda db: db.execute("UPDATE entry SET recorded_at = recorded_at + 1 WHERE idx = 7"),
        [("3 entries", 7)],
    ),
    "T1 a type": (
        lambda db: db.execute("UPDATE entry SET type = 'binding.changed/2' WHERE idx = 7"),
        [("3 entries", 7)],
    ),
    "T2 a payload": (
        lambda db: db.execute("UPDATE entry SET payload = x'7b7d' WHERE idx = 7"),
        [("2 commitments", 7)],
    ),
    "T2 a salt": (
        lambda db: db.execute("UPDATE entry SET salt = zeroblob(16) WHERE idx = 7"),
        [("2 commitments", 7)],
    ),
    "T3 delete": (lambda db: db.execute("DELETE FROM entry WHERE idx = 7"), [("4 chain", 8)]),
    "T17 a payload for an erased one": (
        lambda db: db.execute(
            "UPDATE entry SET (salt, payload) = (SELECT salt, payload FROM entry WHERE idx = 3) "
            "WHERE idx = 7"
        ),
        [("2 commitments", 7)],
    ),
    "T18 called erased": (
        lambda db: db.execute("UPDATE entry SET salt = NULL, payload = NULL WHERE idx = 7"),
        [("11 erasures", 7)],
    ),
}


@pytest.mark.parametrize("attack", EDITS)
def test_an_edit_is_found_and_named(case: Case, attack: str) -> None:
    deed, expected = EDITS[attack]
    with owning(case.path) as connection:
        deed(connection)
    report = judged(case)
    assert report.result is Verdict.INVALID
    assert set(expected) <= set(steps(report)), report.findings
    named = {finding.index for finding in report.findings if finding.index is not None}
    assert named == {index for _, index in expected}


def test_t4_reordered_entries_are_found(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute("UPDATE entry SET idx = 99 WHERE idx = 5")
        connection.execute("UPDATE entry SET idx = 5 WHERE idx = 6")
        connection.execute("UPDATE entry SET idx = 6 WHERE idx = 99")
    named = {index for step, index in steps(judged(case)) if step == "3 entries"}
    assert {5, 6} <= named


def test_t5_an_inserted_entry_is_found(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute(
            "INSERT INTO entry SELECT 13, recorded_at, 2, actor, stream, type, commitment,"
            " leaf_hash, salt, payload FROM entry WHERE idx = 12"
        )
    assert ("4 chain", 13) in steps(judged(case))


def test_t6_t7_t11_what_was_cut_off_is_seen_by_what_lies_outside(case: Case) -> None:
    older(case, 5)
    assert judged(case).result is Verdict.VALID  # T7, the published limit: nothing inside can tell
    assert "that nothing was cut off at the end" in judged(case).not_checked[0]
    assert steps(judged(case, guard=case.guard)) == [("9 guard", None)]
    assert steps(judged(case, against=case.checkpoint)) == [("12 evidence", None)]
    assert steps(judged(case, receipt=case.receipt)) == [("12 evidence", None)]


def test_t8_rewritten_and_rehashed_with_the_old_checkpoint(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute("UPDATE entry SET actor = 'user:eve' WHERE idx = 7")
        rehash(connection, None)
    assert steps(judged(case)) == [("8 checkpoint", None)]


def test_t9_t19_rewritten_and_signed_by_another_key(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute("UPDATE entry SET actor = 'user:eve' WHERE idx = 7")
        rehash(connection, STRANGER)
    assert steps(judged(case)) == [("8 checkpoint", None)]


def test_t10_rewritten_and_signed_with_the_stolen_key(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute("UPDATE entry SET actor = 'user:eve' WHERE idx = 7")
        rehash(connection, SIGNER)
        connection.execute("DELETE FROM key_use")
    assert judged(case).result is Verdict.VALID  # the published limit
    assert steps(judged(case, guard=case.guard)) == [("9 guard", None)]
    assert steps(judged(case, against=case.checkpoint)) == [("12 evidence", None)]
    assert steps(judged(case, receipt=case.receipt)) == [("12 evidence", None)]


def test_t12_t13_two_histories_contradict_each_other(case: Case) -> None:
    older(case, 5)
    store = SqliteStore.open(case.path)
    try:
        from ledger.draft import Draft
        from ledger.writer import Writer

        with Writer(store, SIGNER, guard=MemoryGuard(), clock=lambda: 2 * 10**15) as writer:
            forked = Draft(type="note.added/1", stream="note/x", actor="user:eve", payload=b"{}")
            writer.append([forked] * 20)
    finally:
        store.close()
    assert judged(case).result is Verdict.VALID  # this history alone is flawless
    assert steps(judged(case, guard=case.guard)) == [("9 guard", None)]
    report = judged(case, against=case.checkpoint)
    assert steps(report) == [("12 evidence", None)]
    assert (
        "the first 13 entries are not those of the given checkpoint" in report.findings[0].message
    )


def test_t14_backdating_while_writing_is_not_detected(tmp_path: Path) -> None:
    """The published limit: `recorded_at` is the ledger's own word."""
    path = tmp_path / "asof.db"
    store = SqliteStore.create_file(path)
    with story(store):
        pass
    store.close()
    assert verify_url(f"sqlite:///{path}", vkey=SIGNER.vkey).result is Verdict.VALID


def test_t23_another_ledger_under_the_same_address(case: Case) -> None:
    with owning(case.path) as connection:
        connection.execute("UPDATE head SET origin = 'ledger.example.com/other'")
    found = steps(judged(case))
    assert ("1 store", None) in found and ("3 entries", 0) in found


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER entry_is_not_deleted",
        "CREATE VIEW extra AS SELECT 1",
        "CREATE INDEX extra ON entry (actor)",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 3",
        "PRAGMA application_id = 1",
    ],
)
def test_a_changed_schema_is_reported(case: Case, statement: str) -> None:
    with closing(sqlite3.connect(case.path, isolation_level=None)) as connection:
        connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert judged(case).result in (Verdict.INVALID, Verdict.ERROR)


def test_the_sound_file_is_valid(case: Case) -> None:
    """Negative control: opened by its owner, left as it was, with all that was kept outside."""
    with owning(case.path):
        pass
    report = judged(case, guard=case.guard, against=case.checkpoint, receipt=case.receipt)
    assert report.result is Verdict.VALID, report
    with owning(case.path) as connection:
        rehash(connection, None)
    assert judged(case).result is Verdict.VALID
