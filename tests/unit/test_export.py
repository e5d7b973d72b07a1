"""A ledger as a folder: out, checked as it lies, back in, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger import export
from ledger.audit import Report, Verdict, verify, verify_url
from ledger.draft import Draft
from ledger.errors import ConflictError, MalformedError, NotFoundError, StoreError, TamperError
from ledger.export import (
    ExportFolder,
    export_folder,
    format_payloads,
    import_folder,
    parse_payloads,
)
from ledger.keys import load_vkey
from ledger.reader import Reader
from ledger.store import Tracked
from ledger.stores.memory import MemoryStore
from ledger.stores.sqlite import SqliteStore
from tests.support.claims import SIGNER, STRANGER, Told, opened, story

BIG = 700


@contextmanager
def long_story() -> Iterator[Told]:
    """The story, then so many entries that there are full tiles, and one payload erased."""
    with story() as told:
        grow(told, BIG - 13)
        told.record("payload.redacted/1", "privacy/1", {"indexes": [2]})
        store = told.store
        assert isinstance(store, MemoryStore)
        store._rows[2] = store._rows[2]._replace(salt=None, payload=None)
        yield told


@pytest.fixture
def told() -> Iterator[Told]:
    """The long story, to be gone on with."""
    with long_story() as told:
        yield told


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, to be copied."""
    folder = tmp_path_factory.mktemp("sound")
    with long_story() as told:
        exported(told, folder)
    return folder


def grow(told: Told, count: int) -> None:
    told.writer.append(
        [
            Draft(
                type="note.added/1", stream=f"note/{i % 5}", actor="user:ada", payload=b"{%d}" % i
            )
            for i in range(count)
        ]
    )


def exported(told: Told, folder: Path) -> ExportFolder:
    assert export_folder(told.reader, folder) == told.reader.size()
    return ExportFolder(folder)


def checked(store: Any) -> Report:
    return verify(store, vkey=SIGNER.vkey)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- out ------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_static_tiles(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path)
    assert set(files_of(tmp_path)) == {
        "checkpoint", "ledger.vkey",
        "tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2",
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/188",
        "payloads/000", "payloads/001", "payloads/002.p/188",
    }  # fmt: skip
    assert (tmp_path / "checkpoint").read_bytes() == told.reader.checkpoint()
    assert load_vkey(tmp_path) == SIGNER.vkey


def test_a_folder_is_verified_by_the_same_steps(told: Told, tmp_path: Path) -> None:
    report = checked(exported(told, tmp_path))
    assert (report.result, report.entries) == (Verdict.VALID, BIG), report.findings
    assert report.checked["tiles"] == 2 and report.checked["erasures"] == 1
    by_url = verify_url(f"folder:{tmp_path}", vkey=SIGNER.vkey, workers=2)
    assert by_url.as_json() == report.as_json()


def test_a_folder_is_brought_up_to_date(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path / "a")
    before = files_of(tmp_path / "a")
    grow(told, 100)
    seen: list[tuple[int, int]] = []
    export_folder(told.reader, tmp_path / "a", progress=lambda n, of: seen.append((n, of)))
    after = files_of(tmp_path / "a")
    assert all(after[name] == data for name, data in before.items() if name != "checkpoint")
    assert seen[-1] == (BIG + 100, BIG + 100)
    assert checked(ExportFolder(tmp_path / "a")).result is Verdict.VALID
    exported(told, tmp_path / "b")
    fresh = files_of(tmp_path / "b")
    assert all(after[name] == data for name, data in fresh.items())


def test_what_is_complete_is_left_alone(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("00[01]")}
    exported(told, tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_another_ledgers_folder_is_refused(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path)
    with story() as shorter, pytest.raises(ConflictError, match="choose another folder"):
        export_folder(shorter.reader, tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(told: Told, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        export_folder(told.reader, tmp_path / "file" / "out")


def test_an_empty_ledger_is_a_folder_too(tmp_path: Path) -> None:
    with opened(MemoryStore()) as told:
        folder = exported(told, tmp_path)
    assert checked(folder).result is Verdict.VALID


# --- the folder as a store ------------------------------------------------------------------------


def test_a_folder_answers_as_the_store_does(told: Told, tmp_path: Path) -> None:
    folder, store = exported(told, tmp_path), told.store
    assert folder.head() == store.head()
    for start, stop in ((0, BIG), (250, 260), (699, 800), (0, 0)):
        assert list(folder.rows(start, stop)) == list(store.rows(start, stop))
        assert folder.raw_rows(start, stop) == store.raw_rows(start, stop)
        assert folder.rows_at([stop, start, start]) == store.rows_at([start, stop])
        assert folder.leaf_hashes(start, stop) == store.leaf_hashes(start, stop)
    assert list(folder.streams("note/")) == list(store.streams("note/"))
    assert list(folder.stream_rows("note/3", 2, 4)) == list(store.stream_rows("note/3", 2, 4))
    assert folder.stream_version("note/3") == store.stream_version("note/3")
    assert folder.stream_version("none") == 0
    assert list(folder.stream_spans(300)) == list(store.stream_spans(300))
    assert list(folder.tiles()) == list(store.tiles())
    assert folder.tile(0, 1) == store.tile(0, 1) and folder.tile(0, 2) is None
    for index in (0, 11, 500, 699):
        at = told.reader.entry(index).recorded_at
        assert folder.index_at(at) == store.index_at(at)
    assert folder.key_use("note-1") is None and list(folder.key_uses()) == []
    assert Reader(folder, SIGNER.vkey).entry(7).data == told.reader.entry(7).data
    folder.tend()
    folder.close()


def test_nothing_is_appended_to_a_folder(told: Told, tmp_path: Path) -> None:
    folder = exported(told, tmp_path)
    with pytest.raises(StoreError, match="import it"):
        folder.transaction()
    with pytest.raises(StoreError, match="import it"):
        folder.create(folder.head())
    assert not folder.recovers and folder.migrations() == () and folder.tracked("f") is None
    with pytest.raises(StoreError, match="is an export"):
        folder.track(Tracked("f", 1))


def test_a_folder_without_a_checkpoint_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        ExportFolder(tmp_path)
    for text in (b"", b"no checkpoint\n\n", b"a\nb\n"):
        (tmp_path / "checkpoint").write_bytes(text)
        with pytest.raises(TamperError):
            ExportFolder(tmp_path)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-1])
    elif how == "longer":
        path.write_bytes(data + b"\x00")
    else:
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])


