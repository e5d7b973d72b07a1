"""`verify`: each numbered step finds what is its own, names it, and drags nothing along."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import STEPS, Report, Verdict, reopen, verify, verify_url, whole
from ledger.audit import ranges as ranges_module
from ledger.canonical import format_time
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.draft import Draft
from ledger.errors import MalformedError, StoreError, TamperError
from ledger.guard import GuardMark, MemoryGuard
from ledger.note import Signer, open_note, sign_note
from ledger.receipt import format_receipt
from ledger.store import Head, KeyUse
from ledger.stores.memory import MemoryStore
from ledger.stores.sqlite import SqliteStore
from ledger.tiles import Tile
from tests.support.claims import MINUTE, ORIGIN, SIGNER, START, STRANGER, Told, opened, story

BIG = 700


@pytest.fixture
def told() -> Iterator[Told]:
    with story() as told:
        yield told


def long_store() -> MemoryStore:
    """700 entries in 7 streams: two full tiles and a partial one."""
    store = MemoryStore()
    with opened(store) as told:
        told.writer.append(
            [
                Draft(
                    type="note.added/1",
                    stream=f"note/{i % 7}",
                    actor="user:ada",
                    payload=b"{%d}" % i,
                )
                for i in range(BIG)
            ],
            idempotency_key="all",
        )
    return store


@pytest.fixture(params=["works here", "works elsewhere"])
def big(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Checked in ranges of 256, so that what lies between ranges is tried, too; as a file, and as a
    server that is asked ahead.
    """
    monkeypatch.setattr(whole, "RANGE", 256)
    monkeypatch.setattr(ranges_module, "BATCH", 100)
    monkeypatch.setattr(ranges_module, "AHEAD", 150)
    store = long_store()
    store.works_elsewhere = request.param == "works elsewhere"
    return store


def checked(store: Any, **options: Any) -> Report:
    return verify(store, vkey=SIGNER.vkey, **options)


def found(report: Report) -> list[tuple[str, int | None]]:
    return [(finding.step, finding.index) for finding in report.findings]


# --- sound ledgers --------------------------------------------------------------------------------


def test_a_sound_ledger_is_valid_and_the_report_says_what_that_covers(big: MemoryStore) -> None:
    seen: list[tuple[int, int]] = []
    guard = MemoryGuard()
    guard.advance(GuardMark(ORIGIN, BIG, big.head().root))  # type: ignore[union-attr]
    report = checked(big, guard=guard, progress=lambda done, total: seen.append((done, total)))
    assert (report.result, report.entries, report.findings) == (Verdict.VALID, BIG, [])
    assert report.checked == {
        "commitments": BIG, "entries": BIG, "chain": BIG, "tiles": 2, "streams": 7, "root": 1,
        "checkpoint": 1, "guard": 1, "keys": 1, "erasures": 0,
    }  # fmt: skip
    assert seen == [(256, BIG), (512, BIG), (BIG, BIG)]
    assert all("guard" not in text for text in report.not_checked) and len(report.not_checked) == 3


def test_without_a_guard_the_report_says_what_is_open(told: Told) -> None:
    report = checked(told.store)
    assert report.result is Verdict.VALID
    assert "that nothing was cut off at the end: no rollback guard was given" in report.not_checked


def test_a_guard_that_is_missing_is_not_a_finding(told: Told) -> None:
    class Missing(MemoryGuard):
        def check(self, head: Head, root_at: object) -> None:
            raise StoreError("the rollback guard is missing")

    report = checked(told.store, guard=Missing())
    assert report.result is Verdict.VALID and "is missing)" in report.not_checked[0]


def test_a_ledger_without_entries_is_valid() -> None:
    store = MemoryStore()
    with opened(store):
        assert checked(store).result is Verdict.VALID


def test_no_ledger_is_an_error() -> None:
    assert checked(MemoryStore()).result is Verdict.ERROR


def test_steps_are_numbered_as_in_the_specification() -> None:
    text = (Path(__file__).parents[2] / "docs/spec/verification.md").read_text("utf-8")
    for step in STEPS:
        number, _, name = step.partition(" ")
        assert f"{number}. **{name}**" in text


# --- 1 store, 7 root, 8 checkpoint, 9 guard -------------------------------------------------------


def with_head(store: MemoryStore, **changes: Any) -> None:
    head = store._head
    assert head is not None
    fields = {name: getattr(head, name) for name in head.__slots__} | changes
    store._head = Head(**fields)


