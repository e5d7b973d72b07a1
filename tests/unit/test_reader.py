"""The read side: entries, streams, proofs of any size, and what is said about what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger.canonical import format_json, format_time
from ledger.draft import Draft
from ledger.entry import entry_leaf
from ledger.errors import MalformedError, NotFoundError, TamperError
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import check_consistency, check_inclusion
from ledger.note import Signer
from ledger.opening import Ledger
from ledger.proof import check_proof
from ledger.reader import Reader
from ledger.record import Record
from ledger.store import Row
from ledger.stores.memory import MemoryStore
from tests.support.ledgers import (
    ACTOR,
    NOON,
    SettableClock,
    memory_ledger,
    note,
    notes,
    sqlite_ledger,
)

SIZE = 601


@pytest.fixture(params=["memory", "sqlite"], scope="module")
def ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """601 entries in batches of 60, a minute apart, in three streams and the ledger's own."""
    clock = SettableClock()
    made = (
        memory_ledger(clock)
        if request.param == "memory"
        else sqlite_ledger(tmp_path_factory.mktemp("reader"), clock)
    )
    with made as ledger:
        for batch in range(10):
            clock.now += 60_000_000
            ledger.writer.append([note(f"{batch} {n}", f"note/{n % 3}") for n in range(60)])
        yield ledger


@pytest.fixture
def reader(ledger: Ledger) -> Reader:
    return ledger.reader


def test_what_it_stands_on(ledger: Ledger, reader: Reader) -> None:
    head = ledger.store.head()
    assert head == reader.head()
    assert (reader.size(), reader.origin) == (SIZE, ledger.vkey.name)
    assert reader.checkpoint() == reader.head().checkpoint
    basis = reader.basis()
    assert (basis.tree_size, basis.root, basis.recorded_at) == (
        SIZE,
        reader.head().root,
        NOON + 600_000_000,
    )
    early = reader.basis(61)
    assert early.root == reader.root(61)
    assert early.as_json() == {
        "tree_size": 61,
        "root": reader.root(61).hex(),
        "recorded_at": format_time(NOON + 60_000_000),
    }
    assert reader.basis(0).as_json() == {
        "tree_size": 0, "root": EMPTY_ROOT.hex(), "recorded_at": None,
    }  # fmt: skip


def test_entries_link_and_lead_to_the_root(reader: Reader) -> None:
    records = list(reader.entries())
    assert [record.index for record in records] == list(range(SIZE))
    assert records[0].prev == EMPTY_ROOT
    assert all(after.prev == before.leaf_hash for before, after in pairwise(records))
    assert [record.index for record in reader.entries(5, 9)] == [5, 6, 7, 8]
    assert [record.index for record in reader.entries(-5, 2)] == [0, 1]
    assert list(reader.entries(SIZE)) == list(reader.entries(9, 5)) == []
    assert len(list(reader.entries(600, 10**9))) == 1
    assert [row.index for row in reader.rows(3, 5)] == [3, 4]
    for index in (0, 1, 255, 256, 600):
        assert entry_leaf(reader.entry_bytes(index)) == reader.leaf_hash(index)
        assert reader.entry(index) == records[index]
        assert reader.entry(index).prev == records[index].prev


def test_entries_of_any_indexes_at_once(reader: Reader) -> None:
    wanted = [600, 3, 3, 77]
    assert [record.index for record in reader.entries_at(wanted)] == [3, 77, 600]
    assert reader.entries_at(wanted)[1].leaf_hash == reader.entry(77).leaf_hash
    assert reader.rows_at([]) == []
    with pytest.raises(NotFoundError, match="there is no entry 601"):
        reader.rows_at([3, SIZE])


def test_streams(reader: Reader) -> None:
    assert list(reader.streams()) == ["ledger", "note/0", "note/1", "note/2"]
    assert list(reader.streams("note/")) == ["note/0", "note/1", "note/2"]
    ours = list(reader.stream("note/1"))
    assert [record.version for record in ours] == list(range(1, 201))
    assert ours[7].prev == reader.leaf_hash(ours[7].index - 1)
    assert [record.version for record in reader.stream("note/1", 198)] == [199, 200]
    assert [record.version for record in reader.stream("note/1", 3, 2)] == [4, 5]
    assert reader.stream_version("note/1") == 200


def test_what_was_known_when(reader: Reader) -> None:
    assert reader.index_at(NOON - 1) == 0
    assert reader.index_at(NOON) == 1
    assert reader.index_at(NOON + 60_000_000) == 61
    assert reader.index_at(NOON + 10**12) == SIZE


def test_proofs_of_every_kind_hold(ledger: Ledger, reader: Reader) -> None:
    for index in (0, 1, 254, 255, 256, 511, 600):
        proof = reader.inclusion(index)
        assert check_proof(proof, reader.leaf_hash(index), ledger.vkey).size == SIZE
        for size in (index + 1, 511, 512, 601):
            if index < size:
                hashes = reader.inclusion_hashes(index, size)
                check_inclusion(index, size, reader.leaf_hash(index), hashes, reader.root(size))
    assert reader.inclusion(5, SIZE) == reader.inclusion(5)
    for size1, size2 in ((1, 1), (1, 601), (255, 256), (256, 600), (77, 513)):
        proof = reader.consistency(size1, size2)  # type: ignore[assignment]
        check_consistency(size1, size2, proof, reader.root(size1), reader.root(size2))  # type: ignore[arg-type]


