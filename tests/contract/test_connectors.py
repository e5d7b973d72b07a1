"""What every connector must do, told once and run for each: observe → record → change → available →
restore → read back. A new system adds a `Subject` here."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connectors import SYSTEMS, connector_for
from connectors.connector import (
    AssetVersion,
    Connector,
    Message,
    Observation,
    RestoreStep,
    Settings,
)
from ledger.canonical import format_json, parse_json
from ledger.errors import MalformedError, NotFoundError
from ledger.events import parse_event
from tests.support.repositories import commit_all, git, make_repository, write


@dataclass
class Subject:
    """One system under test, with what a test may do to it behind the connector's back."""

    connector: Connector
    target: str
    change: Callable[[str], None]
    lose: Callable[[AssetVersion], None]
    spoil: Callable[[AssetVersion], None] | None
    is_restorable: bool = True

    def observe(self) -> Observation:
        [seen] = self.connector.observe(self.target)
        assert seen.asset is not None and seen.digest == seen.asset.digest
        return seen

    def version(self) -> AssetVersion:
        asset = self.observe().asset
        assert asset is not None
        # Only what an entry keeps may be needed for a restore.
        return AssetVersion.from_event_data(asset.as_event_data())


def settings_in(folder: Path) -> Settings:
    return Settings(environ=os.environ, objects=folder / "objects")


def file_subject(folder: Path) -> Subject:
    target = write(folder / "data" / "orders.csv", "one\n")
    return Subject(
        connector=connector_for("files", settings_in(folder)),
        target=str(target),
        change=lambda text: void(write(target, text)),
        lose=lambda version: shutil.rmtree(folder / "objects"),
        spoil=lambda version: spoil_objects(folder / "objects"),
    )


def folder_subject(folder: Path) -> Subject:
    target = folder / "data"
    write(target / "deep" / "a.csv", "one\n")
    write(target / "run.sh", "#!/bin/sh\n", executable=True)
    (target / "empty").mkdir()
    (target / "link").symlink_to("deep/a.csv")
    return Subject(
        connector=connector_for("files", settings_in(folder)),
        target=str(target),
        change=lambda text: void(write(target / "deep" / "b.csv", text)),
        lose=lambda version: shutil.rmtree(folder / "objects"),
        spoil=lambda version: spoil_objects(folder / "objects"),
    )


def git_subject(folder: Path, part: str = "", *, bare: bool = False) -> Subject:
    work = make_repository(
        folder / "work", {"params.yaml": "depth: 3\n", "src/model.py": "x = 1\n"}
    )
    root = work
    if bare:
        root = folder / "shop.git"
        git(folder, "clone", "-q", "--bare", str(work), str(root))

    def change(text: str) -> None:
        write(work / "params.yaml", text)
        write(work / "src" / "model.py", text)
        write(work / "src" / "more.py", text)
        commit_all(work, "change")
        if bare:
            git(work, "push", "-q", str(root), "main")

    def lose(version: AssetVersion) -> None:
        for ref in git(root, "for-each-ref", "--format=%(refname)", "refs/ledger").split():
            git(root, "update-ref", "-d", ref)
        git(
            root,
            "update-ref",
            "refs/heads/main",
            git(root, "commit-tree", "main^{tree}", "-m", "x"),
        )
        git(root, "reflog", "expire", "--expire=now", "--all")
        git(root, "gc", "-q", "--prune=now")

    def spoil(version: AssetVersion) -> None:
        # The same commit id with other content in the object database: git would not notice.
        name = "src/model.py" if part == "src" else "params.yaml"
        blob = git(root, "rev-parse", f"{version.version}:{name}")
        objects = root / "objects" if bare else root / ".git" / "objects"
        unpack_all(root, objects)
        other = git(root, "hash-object", "-w", "--stdin", stdin=b"depth: 9\n")
        path = objects / blob[:2] / blob[2:]
        path.unlink()
        shutil.copy(objects / other[:2] / other[2:], path)

    return Subject(
        connector=connector_for("git", settings_in(folder)),
        target=f"{root}:{part}" if part else str(root),
        change=change,
        lose=lose,
        spoil=spoil,
    )


def unpack_all(root: Path, objects: Path) -> None:
    for pack in list((objects / "pack").glob("*.pack")):
        moved = Path(shutil.move(pack, root / pack.name))
        for rest in (objects / "pack").glob(pack.stem + ".*"):
            rest.unlink()
        git(root, "unpack-objects", "-q", stdin=moved.read_bytes())
        moved.unlink()


