"""The connector for git against real repositories: what is refused, what is kept, what is moved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors import repository
from connectors.connector import AssetVersion, Message, RestoreStep, Settings
from connectors.git import GitConnector, parse_target
from connectors.program import Finished
from ledger.errors import MalformedError, NotFoundError, RefusedError, UnreachableError
from ledger.events import parse_event
from tests.support.repositories import commit_all, git, make_repository, write

FILES: dict[str, str | bytes] = {"params.yaml": "depth: 3\n", "src/model.py": "x = 1\n"}


@pytest.fixture
def connector() -> GitConnector:
    return GitConnector(Settings(environ=os.environ))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "shop", FILES)


def version_of(connector: GitConnector, target: Path | str) -> AssetVersion:
    [seen] = connector.observe(str(target))
    assert seen.asset is not None
    return seen.asset


def step_to(target: AssetVersion, expected: str | None, key: str = "7/1") -> RestoreStep:
    return RestoreStep(id=key, slot="code", target=target, expected_digest_now=expected)


# Targets.


@pytest.mark.parametrize(
    ("text", "path", "ref", "part"),
    [
        ("shop", "shop", "HEAD", ""),
        ("shop#main", "shop", "main", ""),
        ("shop:src/model.py", "shop", "HEAD", "src/model.py"),
        ("shop#v1:src", "shop", "v1", "src"),
        ("shop/params.yaml", "shop/params.yaml", "HEAD", ""),
        ("odd#name:here", "odd#name:here", "HEAD", ""),
        ("odd#name:here#main:a:b#c", "odd#name:here", "main", "a:b#c"),
    ],
)
def test_the_grammar_of_targets(shop: Path, text: str, path: str, ref: str, part: str) -> None:
    (shop.parent / "odd#name:here").mkdir()
    assert parse_target(f"{shop.parent}/{text}") == (shop.parent / path, ref, part)


@pytest.mark.parametrize(
    "rest", ["#", ":", "#main:", ":../x", ":/etc/passwd", ":a//b", ":.", "#-x"]
)
def test_targets_that_make_no_sense(connector: GitConnector, shop: Path, rest: str) -> None:
    with pytest.raises(MalformedError):
        connector.observe(f"{shop}{rest}")


@pytest.mark.parametrize(
    "ref", ["HEAD~1", "main@{1}", "a..b", ":/first", "main^{tree}", "nope", "beef"]
)
def test_revisions_are_names_or_ids(connector: GitConnector, shop: Path, ref: str) -> None:
    with pytest.raises((MalformedError, NotFoundError)):
        connector.observe(f"{shop}#{ref}")


def test_a_file_of_the_working_tree_names_its_repository(
    connector: GitConnector, shop: Path
) -> None:
    one, other = (
        version_of(connector, shop / "params.yaml"),
        version_of(connector, f"{shop}:params.yaml"),
    )
    assert one == other and one.name == "shop/params.yaml" and one.kind == "code"
    assert one.details["part"] == "params.yaml"
    with pytest.raises(MalformedError, match="already a part"):
        connector.observe(f"{shop}/src:model.py")
    with pytest.raises(NotFoundError, match="no file or folder 'gone'"):
        connector.observe(f"{shop}:gone")


def test_what_a_version_holds(connector: GitConnector, shop: Path) -> None:
    git(shop, "remote", "add", "origin", "https://me:hunter2@example.org/shop.git?key=k")
    git(shop, "tag", "v1")
    head = git(shop, "rev-parse", "HEAD")
    version = version_of(connector, shop)
    assert version.ref == f"code/shop@{head}"
    assert version.source == {
        "system": "git",
        "ref": "refs/heads/main",
        "details": {
            "repo": str(shop),
            "commit": head,
            "tree": git(shop, "rev-parse", "HEAD^{tree}"),
            "branch": "refs/heads/main",
            "remote": "https://example.org/shop.git",
        },
    }
    assert version.metadata["files"] == 2 and version.size == 15
    tagged = version_of(connector, f"{shop}#v1")
    assert tagged.source["ref"] == "refs/tags/v1" and "branch" not in tagged.details
    by_id = version_of(connector, f"{shop}#{head[:10]}")
    assert by_id.source["ref"] == head and by_id.digest == version.digest


# What is refused at capture.


def edit(shop: Path) -> None:
    write(shop / "params.yaml", "depth: 4\n")


def edit_unseen(shop: Path) -> None:
    """Same size, same times: the index would not notice."""
    status = (shop / "params.yaml").stat()
    write(shop / "params.yaml", "depth: 9\n")
    os.utime(shop / "params.yaml", ns=(status.st_atime_ns, status.st_mtime_ns))


def stage_only(shop: Path) -> None:
    edit(shop)
    git(shop, "add", "params.yaml")
    write(shop / "params.yaml", FILES["params.yaml"])


def assume_unchanged(shop: Path) -> None:
    git(shop, "update-index", "--assume-unchanged", "params.yaml")
    edit(shop)


def conflict(shop: Path) -> None:
    git(shop, "checkout", "-q", "-b", "other")
    edit(shop)
    commit_all(shop, "other")
    git(shop, "checkout", "-q", "main")
    write(shop / "params.yaml", "depth: 5\n")
    commit_all(shop, "main")
    with pytest.raises(AssertionError):
        git(shop, "merge", "-q", "other")


@pytest.mark.parametrize(
    "dirty",
    [
        edit,
        edit_unseen,
        stage_only,
        assume_unchanged,
        conflict,
        lambda shop: (shop / "params.yaml").unlink(),
        lambda shop: (shop / "params.yaml").chmod(0o755),
    ],
    ids=["edited", "same size and time", "staged", "assumed unchanged", "conflict", "gone", "mode"],
)
def test_a_dirty_repository_is_refused(
    connector: GitConnector, shop: Path, dirty: Callable[[Path], None]
) -> None:
    dirty(shop)
    with pytest.raises(RefusedError, match=r"uncommitted changes: params\.yaml\. Commit or stash"):
        connector.observe(str(shop))
    assert not git(shop, "for-each-ref", "refs/ledger")
    assert version_of(connector, f"{shop}:src").digest  # another part is as committed
    assert version_of(connector, f"{shop}#main").digest  # a named branch is not the working tree


def test_untracked_files_are_told_not_refused(connector: GitConnector, shop: Path) -> None:
    write(shop / ".gitignore", "*.db\n")
    commit_all(shop, "ignore")
    write(shop / "asof.db", "x")
    write(shop / "new/helper.py", "x")
    [seen] = connector.observe(str(shop))
    assert (seen.details["untracked"], seen.details["untracked_files"]) == (1, ["new/"])


def test_no_repository_no_commit_no_working_tree(
    connector: GitConnector, shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotFoundError, match="not in a git repository"):
        connector.observe(str(tmp_path / "plain"))
    with pytest.raises(NotFoundError, match="has no commits yet; make the first one"):
        connector.observe(str(make_repository(tmp_path / "young")))
    with pytest.raises(RefusedError, match="not inside a working tree"):
        connector.observe(str(shop / ".git" / "refs"))


def test_another_users_repository(connector: GitConnector, shop: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository to another user")
    for path in [shop, *shop.rglob("*")]:
        os.chown(path, 12345, 12345)
    with pytest.raises(RefusedError, match="user number 12345, not yours"):
        connector.observe(str(shop))
    trusting = GitConnector(Settings(environ=os.environ, trust_owner=True))
    assert version_of(trusting, shop).digest == version_of(trusting, shop / "src/../").digest


def test_nothing_of_a_hostile_repository_runs(connector: GitConnector, shop: Path) -> None:
    planted = write(shop / ".git/planted.sh", f"#!/bin/sh\ntouch {shop}/ran\n", executable=True)
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-commit"):
        shutil.copy(planted, shop / ".git/hooks" / hook)
    git(shop, "config", "core.fsmonitor", str(planted))
    git(shop, "config", "core.pager", str(planted))
    git(shop, "config", "core.alternateRefsCommand", str(planted))
    before = git(shop, "-c", "core.fsmonitor=false", "rev-parse", "HEAD")
    evil = git(
        shop, "-c", "core.hooksPath=/dev/null", "commit-tree", f"{before}^{{tree}}", "-m", "evil"
    )
    git(shop, "-c", "core.hooksPath=/dev/null", "update-ref", f"refs/replace/{before}", evil)
    version = version_of(connector, shop)
    (shop / ".git/hooks/x").touch()
    git(shop, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "commit", "-q",
        "--allow-empty", "-m", "second")  # fmt: skip
    git(
        shop,
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "rm",
        "-q",
        "params.yaml",
    )
    git(
        shop,
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "commit",
        "-q",
        "-m",
        "3",
    )
    assert connector.restore(step_to(version, version_of(connector, shop).digest)).status == "done"
    assert version_of(connector, shop).digest == version.digest and not (shop / "ran").exists()


def test_submodules_and_lfs_pointers_are_noted(
    connector: GitConnector, shop: Path, tmp_path: Path
) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    write(shop / "big.bin", pointer)
    part = make_repository(tmp_path / "part", {"a": "a"})
    git(
        shop, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part), "vendor/part"
    )
    commit_all(shop, "with submodule")
    version = version_of(connector, shop)
    assert version.metadata["lfs_pointers"] == 1
    assert version.metadata["submodules"] == ["vendor/part"]
    write(shop / "vendor/part/a", "b")
    commit_all(shop / "vendor/part", "moved on")
    with pytest.raises(RefusedError, match="vendor/part"):
        connector.observe(str(shop))


def test_strange_names_survive_and_others_are_refused(connector: GitConnector, shop: Path) -> None:
    for name in ("two\nlines", "-rf", "שלום.txt", "🦆/ü.txt", "<script>", 'quote"s', "tab\tbed"):
        write(shop / name, name)
    good_commit = commit_all(shop, "names")
    good = version_of(connector, shop)
    assert version_of(connector, f"{shop}:-rf").size == 3
    git(shop, "rm", "-q", "-r", "🦆", "two\nlines", "--", "-rf")
    commit_all(shop, "gone")
    assert connector.restore(step_to(good, version_of(connector, shop).digest)).status == "done"
    assert git(shop, "rev-parse", "HEAD^{tree}") == git(
        shop, "rev-parse", f"{good_commit}^{{tree}}"
    )
    assert (shop / "two\nlines").read_text() == "two\nlines"
    with open(os.fsencode(shop) + b"/latin-\xe9", "wb") as file:
        file.write(b"x")
    commit_all(shop, "latin")
    with pytest.raises(MalformedError, match="not UTF-8"):
        connector.observe(str(shop))


def test_sha256_repositories(connector: GitConnector, tmp_path: Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    git(root, "init", "-q", "-b", "main", "--object-format=sha256")
    write(root / "a", "1\n")
    commit_all(root, "one")
    good = version_of(connector, root / "a")
    write(root / "a", "2\n")
    commit_all(root, "two")
    assert (
        connector.restore(step_to(good, version_of(connector, root / "a").digest)).status == "done"
    )
    assert (root / "a").read_text() == "1\n"


# What is kept.


def test_garbage_collection_cannot_take_what_is_cited(connector: GitConnector, shop: Path) -> None:
    write(shop / "params.yaml", "depth: 7\n")
    commit_all(shop, "good")
    good = version_of(connector, shop)
    git(shop, "reset", "-q", "--hard", "HEAD^")
    git(shop, "reflog", "expire", "--expire=now", "--all")
    git(shop, "gc", "-q", "--prune=now")
    assert connector.available(good).status == "available"
    git(shop, "update-ref", "-d", f"refs/ledger/keep/{good.version}")  # the control
    git(shop, "gc", "-q", "--prune=now")
    assert connector.available(good).status == "missing"


# What is moved.


@pytest.fixture
def history(connector: GitConnector, shop: Path) -> tuple[AssetVersion, AssetVersion]:
    """A good version and, on top, a bad one that changes, adds, removes and retypes files."""
    write(shop / "tool", "#!/bin/sh\n", executable=True)
    write(shop / "thing", "a file\n")
    (shop / "link").symlink_to("params.yaml")
    commit_all(shop, "good")
    good = version_of(connector, shop)
    edit(shop)
    (shop / "tool").chmod(0o644)
    (shop / "thing").unlink()
    write(shop / "thing/inside", "now a folder\n")
    (shop / "link").unlink()
    write(shop / "link", "now a file\n")
    write(shop / "extra.py", "y = 2\n")
    commit_all(shop, "bad")
    return good, version_of(connector, shop)


def test_a_restore_is_one_commit_forward(
    connector: GitConnector, shop: Path, history: tuple[AssetVersion, AssetVersion]
) -> None:
    good, bad = history
    assert connector.restore(step_to(good, bad.digest)).status == "done"
    assert git(shop, "rev-parse", "HEAD^") == bad.version
    assert git(shop, "rev-parse", "HEAD^{tree}") == good.details["tree"]
    assert git(shop, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(shop, "status", "--porcelain") == ""
    assert (shop / "thing").read_text() == "a file\n" and not (shop / "extra.py").exists()
    assert os.access(shop / "tool", os.X_OK) and (shop / "link").is_symlink()
    message = git(shop, "log", "-1", "--format=%an <%ae>%n%B")
    assert message.startswith("asof <asof@localhost>\nRoll back to the tree of ")
    assert f"\nAsof-Step: 7/1\nAsof-Target: {good.ref}" in message


def test_one_file_goes_back_and_the_rest_stays(
    connector: GitConnector, shop: Path, history: tuple[AssetVersion, AssetVersion]
) -> None:
    for part, content in (("params.yaml", "depth: 3\n"), ("thing", "a file\n")):
        good = version_of(connector, f"{shop}#{history[0].version}:{part}")
        assert (
            connector.restore(replace(step_to(good, None, part), overwrite=True)).status == "done"
        )
        assert (shop / part).read_text() == content
    assert (shop / "extra.py").exists() and git(shop, "status", "--porcelain") == ""


def test_the_message_says_the_part(connector: GitConnector, shop: Path) -> None:
    good = version_of(connector, shop / "params.yaml")
    edit(shop)
    commit_all(shop, "bad")
    step = step_to(good, version_of(connector, shop / "params.yaml").digest)
    assert connector.restore(step).status == "done"
    assert git(shop, "log", "-1", "--format=%s").startswith("Roll back to the params.yaml as of ")


def test_the_same_step_never_commits_twice(
    connector: GitConnector, shop: Path, history: tuple[AssetVersion, AssetVersion]
) -> None:
    good, bad = history
    step = step_to(good, bad.digest)
    connector.restore(step)
    edit(shop)
    moved_on = commit_all(shop, "moved on")
    outcome = connector.restore(step)
    assert outcome.status == "already" and "was made by this step" in outcome.detail
    assert outcome.observed_digest not in (good.digest, bad.digest)
    assert git(shop, "rev-parse", "HEAD") == moved_on


def test_a_branch_moved_back_after_the_step_is_not_fought_over(
    connector: GitConnector, shop: Path, history: tuple[AssetVersion, AssetVersion]
) -> None:
    good, bad = history
    step = step_to(good, bad.digest)
    connector.restore(step)
    git(shop, "reset", "-q", "--hard", "HEAD^")
    commit_all(shop, "another way")
    outcome = connector.restore(step)
    assert outcome.status == "refused" and "somebody moved it back" in outcome.detail


@pytest.mark.parametrize("dirty", [edit, stage_only], ids=["edited", "staged"])
def test_uncommitted_work_is_never_overwritten(
    connector: GitConnector,
    shop: Path,
    history: tuple[AssetVersion, AssetVersion],
    dirty: Callable[[Path], None],
) -> None:
    good, _ = history
    write(shop / "params.yaml", "depth: 8\n")
    commit_all(shop, "worse")
    dirty(shop)
    outcome = connector.restore(replace(step_to(good, None), overwrite=True))
    assert outcome.status == "refused" and "uncommitted changes: params.yaml" in outcome.detail


@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_file_in_the_way(connector: GitConnector, shop: Path, ignored: bool) -> None:
    good = version_of(connector, shop)
    git(shop, "rm", "-q", "-r", "--cached", "src")
    shutil.rmtree(shop / "src")
    write(shop / ".gitignore", "src\n" if ignored else "")
    bad_commit = commit_all(shop, "bad")
    write(shop / "src", "my own notes\n")
    bad = version_of(connector, shop)
    outcome = connector.restore(step_to(good, bad.digest))
    assert outcome.status == "refused" and "would be overwritten" in outcome.detail
    assert git(shop, "rev-parse", "HEAD") == bad_commit
    assert (shop / "src").read_text() == "my own notes\n"


def test_our_own_steps_are_no_drift(connector: GitConnector, shop: Path) -> None:
    """A file and then the whole tree, as a plan with two slots in one repository does it."""
    whole, part = version_of(connector, shop), version_of(connector, shop / "params.yaml")
    edit(shop)
    write(shop / "src/model.py", "x = 2\n")
    commit_all(shop, "bad")
    bad_whole, bad_part = version_of(connector, shop), version_of(connector, shop / "params.yaml")
    assert connector.restore(step_to(part, bad_part.digest, "7/1")).status == "done"
    assert connector.restore(step_to(whole, bad_whole.digest, "7/2")).status == "done"
    assert version_of(connector, shop).digest == whole.digest


def test_another_branch_is_checked_out(connector: GitConnector, shop: Path, tmp_path: Path) -> None:
    good = version_of(connector, shop)
    edit(shop)
    commit_all(shop, "bad")
    bad = version_of(connector, shop)
    git(shop, "checkout", "-q", "-b", "feature")
    write(shop / "feature", "x")
    feature = commit_all(shop, "feature")
    git(shop, "worktree", "add", "-q", str(tmp_path / "second"), "main")
    step = step_to(good, bad.digest)
    outcome = connector.restore(step)
    assert outcome.status == "refused" and f"checked out in {tmp_path / 'second'}" in outcome.detail
    git(shop, "worktree", "remove", str(tmp_path / "second"))
    assert connector.restore(step).status == "done"
    assert connector.read_back(step).digest == good.digest
    assert git(shop, "rev-parse", "HEAD") == feature and git(shop, "status", "--porcelain") == ""


def test_a_detached_head_moves_alone(connector: GitConnector, shop: Path) -> None:
    git(shop, "checkout", "-q", "--detach")
    good = version_of(connector, shop)
    assert good.source["ref"] == good.version and "branch" not in good.details
    edit(shop)
    commit_all(shop, "bad")
    main = git(shop, "rev-parse", "main")
    assert connector.restore(step_to(good, version_of(connector, shop).digest)).status == "done"
    assert git(shop, "rev-parse", "main") == main
    assert git(shop, "rev-parse", "HEAD^{tree}") == good.details["tree"]


def test_a_merge_under_way_is_left_alone(connector: GitConnector, shop: Path) -> None:
    good = version_of(connector, shop)
    edit(shop)
    head = commit_all(shop, "bad")
    bad = version_of(connector, shop)
    write(shop / ".git/MERGE_HEAD", head)
    outcome = connector.restore(step_to(good, bad.digest))
    assert outcome.status == "refused" and "MERGE_HEAD waits to be finished" in outcome.detail


def test_a_lock_of_another_git_stops_it_before_anything_moves(
    connector: GitConnector, shop: Path, history: tuple[AssetVersion, AssetVersion]
) -> None:
    good, bad = history
    for lock in ("index.lock", "refs/heads/main.lock"):
        held = write(shop / ".git" / lock, "")
        outcome = connector.restore(step_to(good, bad.digest))
        assert outcome.status == "failed" and "lock" in outcome.detail
        assert git(shop, "rev-parse", "HEAD") == bad.version
        assert connector.read_back(step_to(good, None)).digest == bad.digest
        held.unlink()
    assert connector.restore(step_to(good, bad.digest)).status == "done"


def test_a_checkout_that_cannot_follow_is_unknown_and_then_completed(
    connector: GitConnector,
    shop: Path,
    history: tuple[AssetVersion, AssetVersion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = history
    from connectors import git as module

    def fails(*_: object) -> None:
        raise module.UnknownOutcomeError("the files may not have followed")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_check_out", fails)
        assert connector.restore(step_to(good, bad.digest)).status == "unknown"
    assert git(shop, "rev-parse", "HEAD^{tree}") == good.details["tree"]
    assert connector.read_back(step_to(good, None)).digest not in (good.digest, None)
    write(shop / "params.yaml", "depth: 3\n")  # half of the files had followed
    write(shop / "thing/untracked", "mine\n")
    refused = connector.restore(step_to(good, bad.digest))
    assert refused.status == "refused" and "thing" in refused.detail
    (shop / "thing/untracked").unlink()
    outcome = connector.restore(step_to(good, bad.digest))
    assert (outcome.status, outcome.observed_digest) == ("done", good.digest), outcome.detail
    assert git(shop, "status", "--porcelain") == ""


def test_a_vanished_repository_or_branch(connector: GitConnector, shop: Path) -> None:
    good = version_of(connector, shop)
    git(shop, "branch", "-m", "main", "trunk")
    outcome = connector.restore(step_to(good, good.digest))
    assert outcome.status == "failed" and "refs/heads/main" in outcome.detail
    shop.rename(shop.with_name("moved"))
    assert connector.available(good).status == "missing"
    assert connector.restore(step_to(good, good.digest)).status == "failed"


@pytest.mark.parametrize("commit", ["HEAD", "--all", "00", "../../x", None, 7])
def test_a_recorded_commit_is_a_full_id(
    connector: GitConnector, shop: Path, commit: object
) -> None:
    good = version_of(connector, shop)
    details = {**good.details, "commit": commit}
    forged = replace(good, source={**good.source, "details": details})
    with pytest.raises(MalformedError, match="full commit id"):
        connector.available(forged)


# Hooks.


def test_what_hooks_say_becomes_observations(connector: GitConnector) -> None:
    old, new = "0" * 40, "a" * 40
    body = f"{old} {new} refs/heads/main\n{old} {new} refs/ledger/keep/{new}\n".encode()
    headers = {"hook": "post-receive", "repository": "shop.git"}
    [(type_name, data)] = connector.translate(Message(headers=headers, body=body))
    parse_event(type_name, data)
    assert data["observed"] == [{"details": {"ref": "refs/heads/main", "old": old, "new": new}}]
    prepared = {**headers, "hook": "reference-transaction", "state": "prepared"}
    assert connector.translate(Message(headers=prepared, body=body)) == []
    assert (
        len(connector.translate(Message(headers={**prepared, "state": "committed"}, body=body)))
        == 1
    )


@pytest.mark.parametrize("body", [b"one two three\n", b"\xff\n", b"a" * 40 + b"\n"])
def test_hook_messages_that_are_none(connector: GitConnector, body: bytes) -> None:
    headers = {"hook": "post-receive", "repository": "shop.git"}
    with pytest.raises(MalformedError):
        connector.translate(Message(headers=headers, body=body))


# Time limits.


@pytest.mark.parametrize(
    ("command", "status"),
    [("commit-tree", "failed"), ("update-ref", "unknown"), ("read-tree", "unknown")],
)
def test_a_time_limit_is_unknown_only_once_something_may_have_moved(
    connector: GitConnector, shop: Path, monkeypatch: pytest.MonkeyPatch, command: str, status: str
) -> None:
    good = version_of(connector, shop)
    edit(shop)
    commit_all(shop, "bad")
    step = step_to(good, version_of(connector, shop).digest)
    real = repository.run

    def slow(argv: list[str], **more: Any) -> Finished:
        if command in argv:
            raise UnreachableError("did not answer within 600 seconds and was ended")
        return real(argv, **more)

    with monkeypatch.context() as patched:
        patched.setattr(repository, "run", slow)
        outcome = connector.restore(step)
    assert outcome.status == status and "did not answer" in outcome.detail
    assert connector.restore(step).status == "done"
    assert connector.read_back(step).digest == good.digest
