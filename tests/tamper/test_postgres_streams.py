"""Names and numbers of streams, changed by the owner of a PostgreSQL database.

A name is kept once, for all entries of its stream; what follows from it is hashed into each of
them. The attacker takes the deny triggers away, does the deed, and puts them back.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ledger.audit import Verdict, verify
from ledger.errors import AsofError, TamperError
from ledger.opening import Ledger, create_ledger, open_ledger
from tests.support.ledgers import note
from tests.support.postgres import prepared

COUNT = 60
A, B = set(range(1, COUNT, 2)), set(range(2, COUNT, 2))
RULE = "stream_number >= 0 AND stream_number <= idx AND (version = 1) = (stream_number = idx)"

ATTACKS = {
    "a name is changed": ("UPDATE asof.stream SET name = 'note/eve' WHERE number = 1", A, ""),
    "two names are exchanged": (
        "UPDATE asof.stream SET name = 'x' WHERE number = 1;"
        "UPDATE asof.stream SET name = 'note/a' WHERE number = 2;"
        "UPDATE asof.stream SET name = 'note/b' WHERE number = 1",
        A | B,
        "",
    ),
    "a name that no entry may have": ("UPDATE asof.stream SET name = '' WHERE number = 1", A, ""),
    "a name is removed": (
        "DELETE FROM asof.stream WHERE number = 2",
        B,
        "",
    ),
    "all names are removed": (
        "DELETE FROM asof.stream",
        {0} | A | B,
        "",
    ),
    "an entry is moved to another stream": (
        "UPDATE asof.entry SET stream_number = 1, version = 10000 WHERE idx = 40",
        {40},
        "",
    ),
    "an entry is moved to a stream that is none": (
        "UPDATE asof.entry SET stream_number = 7 WHERE idx = 40",
        {40},
        "",
    ),
    "a stream is numbered anew": (
        "UPDATE asof.stream SET number = 3 WHERE number = 1;"
        "ALTER TABLE asof.entry DROP CONSTRAINT entry_stream_number_check;"
        "UPDATE asof.entry SET stream_number = 3 WHERE stream_number = 1;"
        f"ALTER TABLE asof.entry ADD CONSTRAINT entry_stream_number_check CHECK ({RULE}) NOT VALID",
        set(),
        "the stream 'note/a' is numbered 3, which is not its first entry",
    ),
    "a name is added": (
        "INSERT INTO asof.stream (ledger, number, name) SELECT ledger, 3, 'note/eve'"
        " FROM asof.stream WHERE number = 0",
        set(),
        "the stream 'note/eve' is numbered 3, which is not its first entry",
    ),
}
"""The deed, the entries that have to be named, and what the server's own check has to say."""


@pytest.fixture
def told(pg_database: str, tmp_path: Path) -> Ledger:
    """Two streams, entries in turn; the first entry of each is 1 and 2."""
    ledger = create_ledger(prepared(pg_database), keys=tmp_path / "keys")
    names = ("note/b", "note/a")
    ledger.writer.append(
        [note(f"{index}", names[index % 2]) for index in range(1, COUNT)], idempotency_key="k"
    )
    return ledger


def attack(url: str, deed: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for verb in ("DISABLE", "ENABLE ALWAYS"):
            for table in ("entry", "stream"):
                for what in ("changed", "truncated"):
                    connection.execute(
                        f"ALTER TABLE asof.{table} {verb} TRIGGER {table}_is_not_{what}".encode()
                    )
            if verb == "DISABLE":
                connection.execute(deed.encode())


@pytest.mark.parametrize("name", ATTACKS)
def test_what_was_done_to_streams_is_found(told: Ledger, pg_database: str, name: str) -> None:
    deed, entries, complaint = ATTACKS[name]
    with told as ledger:
        attack(pg_database, deed)
        report = verify(ledger.store, vkey=ledger.vkey)
    assert report.result is Verdict.INVALID
    assert {found.index for found in report.findings if found.index is not None} == entries
    complaints = [str(one.found) for one in report.findings if one.step == "1 store"]
    assert complaint in " ".join(complaints) and bool(complaint) == bool(complaints)


def test_control_nothing_was_done(told: Ledger, pg_database: str) -> None:
    with told as ledger:
        attack(pg_database, "SELECT 1")
        report = verify(ledger.store, vkey=ledger.vkey)
    assert (report.result, report.findings) == (Verdict.VALID, [])


def test_an_entry_without_a_stream_is_not_read_as_if_it_had_one(
    told: Ledger, pg_database: str, tmp_path: Path
) -> None:
    with told as ledger:
        attack(pg_database, "DELETE FROM asof.stream WHERE number = 2")
        store = ledger.store
        assert [row[3] for row in store.raw_rows(1, 4)] == ["note/a", None, "note/a"]
        for ask in (lambda: list(store.rows(1, 4)), lambda: store.rows_at([1, 2])):
            with pytest.raises(TamperError, match=r"entry 2: .*its stream has no name"):
                ask()
        assert list(store.stream_rows("note/b")) == [] and store.stream_version("note/b") == 0
    with pytest.raises(AsofError, match="its stream has no name"):
        open_ledger(prepared(pg_database), keys=tmp_path / "keys")