def test_what_is_not_there(reader: Reader) -> None:
    for index in (-1, SIZE, 10**9):
        for ask in (
            reader.entry,
            reader.entry_bytes,
            reader.leaf_hash,
            reader.inclusion,
            lambda index: reader.inclusion_hashes(index, SIZE),
        ):
            with pytest.raises(NotFoundError, match=f"no entry {index}: the ledger has 601"):
                ask(index)
    for size in (-1, SIZE + 1):
        for ask_size in (
            reader.root,
            reader.basis,
            lambda size: reader.inclusion_hashes(0, size),
            lambda size: reader.consistency(1, size),
        ):
            with pytest.raises(NotFoundError, match="there was no tree of"):
                ask_size(size)
    with pytest.raises(NotFoundError, match="keeps its newest checkpoint"):
        reader.inclusion(0, 5)
    with pytest.raises(MalformedError):
        reader.consistency(0, 5)
    signer = Signer.from_seed("x", bytes(32))
    with pytest.raises(NotFoundError, match="asof init"):
        Reader(MemoryStore(), signer.vkey).size()


def test_where_the_chain_ended(reader: Reader) -> None:
    assert reader.chain_head(0).last_leaf == EMPTY_ROOT
    head = reader.chain_head(SIZE)
    assert (head.size, head.last_leaf) == (SIZE, reader.head().last_leaf)
    assert head.recorded_at == reader.head().recorded_at


# -------------------------------------------------------------------------- damaged rows


@pytest.fixture
def damaged() -> Iterator[Ledger]:
    with memory_ledger() as ledger:
        ledger.writer.append(notes(9))
        yield ledger


def test_a_missing_entry_is_evidence(damaged: Ledger) -> None:
    store: Any = damaged.store
    del store._rows[4]
    with pytest.raises(TamperError, match="entry 4: it is missing"):
        list(damaged.reader.entries())
    store.rows = lambda start, stop: iter(())
    store.leaf_hashes = lambda start, stop: b""
    with pytest.raises(TamperError, match="entry 0: it is missing"):
        list(damaged.reader.entries())
    for ask in (damaged.reader.entry, damaged.reader.leaf_hash):
        with pytest.raises(TamperError, match="entry 3: it is missing"):
            ask(3)


def test_a_missing_one_among_several_is_evidence(damaged: Ledger) -> None:
    store: Any = damaged.store
    found = store.rows_at([0, 1])
    store.rows_at = lambda indexes: found
    with pytest.raises(TamperError, match="entry 4: it is missing"):
        damaged.reader.rows_at([0, 4, 1])


def test_a_row_of_which_no_entry_can_be_made_is_evidence(damaged: Ledger) -> None:
    store: Any = damaged.store
    store._rows[4] = store._rows[4]._replace(stream="a\nb")
    with pytest.raises(TamperError, match="entry 4: no entry can be made"):
        damaged.reader.entry_bytes(4)


# ------------------------------------------------------------------------------ a record


def record(payload: bytes | None, **changes: Any) -> Record:
    row = Row(
        index=7,
        recorded_at=NOON,
        actor=ACTOR,
        stream="note/a",
        type="note.added/1",
        version=3,
        commitment=b"c" * 32,
        salt=b"s" * 16,
        payload=payload,
        leaf_hash=b"l" * 32,
    )
    return Record(row._replace(**changes), b"p" * 32)


def test_a_record_in_full() -> None:
    found = record(format_json({"effective_at": "2026-11-21T04:00:00.5+01:00", "text": "ü"}))
    assert found.as_json() == {
        "index": 7,
        "recorded_at": "2026-11-21T12:00:00.000000Z",
        "effective_at": "2026-11-21T03:00:00.500000Z",
        "type": "note.added/1",
        "stream": "note/a",
        "version": 3,
        "actor": ACTOR,
        "data": {"effective_at": "2026-11-21T04:00:00.5+01:00", "text": "ü"},
        "commitment": (b"c" * 32).hex(),
        "leaf_hash": (b"l" * 32).hex(),
        "prev": (b"p" * 32).hex(),
    }
    assert found.data is found.data
    assert found.effective_at == found.effective_at == NOON - 32_399_500_000
    assert repr(found) == "Record(7, 'note.added/1', 'note/a'#3)"
    assert found == record(found.payload) and found != record(None) and found != 7
    assert len({found, record(found.payload), record(None)}) == 2
    assert (found.commitment, found.payload) == (b"c" * 32, found.row.payload)


def test_a_withheld_payload_is_none_never_empty() -> None:
    found = record(None, salt=None)
    assert found.data is None
    assert found.payload is None
    assert found.effective_at == NOON
    assert found.as_json()["data"] is None


@pytest.mark.parametrize(
    "payload", [b'{"text":"x"}', b'{"text":"\\"effective_at\\""}', b'{"a":{"effective_at":"x"}}',
                b'{"effective_at":null}', b'{"text":"\\u0022effective_at\\u0022"}']
)  # fmt: skip
def test_without_a_stated_time_it_is_the_recorded_one(payload: bytes) -> None:
    assert record(payload).effective_at == NOON


@pytest.mark.parametrize("stated", [7, "yesterday", "2026-11-21T05:00:00", ["x"]])
def test_a_stated_time_that_is_none_is_evidence(stated: object) -> None:
    with pytest.raises(TamperError, match="entry 7: its effective_at is not a time"):
        _ = record(format_json({"effective_at": stated})).effective_at


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"7", b'"x"', b"\xff"])
def test_a_payload_that_is_no_object_is_evidence(payload: bytes) -> None:
    with pytest.raises(TamperError, match="entry 7: its payload is not a JSON object"):
        _ = record(payload).data


def test_a_payload_is_read_as_it_was_written(tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as ledger:
        odd = b'{ "b":1,\n "a":2.50}'
        ledger.writer.append([Draft(type="t/1", stream="s", actor=ACTOR, payload=odd)])
        assert ledger.reader.entry(1).payload == odd