def test_1_store_another_ledgers_key_is_found(told: Told) -> None:
    other = Signer.from_seed("ledger.example.com/other", b"o" * 32)
    report = verify(told.store, vkey=other.vkey)
    assert ("1 store", None) in found(report) and ("8 checkpoint", None) in found(report)


def test_1_store_complaints_of_the_store_are_findings(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told.store, "check_integrity", lambda: ["page 3 is odd"])
    report = checked(told.store)
    assert found(report) == [("1 store", None)] and report.findings[0].found == "page 3 is odd"


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"root": bytes(32)}, ["7 root"]),
        ({"last_leaf": bytes(32)}, ["7 root"]),
        ({"recorded_at": 7}, ["7 root"]),
        ({"edge": (bytes(32), bytes(32))}, ["7 root"]),
        ({"checkpoint": b"none"}, ["8 checkpoint"]),
    ],
)
def test_7_root_and_8_checkpoint(told: Told, change: dict[str, Any], steps: list[str]) -> None:
    assert isinstance(told.store, MemoryStore)
    with_head(told.store, **change)
    assert [finding.step for finding in checked(told.store).findings] == steps


def test_8_checkpoint_by_another_key_or_of_another_tree(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    head = told.store.head()
    assert head is not None
    forged = sign_checkpoint(Checkpoint(ORIGIN, head.size, head.root), STRANGER)
    older = sign_checkpoint(Checkpoint(ORIGIN, 3, told.reader.root(3)), SIGNER)
    for checkpoint in (forged, older):
        with_head(told.store, checkpoint=checkpoint)
        assert [f.step for f in checked(told.store).findings] == ["8 checkpoint"]


def test_8_cosignatures_are_counted_and_not_checked(told: Told) -> None:
    assert isinstance(told.store, MemoryStore) and told.store._head is not None
    text = open_note(told.store._head.checkpoint, [SIGNER.vkey]).text
    with_head(told.store, checkpoint=sign_note(text, [SIGNER, STRANGER_NAMED]))
    report = checked(told.store)
    assert report.result is Verdict.VALID
    assert "1 cosignatures on the checkpoint" in report.not_checked


STRANGER_NAMED = Signer.from_seed("witness.example.com", b"w" * 32)


def test_9_guard_sees_what_was_cut_off(told: Told) -> None:
    guard = MemoryGuard()
    guard.advance(GuardMark(ORIGIN, 13, bytes(32)))
    assert [f.step for f in checked(told.store, guard=guard).findings] == ["9 guard"]


# --- 2 commitments, 3 entries, 4 chain, 6 tiles ---------------------------------------------------


def change_row(store: MemoryStore, index: int, **changes: Any) -> None:
    store._rows[index] = store._rows[index]._replace(**changes)
    if "leaf_hash" in changes and len(changes["leaf_hash"]) == 32:
        store._leaves[32 * index : 32 * index + 32] = changes["leaf_hash"]


@pytest.mark.parametrize("index", [0, 1, 255, 256, 257, 511, 512, 698, 699])
@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"payload": b"{}"}, "2 commitments"),
        ({"salt": bytes(16)}, "2 commitments"),
        ({"salt": None}, "2 commitments"),
        ({"actor": "user:eve"}, "3 entries"),
        ({"type": "binding.changed/1"}, "3 entries"),
        ({"actor": "user:\x00"}, "3 entries"),
        ({"actor": 7}, "3 entries"),
        ({"commitment": b"short"}, "3 entries"),
    ],
)
def test_2_and_3_each_damaged_entry_is_named_and_no_other(
    big: MemoryStore, index: int, change: dict[str, Any], step: str
) -> None:
    change_row(big, index, **change)
    report = checked(big)
    named = [f for f in report.findings if f.step == step]
    assert [f.index for f in named] == [index], report.findings
    others = {f.step for f in report.findings} - {step}
    assert others <= {"2 commitments", "10 keys"}


def test_3_entries_whose_stored_leaf_hash_was_changed(big: MemoryStore) -> None:
    for index in (3, 400):
        change_row(big, index, leaf_hash=bytes(32))
    report = checked(big)
    named = {(f.step, f.index, f.place) for f in report.findings}
    assert named == {
        ("3 entries", 3, ""), ("3 entries", 400, ""),
        ("6 tiles", None, "tile 0/0"), ("6 tiles", None, "tile 0/1"),
    }  # fmt: skip