def environment_subject(folder: Path) -> Subject:
    project = folder / "project"
    lock = write(project / "requirements.lock", "numpy==2.0.0\n")
    return Subject(
        connector=connector_for("environment", settings_in(folder)),
        target=str(project),
        change=lambda text: void(write(lock, text)),
        lose=lambda version: None,
        spoil=None,
        is_restorable=False,
    )


def void(_: object) -> None:
    return None


def spoil_objects(root: Path) -> None:
    for path in (root / "sha256").rglob("*"):
        if path.is_file() and path.stat().st_size:
            path.chmod(0o644)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "files, a file": file_subject,
    "files, a folder": folder_subject,
    "git, a tree": git_subject,
    "git, a file": lambda folder: git_subject(folder, "params.yaml"),
    "git, a folder": lambda folder: git_subject(folder, "src"),
    "git, bare": lambda folder: git_subject(folder, bare=True),
    "git, bare, a file": lambda folder: git_subject(folder, "params.yaml", bare=True),
    "environment": environment_subject,
}
RESTORABLE = [name for name in SUBJECTS if name != "environment"]


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return SUBJECTS[request.param](tmp_path)


@pytest.fixture(params=RESTORABLE)
def restorable(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return SUBJECTS[request.param](tmp_path)


def step_to(target: AssetVersion, expected: str | None, **more: object) -> RestoreStep:
    step = RestoreStep(id="rollback/7/1", slot="slot", target=target, expected_digest_now=expected)
    return replace(step, **more)  # type: ignore[arg-type]


def test_every_system_has_a_subject(tmp_path: Path) -> None:
    tried = {SUBJECTS[name](tmp_path / str(n)).connector.system for n, name in enumerate(SUBJECTS)}
    assert tried == set(SYSTEMS)


def test_the_same_thing_looks_the_same_twice(subject: Subject) -> None:
    assert subject.version() == subject.version()


def test_a_version_is_plain_json_and_names_its_system(subject: Subject) -> None:
    version = subject.version()
    assert version.source["system"] == subject.connector.system
    assert set(version.source) <= {"system", "ref", "details"}
    assert version.ref == f"{version.kind}/{version.name}@{version.version}"
    assert version.location.startswith("file:///")


def test_a_change_changes_the_digest(subject: Subject) -> None:
    before = subject.version()
    subject.change("changed\n")
    after = subject.version()
    assert before.digest != after.digest and before.ref != after.ref


def test_restore_brings_the_version_back_and_reading_back_shows_it(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    bad = restorable.version()
    step = step_to(good, bad.digest, current=bad)
    assert restorable.connector.available(good).status == "available"
    assert restorable.connector.read_back(step).digest == bad.digest
    outcome = restorable.connector.restore(step)
    assert (outcome.status, outcome.observed_digest) == ("done", good.digest), outcome
    seen = restorable.connector.read_back(step)
    assert (seen.digest, seen.asset) == (good.digest, good)
    assert restorable.version().digest == good.digest


def test_restoring_twice_is_restoring_once(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    step = step_to(good, restorable.version().digest)
    assert restorable.connector.restore(step).status == "done"
    again = restorable.connector.restore(step)
    assert (again.status, again.observed_digest) == ("already", good.digest)
    other_key = restorable.connector.restore(replace(step, id="rollback/8/1"))
    assert (other_key.status, other_key.observed_digest) == ("already", good.digest)


def test_back_and_forth_ends_where_the_last_step_said(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    bad = restorable.version()
    assert restorable.connector.restore(step_to(good, bad.digest, id="1")).status == "done"
    assert restorable.connector.restore(step_to(bad, good.digest, id="2")).status == "done"
    assert restorable.connector.restore(step_to(good, bad.digest, id="3")).status == "done"
    assert restorable.version().digest == good.digest


def test_what_changed_since_the_plan_is_not_overwritten(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    planned = restorable.version()
    restorable.change("by somebody else\n")
    drifted = restorable.version()
    step = step_to(good, planned.digest)
    outcome = restorable.connector.restore(step)
    assert (outcome.status, restorable.version().digest) == ("refused", drifted.digest)
    assert planned.digest in outcome.detail and drifted.digest in outcome.detail
    assert restorable.connector.restore(step_to(good, None)).status == "refused"
    told = restorable.connector.restore(replace(step, overwrite=True))
    assert (told.status, restorable.version().digest) == ("done", good.digest)


def test_a_lost_version_is_missing_and_nothing_is_touched(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    bad = restorable.version()
    restorable.lose(good)
    assert restorable.connector.available(good).status == "missing"
    outcome = restorable.connector.restore(step_to(good, bad.digest))
    assert outcome.status == "failed" and outcome.detail
    assert restorable.connector.read_back(step_to(good, None)).digest == bad.digest


def test_a_spoilt_version_is_changed_and_never_restored(restorable: Subject) -> None:
    good = restorable.version()
    restorable.change("changed\n")
    bad = restorable.version()
    assert restorable.spoil is not None
    restorable.spoil(good)
    availability = restorable.connector.available(good)
    assert availability.status == "changed" and availability.detail
    assert restorable.connector.restore(step_to(good, bad.digest)).status == "failed"
    assert restorable.connector.read_back(step_to(good, None)).digest == bad.digest


def test_verify_only_says_so_and_what_differs(tmp_path: Path) -> None:
    subject = environment_subject(tmp_path)
    good = subject.version()
    step = step_to(good, good.digest)
    assert good.restorable == "verify_only"
    assert subject.connector.available(good).status == "verify_only"
    assert subject.connector.restore(step).status == "already"
    subject.change("numpy==2.1.0\n")
    availability = subject.connector.available(good)
    assert availability.status == "verify_only"
    assert "locks requirements.lock" in availability.detail
    outcome = subject.connector.restore(step)
    assert outcome.status == "refused" and "locks requirements.lock" in outcome.detail
    assert subject.connector.read_back(step).digest == outcome.observed_digest != good.digest


def test_versions_of_other_systems_are_refused(subject: Subject) -> None:
    other = replace(subject.version(), source={"system": "elsewhere", "ref": "7"})
    for call in (subject.connector.restore, subject.connector.read_back):
        with pytest.raises(MalformedError, match="elsewhere"):
            call(step_to(other, None))
    with pytest.raises(MalformedError, match="elsewhere"):
        subject.connector.available(other)


def test_a_target_that_is_not_there(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        subject.connector.observe(str(tmp_path / "nowhere"))
    with pytest.raises(MalformedError):
        subject.connector.observe("")


def test_kind_and_name_can_be_chosen(subject: Subject) -> None:
    [seen] = subject.connector.observe(subject.target, kind="policy", name="naïve/🦆")
    assert seen.asset is not None and seen.asset.ref.startswith("policy/naïve/🦆@")
    with pytest.raises(MalformedError):
        subject.connector.observe(subject.target, name="two\nlines")


def test_messages_that_are_none(subject: Subject) -> None:
    with pytest.raises(MalformedError):
        subject.connector.translate(Message(headers={}, body=b"hello"))


def test_progress_grows_to_its_total(subject: Subject, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    settings = replace(
        settings_in(tmp_path), progress=lambda done, total: calls.append((done, total))
    )
    list(connector_for(subject.connector.system, settings).observe(subject.target))
    dones = [done for done, _ in calls]
    assert dones == sorted(dones)
    assert all(total is None or done <= total for done, total in calls)


def test_unknown_systems_are_named() -> None:
    with pytest.raises(NotFoundError, match=r"pigeon.*environment, files, git"):
        connector_for("pigeon", Settings(environ={}))


def test_git_and_files_agree_on_a_folder(tmp_path: Path) -> None:
    """The digest of a commit's tree is the digest of the same folder on a disk."""
    subject = git_subject(tmp_path)
    root = Path(subject.target)
    write(root / "run.sh", "#!/bin/sh\n", executable=True)
    (root / "latest").symlink_to("src/model.py")
    commit_all(root, "more")
    plain = tmp_path / "plain"
    shutil.copytree(root, plain, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    [seen] = connector_for("files", settings_in(tmp_path)).observe(str(plain))
    assert seen.digest == subject.version().digest
    [one] = connector_for("git", settings_in(tmp_path)).observe(str(root / "params.yaml"))
    assert one.digest == f"sha256:{hashlib.sha256(b'depth: 3' + bytes([10])).hexdigest()}"


def test_event_data_reads_back(subject: Subject) -> None:
    [seen] = subject.connector.observe(subject.target)
    assert seen.asset is not None
    data = seen.asset.as_event_data()
    parse_event("asset.version.recorded/1", data)
    assert parse_json(format_json(data)) == data