@pytest.mark.parametrize("how", ["gone", "cut", "longer", "flipped"])
@pytest.mark.parametrize(
    "name",
    [
        "tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/001",
        "tile/entries/002.p/188", "payloads/000", "payloads/002.p/188", "checkpoint",
    ],
)  # fmt: skip
def test_each_damaged_file_is_found(sound: Path, tmp_path: Path, name: str, how: str) -> None:
    folder = shutil.copytree(sound, tmp_path / "out")
    damage(folder / name, how)
    report = verify_url(f"folder:{folder}", vkey=SIGNER.vkey)
    assert report.result in (Verdict.INVALID, Verdict.ERROR), report
    assert report.result is Verdict.INVALID or name == "checkpoint"


def test_a_bundle_of_too_many_entries_is_found(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path)
    path = tmp_path / "tile/entries/002.p/188"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:402])
    assert verify_url(f"folder:{tmp_path}", vkey=SIGNER.vkey).result is Verdict.INVALID


def test_a_file_that_cannot_be_read_is_an_error(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path)
    (tmp_path / "tile/0/000").unlink()
    (tmp_path / "tile/0/000").mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        ExportFolder(tmp_path).tile(0, 0)


def test_payloads_have_their_form() -> None:
    rows = [
        (0, 0, "", "", "", 0, b"", b"s" * 16, b"payload", b""),
        (1, 0, "", "", "", 0, b"", None, None, b""),
    ]
    data = format_payloads(rows)
    assert parse_payloads(data) == [(b"s" * 16, b"payload"), (None, None)]
    for broken in (data[:-2], b"\x02", b"\x01", b"\x01" + b"s" * 16 + b"\xff" * 4):
        with pytest.raises(MalformedError):
            parse_payloads(broken)


# --- in -------------------------------------------------------------------------------------------


def test_an_import_is_the_same_ledger(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path / "out")
    seen: list[tuple[int, int]] = []
    count = import_folder(
        tmp_path / "out",
        tmp_path / "copy.db",
        vkey=SIGNER.vkey,
        keys=tmp_path / "keys",
        progress=lambda n, of: seen.append((n, of)),
    )
    assert count == BIG and seen == [(BIG, BIG)]
    assert load_vkey(tmp_path / "keys") == SIGNER.vkey
    with closing(SqliteStore.open(tmp_path / "copy.db", write=False)) as copy:
        assert list(copy.rows(0, BIG)) == list(told.store.rows(0, BIG))
        assert copy.head() == told.store.head() and list(copy.tiles()) == list(told.store.tiles())
        assert export_folder(Reader(copy, SIGNER.vkey), tmp_path / "again") == BIG
    assert files_of(tmp_path / "again") == files_of(tmp_path / "out")
    assert not list(tmp_path.glob("*.importing*"))


def test_an_import_of_what_was_damaged_leaves_nothing(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path / "out")
    damage(tmp_path / "out/payloads/000", "flipped")
    with pytest.raises(TamperError, match="entry 0: "):
        import_folder(tmp_path / "out", tmp_path / "copy.db", vkey=SIGNER.vkey)
    with pytest.raises(TamperError):
        import_folder(tmp_path / "out", tmp_path / "copy.db", vkey=STRANGER.vkey)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_import_that_cannot_be_verified_is_no_import(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(told, tmp_path / "out")
    monkeypatch.setattr("ledger.audit.verify", lambda store, vkey: Report(error="the disk is gone"))
    with pytest.raises(StoreError, match="the disk is gone"):
        import_folder(tmp_path / "out", tmp_path / "copy.db", vkey=SIGNER.vkey)


def test_an_import_that_is_interrupted_leaves_nothing_and_can_be_repeated(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(told, tmp_path / "out")
    monkeypatch.setattr(export, "COPY_ROWS", 100)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folder(tmp_path / "out", tmp_path / "c.db", vkey=SIGNER.vkey, progress=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "c.db.importing").write_bytes(b"left behind")
    assert import_folder(tmp_path / "out", tmp_path / "c.db", vkey=SIGNER.vkey) == BIG


def test_an_import_overwrites_nothing(told: Told, tmp_path: Path) -> None:
    exported(told, tmp_path / "out")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ledger.vkey").write_text("already there\n")
    import_folder(tmp_path / "out", tmp_path / "c.db", vkey=SIGNER.vkey, keys=tmp_path / "keys")
    assert (tmp_path / "keys/ledger.vkey").read_text() == "already there\n"
    with pytest.raises(ConflictError):
        import_folder(tmp_path / "out", tmp_path / "c.db", vkey=SIGNER.vkey)


def test_a_tree_without_partial_tiles_has_none(tmp_path: Path) -> None:
    with story() as told:
        grow(told, 256 - 12)
        assert checked(exported(told, tmp_path)).result is Verdict.VALID
    assert not list(tmp_path.rglob("tile/0/*.p"))