def test_3_a_row_with_a_hash_of_another_size(big: MemoryStore) -> None:
    change_row(big, 5, leaf_hash=b"x")
    change_row(big, 698, leaf_hash=b"x")
    report = checked(big)
    assert {("3 entries", 5), ("3 entries", 698)} <= set(found(report))


def test_3_rows_that_the_store_cannot_read_are_named(
    big: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_rows = big.raw_rows

    def broken(start: int, stop: int) -> list[Any]:
        if start <= 300 < stop or start <= 255 < stop or start <= 699 < stop:
            raise TamperError("database disk image is malformed")
        return raw_rows(start, stop)

    monkeypatch.setattr(big, "raw_rows", broken)
    report = checked(big)
    unread = [f.index for f in report.findings if f.step == "3 entries"]
    assert unread[:3] == [255, 300, 699]


@pytest.mark.parametrize("missing", [[0], [5], [255], [256], [300, 301], [698], [699], [2, 600]])
def test_4_missing_entries_are_named(
    big: MemoryStore, missing: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_rows, tile = big.raw_rows, big.tile

    def holes(start: int, stop: int) -> list[Any]:
        return [row for row in raw_rows(start, stop) if row[0] not in missing]

    monkeypatch.setattr(big, "raw_rows", holes)
    report = checked(big)
    steps = [finding.step for finding in report.findings]
    assert set(steps) <= {"4 chain", "7 root", "8 checkpoint"}, report.findings
    inside = all(index < 512 for index in missing)
    assert not inside or set(steps) == {"4 chain"}  # the tile still holds the leaf hash
    assert tile(0, 0) is not None


def test_4_a_missing_entry_in_a_missing_tile(
    big: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_rows = big.raw_rows
    monkeypatch.setattr(big, "raw_rows", lambda a, b: [r for r in raw_rows(a, b) if r[0] != 5])
    monkeypatch.setattr(big, "tile", _raising)
    report = checked(big)
    assert {"4 chain", "6 tiles"} <= {finding.step for finding in report.findings}


def _raising(level: int, number: int) -> bytes:
    raise TamperError("the tile is damaged")


def test_4_swapped_and_repeated_entries(big: MemoryStore) -> None:
    big._rows[10], big._rows[11] = big._rows[11], big._rows[10]
    big._rows[300] = big._rows[299]
    report = checked(big)
    assert ("4 chain", 11) in found(report) and ("4 chain", 299) in found(report)


def test_4_time_that_runs_backwards(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    change_row(told.store, 5, recorded_at=START)
    assert ("3 entries", 5) in found(checked(told.store))


def test_4_an_entry_that_no_head_signed(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    store = told.store
    assert isinstance(store, MemoryStore)
    rows = store.rows
    extra = store._rows[11]._replace(index=12)
    monkeypatch.setattr(store, "rows", lambda a, b: iter([extra]) if a == 12 else rows(a, b))
    assert found(checked(store)) == [("4 chain", 12)]


@pytest.mark.parametrize("tile", [bytes(8192), b"short", None])
def test_6_tiles_that_differ_or_are_missing(big: MemoryStore, tile: bytes | None) -> None:
    if tile is None:
        del big._tiles[(0, 1)]
    else:
        big._tiles[(0, 1)] = tile
    report = checked(big)
    assert [(f.step, f.place) for f in report.findings] == [("6 tiles", "tile 0/1")]


def test_6_tiles_that_cannot_be(big: MemoryStore) -> None:
    big._tiles[(0, 2)] = bytes(8192)
    report = checked(big)
    assert [(f.step, f.place) for f in report.findings] == [("6 tiles", "tile 0/2")]


def test_6_tiles_that_cannot_be_read(big: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big, "tile", _raising)
    monkeypatch.setattr(big, "tiles", lambda: _raising_tiles())
    steps = [finding.step for finding in checked(big).findings]
    assert set(steps) == {"6 tiles"} and len(steps) == 3


def _raising_tiles() -> Iterator[Tile]:
    yield Tile(0, 0, bytes(8192))
    raise TamperError("the tiles are damaged")


def test_6_upper_tiles_are_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 65,536 leaves there is a tile of tiles; a range's roots stand in for a long ledger."""
    from ledger.audit.ranges import RangeResult

    store = MemoryStore()
    report = Report()
    taken = whole._Whole(store, 65_536, report, None)
    result = RangeResult(0, 65_536)
    result.tile_roots = [bytes([n]) * 32 for n in range(256)]
    taken.take(result)
    assert [f.place for f in report.findings] == ["tile 1/0"]
    assert taken.frontier().size == 65_536


# --- 5 streams, 10 keys, 11 erasures --------------------------------------------------------------


def test_5_streams_must_count_on(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    for spans in ([("note/a", 2, 1, 3)], [("note/a", 2, 2, 3)]):
        monkeypatch.setattr(told.store, "stream_spans", lambda size, spans=spans: iter(spans))
        report = checked(told.store)
        assert [(f.step, f.place) for f in report.findings] == [("5 streams", "note/a")]


def test_5_streams_that_cannot_be_read(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(size: int) -> Iterator[Any]:
        raise TamperError("the index is damaged")

    monkeypatch.setattr(told.store, "stream_spans", broken)
    assert found(checked(told.store)) == [("5 streams", None)]


@pytest.mark.parametrize(
    "change",
    [
        {"first_index": 10}, {"count": 2}, {"tree_size": 11}, {"tree_size": 99},
        {"first_index": -1}, {"body_digest": bytes(32)},
    ],
)  # fmt: skip
def test_10_keys_stand_for_their_batch(told: Told, change: dict[str, Any]) -> None:
    assert isinstance(told.store, MemoryStore)
    (use,) = told.store._keys.values()
    told.store._keys[use.key] = use._replace(**change)
    assert [finding.step for finding in checked(told.store).findings] == ["10 keys"]


def test_10_keys_used_while_verify_runs_are_not_findings(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    from ledger.audit.rest import check_key_uses

    report = Report()
    check_key_uses(told.store, 11, report)
    assert report.findings == []


def test_10_keys_that_cannot_be_read(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[KeyUse]:
        raise TamperError("the key is damaged")
        yield

    monkeypatch.setattr(told.store, "key_uses", broken)
    assert found(checked(told.store)) == [("10 keys", None)]


def test_11_a_payload_is_gone_only_with_evidence(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    change_row(told.store, 2, salt=None, payload=None)
    change_row(told.store, 11, salt=None, payload=None)
    report = checked(told.store)
    assert found(report) == [("11 erasures", 2), ("11 erasures", 11)]
    assert report.findings[0].message == "payload missing without erasure evidence"
    told.record("subject.erased/1", "privacy/1", {"indexes": [2, 11, 3, 99]})
    report = checked(told.store)
    assert report.result is Verdict.VALID
    assert report.checked["erasures"] == 2 and report.checked["keys_of_erased"] == 1
    assert "entry 12 erases entry 3, whose payload is here" in report.notes


def test_11_evidence_whose_own_payload_is_gone_is_none(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    evidence = told.record("subject.erased/1", "privacy/1", {"indexes": [2]})
    for index in (2, evidence):
        change_row(told.store, index, salt=None, payload=None)
    assert found(checked(told.store)) == [("11 erasures", 2), ("11 erasures", evidence)]


# --- 12 evidence ----------------------------------------------------------------------------------


def test_12_receipts_and_checkpoints_that_were_kept_still_fit(told: Told) -> None:
    early = told.reader.checkpoint()
    draft = Draft(type="note.added/1", stream="note/r", actor="user:ada", payload=b"{}")
    receipt = told.writer.append([draft]).receipts[0]
    told.record("note.added/1", "note/r", {"text": "later"})
    for given in (receipt, format_receipt(receipt)):
        report = checked(told.store, receipt=given, against=early)
        assert report.result is Verdict.VALID
        assert report.checked["receipt"] == report.checked["against"] == 1


def test_12_what_was_lost_or_rewritten_is_found(told: Told) -> None:
    draft = Draft(type="note.added/1", stream="note/r", actor="user:ada", payload=b"{}")
    receipt = told.writer.append([draft]).receipts[0]
    with story() as other:
        report = checked(other.store, receipt=receipt)
        assert found(report) == [("12 evidence", None)] and "the ledger ends before" in str(
            report.findings[0]
        )
        other.record("note.added/1", "note/r", {"text": "another"})
        report = checked(other.store, against=told.reader.checkpoint())
        assert "are not those of the given checkpoint" in str(report.findings[0])
    report = checked(told.store, against=b"no checkpoint")
    assert found(report) == [("12 evidence", None)]


def test_12_a_receipt_for_another_entry(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft(type="note.added/1", stream="note/r", actor="user:ada", payload=b"{}")
    receipt = told.writer.append([draft]).receipts[0]
    leaf_hashes = told.store.leaf_hashes
    monkeypatch.setattr(
        told.store,
        "leaf_hashes",
        lambda a, b: bytes(32) if (a, b) == (12, 13) else leaf_hashes(a, b),
    )
    report = checked(told.store, receipt=receipt)
    assert ("12 evidence", 12) in found(report) or ("12 evidence", None) in found(report)


# --- notes ----------------------------------------------------------------------------------------


def test_types_that_nobody_knows_are_notes(told: Told) -> None:
    told.record("galaxy.formed/7", "galaxy/1", {})
    report = checked(told.store)
    assert report.result is Verdict.VALID
    assert report.notes == ["entries of type galaxy.formed/7, which this program does not know"]


def test_entries_from_the_future_are_a_note(told: Told) -> None:
    last = START + 11 * MINUTE
    assert checked(told.store, now=last - 5 * MINUTE).notes == []
    report = checked(told.store, now=last - 7 * MINUTE)
    assert report.result is Verdict.VALID
    assert report.notes == [
        "2 entries from entry 10 on are recorded in the future, up to "
        f"{format_time(told.reader.entry(11).recorded_at)}"
    ] or report.notes[0].startswith("2 entries from entry")


# --- by URL, and in several processes -------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "asof.db"
    store = SqliteStore.create_file(path)
    with opened(store) as told:
        for start in range(0, 3000, 1000):
            told.writer.append(
                [
                    Draft(
                        type="note.added/1",
                        stream=f"note/{i % 11}",
                        actor="user:a",
                        payload=b"{%d}" % i,
                    )
                    for i in range(start, start + 1000)
                ]
            )
    store.close()
    return path


def test_two_workers_find_what_one_finds(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "RANGE", 256)
    url = f"sqlite:///{file}"
    one = verify_url(url, vkey=SIGNER.vkey)
    two = verify_url(url, vkey=SIGNER.vkey, workers=2)
    assert one.result is Verdict.VALID and one.as_json() == two.as_json()


def test_a_url_that_cannot_be_opened_is_a_report(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database")
    for url in (f"sqlite:///{text}", f"sqlite:///{tmp_path}/absent", "memory:", "folder:/nowhere"):
        report = verify_url(url, vkey=SIGNER.vkey)
        assert report.result is Verdict.ERROR and report.error
    with pytest.raises(MalformedError):
        reopen("memory:", ORIGIN)


def test_a_store_that_fails_or_is_damaged_is_a_report(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: Exception) -> Any:
        def head() -> Head:
            raise error

        return head

    monkeypatch.setattr(told.store, "head", raising(StoreError("the disk is gone")))
    assert checked(told.store).error == "the disk is gone"
    monkeypatch.setattr(told.store, "head", raising(TamperError("the head is damaged")))
    assert found(checked(told.store)) == [("1 store", None)]


def test_a_file_whose_schema_was_changed_is_invalid(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "asof.db"
    data = file.read_bytes()
    copy.write_bytes(data.replace(b"an entry is never deleted", b"an entry is often deleted"))
    report = verify_url(f"sqlite:///{copy}", vkey=SIGNER.vkey)
    assert found(report) == [("1 store", None)]


def test_what_a_worker_does_is_what_is_done_here(file: Path) -> None:
    """The functions that run in other processes, run in this one."""
    whole._enter(partial(SqliteStore.open, file, write=False))
    try:
        assert whole._integrity_there() == [] and whole._spans_there(3000) == (11, [])
        result = whole._range_there(ORIGIN, 256, 600)
        assert (result.entries, len(result.tile_roots), len(result.rest)) == (344, 1, 88)
    finally:
        whole._opened.pop().close()


def test_too_many_findings_are_counted(big: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges_module, "MAX_FINDINGS", 3)
    for index in range(10):
        change_row(big, index, actor="user:eve")
    report = checked(big)
    assert len(report.findings) == 3 and report.more_findings == 7


def test_an_entry_may_be_erased_twice(told: Told) -> None:
    assert isinstance(told.store, MemoryStore)
    for number in (1, 2):
        told.record("subject.erased/1", f"privacy/{number}", {"indexes": [2]})
    change_row(told.store, 2, salt=None, payload=None)
    assert checked(told.store).result is Verdict.VALID
