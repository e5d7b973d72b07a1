"""The connector for files on a real disk: what is kept, what is refused, what a restore leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from connectors import placing
from connectors.connector import AssetVersion, RestoreStep, Settings, path_of_location
from connectors.files import FilesConnector
from connectors.listing import LINK, TreeEntry, format_listing, listing_digest
from connectors.objects import ObjectStore
from connectors.placing import Content, place, staging_names
from connectors.reading import hash_text
from ledger.errors import (
    ConflictError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
)
from tests.support.repositories import write


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def connector(tmp_path: Path) -> FilesConnector:
    return FilesConnector(Settings(environ={}, objects=tmp_path / "objects"))


def version_of(connector: FilesConnector, target: Path) -> AssetVersion:
    [seen] = connector.observe(str(target))
    assert seen.asset is not None
    return seen.asset


def step_to(target: AssetVersion, expected: str | None) -> RestoreStep:
    return RestoreStep(id="7/1", slot="data", target=target, expected_digest_now=expected)


# The store.


def test_objects_are_copies_read_only_and_kept_once(store: ObjectStore, tmp_path: Path) -> None:
    one = write(tmp_path / "one", "content")
    os.link(one, tmp_path / "hardlink")
    entry = store.put_file(one)
    path = store.path_of(entry.sha256)
    assert path.relative_to(store.root) == Path("sha256", entry.sha256[:2], entry.sha256[2:])
    assert stat.S_IMODE(path.stat().st_mode) == 0o444 and path.stat().st_nlink == 1
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    inode = path.stat().st_ino
    store.put_file(write(tmp_path / "two", "content"))
    assert path.stat().st_ino == inode and list((store.root / "tmp").iterdir()) == []
    (tmp_path / "hardlink").write_text("changed")
    assert store.read(entry.sha256) == b"content"


@pytest.mark.parametrize("damage", [b"", b"c0ntent", b"content and more"])
def test_a_damaged_object_is_told_and_healed(
    store: ObjectStore, tmp_path: Path, damage: bytes
) -> None:
    entry = store.put_file(write(tmp_path / "one", "content"))
    path = store.path_of(entry.sha256)
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(TamperError) as caught:
        store.check(entry.sha256)
    assert (caught.value.expected, caught.value.found) == (entry.sha256, hash_text(damage).sha256)
    assert str(path) in str(caught.value)
    store.put_file(tmp_path / "one")
    assert store.check(entry.sha256) == 7


def test_a_missing_object_says_what_to_do(store: ObjectStore) -> None:
    with pytest.raises(NotFoundError, match="restore that folder from a backup, or capture"):
        store.check("0" * 64)


def test_leftovers_of_dead_writers_go_and_living_ones_stay(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put_bytes(b"x")
    dead, alive = write(store.root / "tmp/dead", "x"), write(store.root / "tmp/alive", "x")
    with alive.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.put_bytes(b"y")
        assert not dead.exists() and alive.exists()


def test_a_full_disk_leaves_nothing_half_written(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = write(tmp_path / "one", "content")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match="the disk is full; make room and try again"):
            store.put_file(source)
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == [".gitignore"]
    assert store.check(store.put_file(source).sha256) == 7


# Changing while it is read.


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def same_size_and_time(path: Path) -> None:
    status = path.stat()
    path.write_text("Content")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    path.with_name("new").write_text("content")
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize("change", [append, same_size_and_time, replaced, Path.unlink])
@pytest.mark.parametrize("call", [1, 2], ids=["in the first reading", "in the second"])
def test_a_file_that_changes_while_it_is_read(
    connector: FilesConnector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    call: int,
) -> None:
    target = write(tmp_path / "data/one", "content")
    real, calls = os.readv, []

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        count = real(descriptor, buffers)
        if count:
            calls.append(count)
        if count and len(calls) == call:
            change(target)
        return count

    with monkeypatch.context() as patched:
        patched.setattr(os, "readv", readv)
        for place_of in (target, target.parent):
            with pytest.raises((ConflictError, NotFoundError)) as caught:
                connector.observe(str(place_of))
            assert change is Path.unlink or "changed while it was read" in str(caught.value)
            calls.clear()
            write(target, "content")
    assert version_of(connector, target).digest.endswith(hash_text(b"content").sha256)


def test_a_folder_that_grows_while_it_is_read(
    connector: FilesConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data/one", "content").parent
    real = os.readv

    def readv(descriptor: int, buffers: list[memoryview]) -> int:
        (folder / "two").touch()
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    with pytest.raises(ConflictError, match="data changed while it was read; try again"):
        connector.observe(str(folder))


# What cannot be captured.


def make_pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad")


def make_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("bad")
    finally:
        os.chdir(here)


def make_link(points_to: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "bad").symlink_to(points_to)


def make_latin(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/b\xe4d", "wb"):
        pass


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (make_pipe, RefusedError, "bad: a device, pipe or socket"),
        (make_socket, RefusedError, "bad: a device, pipe or socket"),
        (make_link("/etc/passwd"), MalformedError, "only relative links"),
        (make_link("../data2/x"), MalformedError, "leaves the tree"),
        (make_link("a/../../x"), MalformedError, "leaves the tree"),
        (make_latin, MalformedError, "not UTF-8"),
    ],
    ids=["pipe", "socket", "absolute link", "sibling", "climbing", "latin-1"],
)
def test_what_no_version_can_hold(
    connector: FilesConnector,
    tmp_path: Path,
    make: Callable[[Path], None],
    error: type[Exception],
    words: str,
) -> None:
    folder = write(tmp_path / "data/one", "content").parent
    make(folder)
    with pytest.raises(error, match=words):
        connector.observe(str(folder))


def test_targets_that_are_no_file(connector: FilesConnector, tmp_path: Path) -> None:
    real = write(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(RefusedError, match=f"symbolic link; name what it points to: {real}"):
        connector.observe(str(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RefusedError, match="neither a file nor a folder"):
        connector.observe(str(tmp_path / "pipe"))
    version_of(connector, real)
    for inside in (tmp_path, tmp_path / "objects", tmp_path / "objects/sha256"):
        with pytest.raises(RefusedError, match="lie inside each other"):
            connector.observe(str(inside))
    with pytest.raises(MalformedError, match="object store"):
        FilesConnector(Settings(environ={}))


def test_an_unreadable_file(connector: FilesConnector, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    target = write(tmp_path / "one", "x")
    target.chmod(0)
    with pytest.raises(StoreError, match="one: not permitted; change its permissions"):
        connector.observe(str(target))


# What a restore leaves.


def test_names_of_all_kinds_come_back(connector: FilesConnector, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("two\nlines", "-rf", "שלום", "🦆/ü", "u\u0308", "<script>", "a\\b", " x ", "CON"):
        write(folder / name, name)
    good = version_of(connector, folder)
    write(folder / "extra", "x")
    bad = version_of(connector, folder)
    assert connector.restore(step_to(good, bad.digest)).status == "done"
    assert version_of(connector, folder).digest == good.digest
    assert not (folder / "extra").exists() and (folder / "u\u0308").read_text() == "u\u0308"


def test_a_name_with_a_newline_needs_a_chosen_name(
    connector: FilesConnector, tmp_path: Path
) -> None:
    target = write(tmp_path / "two\nlines", "x")
    with pytest.raises(MalformedError, match="control character"):
        connector.observe(str(target))
    [seen] = connector.observe(str(target), name="two-lines")
    assert seen.asset is not None and path_of_location(seen.asset.location) == target


def test_permissions_are_those_of_what_is_replaced(
    connector: FilesConnector, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    write(folder / "secret/key", "good")
    write(folder / "run.sh", "good", executable=True)
    good = version_of(connector, folder)
    (folder / "secret").chmod(0o700)
    write(folder / "secret/key", "bad").chmod(0o600)
    (folder / "run.sh").chmod(0o640)
    bad = version_of(connector, folder)
    assert connector.restore(step_to(good, bad.digest)).status == "done"
    modes = {
        name: stat.S_IMODE((folder / name).stat().st_mode)
        for name in ("secret", "secret/key", "run.sh")
    }
    assert modes == {"secret": 0o700, "secret/key": 0o600, "run.sh": 0o750}


def test_a_single_file_keeps_its_executable_bit(connector: FilesConnector, tmp_path: Path) -> None:
    target = write(tmp_path / "run.sh", "good", executable=True)
    good = version_of(connector, target)
    target.unlink()
    assert connector.restore(step_to(good, good.digest)).status == "done"
    assert os.access(target, os.X_OK)
    write(target, "bad").chmod(0o4755)
    assert connector.restore(replace(step_to(good, None), overwrite=True)).status == "done"
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_owner_is_that_of_what_is_replaced(connector: FilesConnector, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder = write(tmp_path / "data/one", "good").parent
    good = version_of(connector, folder)
    write(folder / "one", "bad")
    for path in (folder, folder / "one"):
        os.chown(path, 12345, 23456)
    assert connector.restore(step_to(good, version_of(connector, folder).digest)).status == "done"
    for path in (folder, folder / "one"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_folder_that_is_gone_is_made_again(connector: FilesConnector, tmp_path: Path) -> None:
    target = write(tmp_path / "a/b/one", "good")
    good = version_of(connector, target)
    target.unlink()
    target.parent.rmdir()
    outcome = connector.restore(step_to(good, good.digest))
    assert outcome.status == "done" and target.read_text() == "good"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_file_and_folder_take_each_others_place(
    connector: FilesConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(placing, "_exchange", lambda one, other: False)
    target = write(tmp_path / "thing", "a file")
    as_file = version_of(connector, target)
    target.unlink()
    write(target / "inside", "a folder")
    as_folder = version_of(connector, target)
    for wanted, other in ((as_file, as_folder), (as_folder, as_file), (as_file, as_folder)):
        assert connector.restore(step_to(wanted, other.digest)).status == "done"
    assert target.read_text() == "a file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects", "thing"]


def test_what_nobody_recorded_is_kept_before_it_is_overwritten(
    connector: FilesConnector, store: ObjectStore, tmp_path: Path
) -> None:
    for target, edited in ((tmp_path / "one", "one"), (tmp_path / "data", "data/two")):
        write(tmp_path / ("one" if edited == "one" else "data/one"), "good")
        good = version_of(connector, target)
        write(tmp_path / edited, "an afternoon's work")
        outcome = connector.restore(replace(step_to(good, None), overwrite=True))
        assert (
            outcome.status == "done" and "is kept in the object store as sha256:" in outcome.detail
        )
        kept = outcome.detail.rpartition("sha256:")[2]
        assert b"an afternoon" in store.read(kept) or len(store.read_listing(kept)) == 2


def test_a_link_in_the_way_is_not_followed(connector: FilesConnector, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere/one", "mine")
    target = write(tmp_path / "data/one", "good")
    good = version_of(connector, target)
    target.unlink()
    target.symlink_to(elsewhere)
    assert connector.restore(replace(step_to(good, None), overwrite=True)).status == "refused"
    target.unlink()
    target.parent.rmdir()
    target.parent.symlink_to(elsewhere.parent)
    outcome = connector.restore(replace(step_to(good, None), overwrite=True))
    assert outcome.status == "refused" and elsewhere.read_text() == "mine"
    elsewhere.unlink()
    outcome = connector.restore(step_to(good, None))
    assert outcome.status == "refused" and "reached through a symbolic link" in outcome.detail
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    "path", ["../data2/x", "/etc/x", "a/../../x", "..", ".", "", "a//b", "a/./b", "a\0b", "x" * 256]
)
def test_a_listing_that_leaves_its_folder(path: str) -> None:
    with pytest.raises(MalformedError):
        format_listing([TreeEntry(path, "100644", "0" * 64, 0)])


def test_a_listing_that_writes_through_its_own_links(store: ObjectStore, tmp_path: Path) -> None:
    content = store.put_bytes(b"evil")
    outside = write(tmp_path / "outside/file", "mine")
    for points_to in (b"../outside", b"/etc", b"a/../..", b""):
        link = store.put_bytes(points_to)
        through = [TreeEntry("a", LINK, *link), TreeEntry("a/file", "100644", *content)]
        with pytest.raises(MalformedError, match="lies under 'a', which is not a folder"):
            format_listing(through)
        if points_to:
            listing = store.put_bytes(format_listing(through[:1]))
            with pytest.raises(MalformedError):
                place(store, Content(listing.sha256, is_tree=True), tmp_path / "data")
    assert outside.read_text() == "mine" and not (tmp_path / "data").exists()
    assert not any(os.path.lexists(name) for name in staging_names(tmp_path / "data"))


def test_a_tampered_listing_is_never_placed(store: ObjectStore, tmp_path: Path) -> None:
    content = store.put_bytes(b"x")
    entry = TreeEntry("one", "100644", *content)
    for data in (
        format_listing([entry]) + b" ",
        format_listing([entry]).replace(b'"size":1', b'"size":true'),
        format_listing([entry]).replace(b"100644", b"100666"),
        format_listing([entry]).replace(b"asof.tree/1", b"asof.tree/2"),
        b'{"entries":[1],"format":"asof.tree/1"}',
        b"[]",
        b"\xff",
    ):
        with pytest.raises(MalformedError):
            place(store, Content(store.put_bytes(data).sha256, is_tree=True), tmp_path / "data")
    wrong_size = entry._replace(size=0)
    with pytest.raises(StoreError, match="reads back differently"):
        listing = store.put_bytes(format_listing([wrong_size]))
        place(store, Content(listing.sha256, is_tree=True), tmp_path / "data")
    submodule = TreeEntry("part", "160000", *content)
    with pytest.raises(MalformedError, match="submodule"):
        listing = store.put_bytes(format_listing([submodule]))
        place(store, Content(listing.sha256, is_tree=True), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert listing_digest([entry]) != listing_digest([wrong_size])


def test_two_restores_do_not_meet(connector: FilesConnector, tmp_path: Path) -> None:
    target = write(tmp_path / "data/one", "good")
    good = version_of(connector, target)
    write(target, "bad")
    bad = version_of(connector, target)
    held = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = connector.restore(step_to(good, bad.digest))
        assert outcome.status == "failed" and "another restore is under way" in outcome.detail
    finally:
        os.close(held)
    assert connector.restore(step_to(good, bad.digest)).status == "done"


def test_a_full_disk_at_restore_keeps_the_old(
    connector: FilesConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for target in (tmp_path / "one", tmp_path / "data"):
        inside = target if target.name == "one" else target / "x"
        write(inside, "good")
        good = version_of(connector, target)
        write(inside, "bad")
        bad = version_of(connector, target)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            outcome = connector.restore(step_to(good, bad.digest))
        assert outcome.status == "failed" and "disk is full" in outcome.detail
        assert connector.read_back(step_to(good, None)).digest == bad.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "objects", "one"]


@pytest.mark.parametrize(
    "location",
    ["", "/data", "http://host/data", "file://other/data", "file:///data/../etc/passwd",
     "file:///data/%2e%2e/etc", "file:///data/%00", "file:data"],
)  # fmt: skip
def test_locations_that_are_none(connector: FilesConnector, tmp_path: Path, location: str) -> None:
    good = version_of(connector, write(tmp_path / "one", "x"))
    with pytest.raises(MalformedError):
        connector.restore(step_to(replace(good, location=location), None))


def test_progress_counts_both_readings(tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    settings = Settings(
        environ={},
        objects=tmp_path / "objects",
        progress=lambda done, all: calls.append((done, all)),
    )
    connector = FilesConnector(settings)
    version_of(connector, write(tmp_path / "one", "x" * 3_000_000))
    assert calls[-1] == (6_000_000, 6_000_000) and len(calls) == 6


def test_a_default_name_is_normalised_and_the_location_is_not(
    connector: FilesConnector, tmp_path: Path
) -> None:
    target = write(tmp_path / "u\u0308.csv", "x")
    version = version_of(connector, target)
    assert version.name == "\u00fc.csv" and path_of_location(version.location) == target


def test_more_files_than_may_be_open_at_once(connector: FilesConnector, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in range(300):
        write(folder / f"{number % 7}" / f"{number}", str(number % 50))
    good = version_of(connector, folder)
    before = len(os.listdir("/proc/self/fd"))
    write(folder / "0/0", "bad")
    bad = version_of(connector, folder)
    assert connector.restore(step_to(good, bad.digest)).status == "done"
    assert version_of(connector, folder).digest == good.digest
    assert len(os.listdir("/proc/self/fd")) == before
