"""SIGKILL at every point of a capture and a restore: old or new, whole; the next call ends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors import placing, repository
from connectors.connector import AssetVersion, RestoreStep, Settings
from connectors.files import FilesConnector
from connectors.git import GitConnector
from connectors.listing import listing_digest
from connectors.objects import ObjectStore
from connectors.placing import staging_names
from connectors.reading import hash_open, hash_text, read_file, read_tree
from tests.support.kills import DISK_CALLS, kill_points
from tests.support.repositories import commit_all, git, make_repository, write

ON_DISK = [(os, name) for name in DISK_CALLS]
LARGE = b"a" * (1 << 20) + b"b" * (1 << 20) + b"c"


def wrong_objects(root: Path) -> list[Path]:
    """Objects whose bytes do not hash to their names."""
    found = [path for path in (root / "sha256").rglob("*") if path.is_file()]
    return [
        path for path in found if read_file(path, hash_open).sha256 != path.parent.name + path.name
    ]


def digest_at(path: Path) -> str | None:
    if not os.path.lexists(path):
        return None
    if path.is_dir():
        return listing_digest(read_tree(path, hash_open, hash_text))
    return f"sha256:{read_file(path, hash_open).sha256}"


# Capturing.


def test_a_killed_capture_leaves_no_wrong_object(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "large", LARGE)
    write(folder / "deep/small", "x")
    (folder / "link").symlink_to("large")
    store = ObjectStore(tmp_path / "objects")
    points = 0
    for _ in kill_points(lambda: store.put_tree(folder), ON_DISK):
        points += 1
        assert wrong_objects(store.root) == []
        listing, _ = store.put_tree(folder)  # the next capture, over what was left
        assert store.check_tree(listing.sha256) == len(LARGE) + 1 + len("large")
        assert list((store.root / "tmp").iterdir()) == []
        shutil.rmtree(store.root)
    assert points >= 20


def test_the_harness_sees_a_store_that_writes_in_place(tmp_path: Path) -> None:
    """Negative control: without rule 1 of the store, a kill leaves a wrong object."""
    store = ObjectStore(tmp_path / "objects")
    path = store.path_of(hash_text(LARGE).sha256)

    def put_in_place() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for start in range(0, len(LARGE), 1 << 20):
            os.write(descriptor, LARGE[start : start + (1 << 20)])

    assert any(wrong_objects(store.root) for _ in kill_points(put_in_place, ON_DISK))


# Restoring files and folders.


@dataclass
class Restore:
    connector: FilesConnector
    step: RestoreStep
    path: Path
    make_bad: Callable[[], None]


def restore_of(tmp_path: Path, form: str) -> Restore:
    connector = FilesConnector(Settings(environ={}, objects=tmp_path / "objects"))
    path = tmp_path / "place" / "data"

    def make(content: bytes, other: str) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        if form == "file":
            write(path, content)
        else:
            write(path / "large", content)
            write(path / other / "small", other)

    make(LARGE, "good")
    [seen] = connector.observe(str(path))
    make(LARGE[1:], "bad")
    assert seen.asset is not None
    step = RestoreStep(id="1", slot="data", target=seen.asset, expected_digest_now=digest_at(path))
    return Restore(connector, step, path, lambda: make(LARGE[1:], "bad"))


@pytest.mark.parametrize(
    ("form", "exchange"),
    [("file", True), ("tree", True), ("tree", False)],
    ids=["a file", "a folder", "a folder, without exchange"],
)
def test_a_killed_restore_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(placing, "_exchange", lambda one, other: False)
    restore = restore_of(tmp_path, form)
    old, new = restore.step.expected_digest_now, restore.step.target.digest
    seen = set()
    calls = [*ON_DISK, (placing, "_exchange"), (shutil, "rmtree")]
    for number in kill_points(lambda: restore.connector.restore(restore.step), calls):
        left = digest_at(restore.path)
        seen.add(left)
        assert left in ({old, new} if exchange else {old, new, None}), f"torn at point {number}"
        outcome = restore.connector.restore(restore.step)
        assert outcome.status in ("done", "already"), (number, outcome)
        assert digest_at(restore.path) == new
        assert not any(os.path.lexists(name) for name in staging_names(restore.path))
        restore.make_bad()
    assert {old, new} <= seen
    assert exchange or None in seen, "the crash between the two renames was not met"
    assert wrong_objects(tmp_path / "objects") == []


# Restoring in git.


def bad_on_good(folder: Path) -> tuple[AssetVersion, AssetVersion]:
    """A repository whose HEAD is bad, on top of a good commit."""
    connector = GitConnector(Settings(environ=os.environ))
    make_repository(folder, {"params.yaml": "depth: 3\n", "thing": "a file\n"})
    [good] = connector.observe(str(folder))
    write(folder / "params.yaml", "depth: 4\n")
    (folder / "thing").unlink()
    write(folder / "thing/inside", "a folder\n")
    commit_all(folder, "bad")
    [bad] = connector.observe(str(folder))
    assert good.asset is not None and bad.asset is not None
    return good.asset, bad.asset


CHANGING = {"commit-tree", "update-ref", "update-index", "read-tree"}


def test_a_killed_restore_in_git_is_completed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, copy = tmp_path / "shop", tmp_path / "copy"
    good, bad = bad_on_good(shop)
    shutil.copytree(shop, copy, symlinks=True)
    step = RestoreStep(id="7/1", slot="code", target=good, expected_digest_now=bad.digest)
    connector = GitConnector(Settings(environ=os.environ))
    real = repository.run

    def changing(*_: object, **__: object) -> None:
        """The harness kills before a call of this name: after each git that changes something."""

    def watched(argv: list[str], **more: object) -> object:
        done = real(argv, **more)  # type: ignore[arg-type]
        if CHANGING & set(argv):
            repository.run.changing()  # type: ignore[attr-defined]
        return done

    watched.changing = changing  # type: ignore[attr-defined]
    monkeypatch.setattr(repository, "run", watched)
    points = 0
    for number in kill_points(lambda: connector.restore(step), [(watched, "changing")]):
        points += 1
        outcome = connector.restore(step)
        assert outcome.status in ("done", "already"), (number, outcome)
        assert connector.read_back(step).digest == good.digest
        assert git(shop, "status", "--porcelain") == ""
        assert git(shop, "rev-list", "--count", f"{bad.version}..HEAD") == "1", "restored twice"
        assert connector.restore(step).status == "already"
        shutil.rmtree(shop)
        shutil.copytree(copy, shop, symlinks=True)
    assert points >= 4


def test_a_crash_between_the_two_references_is_recognised(tmp_path: Path) -> None:
    """Git writes the references of a transaction one after the other; one may be lost."""
    shop = tmp_path / "shop"
    good, bad = bad_on_good(shop)
    connector = GitConnector(Settings(environ=os.environ))
    step = RestoreStep(id="7/1", slot="code", target=good, expected_digest_now=bad.digest)
    assert connector.restore(step).status == "done"
    made = git(shop, "rev-parse", "HEAD")
    [ref] = git(shop, "for-each-ref", "--format=%(refname)", "refs/ledger/step").split()
    git(shop, "read-tree", "-u", "--reset", bad.version)  # the files had not followed
    git(shop, "update-ref", "-d", ref)  # nor had the step's reference been written
    outcome = connector.restore(step)
    assert (outcome.status, outcome.observed_digest) == ("done", good.digest)
    git(shop, "update-ref", ref, made)
    git(shop, "reset", "-q", "--hard", bad.version)  # or the other way round: only that was written
    assert connector.restore(step).status == "done"
    assert git(shop, "rev-parse", "HEAD") == made, "the same commit, not a second one"
