"""The connector for git: a repository's tree, or one file or folder of it, at a commit.

::

    connector = GitConnector(Settings(environ=os.environ))
    [seen] = connector.observe("/srv/shop")                  # the whole tree of HEAD
    [seen] = connector.observe("/srv/shop/params.yaml", kind="hyperparameters")
    [seen] = connector.observe("/srv/shop.git#main:src")     # a bare repository, a branch, a folder

    TARGET = PATH [ "#" REF ] [ ":" PART ]      PATH itself may name a file or folder of the
    working tree

The digest is ours: the SHA-256 of one file's bytes, or of the listing of a tree
(`connectors.listing`), from the blobs themselves. Commit and tree ids stand beside it in
`source`.

A restore never rewrites history. It makes one new commit on the branch whose tree (or whose PART)
is that of the recorded commit, moves the branch by compare-and-swap, and brings the working tree
along. `refs/ledger/keep/<commit>` holds what the ledger cites; `refs/ledger/step/<hash of the
step's id>` says that a step has happened, so that the same step never happens twice.
docs/connectors/git.md has the rules.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from connectors.connector import (
    AssetVersion,
    Availability,
    Idempotency,
    Message,
    Observation,
    Outcome,
    RestoreStep,
    Settings,
    check_plain_path,
    check_system,
    drift,
    plain_name,
)
from connectors.listing import check_tree_path
from connectors.reading import hash_text
from connectors.repository import Listed, Repository
from ledger.errors import (
    AsofError,
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["GitConnector", "GitTarget", "parse_target"]

KEEP = "refs/ledger/keep/"
STEP = "refs/ledger/step/"
STEP_LINE = "Asof-Step: "
MAX_OWN_STEPS = 1_000
_SHOWN = 10


class GitTarget(NamedTuple):
    """What a target names: a path, a revision, and a part of the tree ("" for all)."""

    path: Path
    ref: str
    part: str


def parse_target(target: str) -> GitTarget:
    """`PATH[#REF][:PART]`, where PATH is the longest beginning that exists.

    Raises: MalformedError, NotFoundError.
    """
    if not target or "\0" in target:
        raise MalformedError("name a repository, or a file in one", where="target")
    ends = [len(target), *(at for at in range(len(target) - 1, 0, -1) if target[at] in "#:")]
    end = next((at for at in ends if os.path.lexists(target[:at])), None)
    if end is None:
        raise NotFoundError(
            f"{target}: no such path. A target is PATH, PATH#REF, PATH:PART or PATH#REF:PART"
        )
    ref, colon, part = target[end:].partition(":")
    if ref == "#" or (colon and not part):
        raise MalformedError("nothing after '#' or ':'", where="target")
    if part:
        check_tree_path(part)
    path = check_plain_path(Path(os.path.realpath(target[:end])))
    return GitTarget(path, ref.removeprefix("#") or "HEAD", part)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a restore acts: a branch (None: detached HEAD), its commit now, a part of its tree."""

    repository: Repository
    branch: str | None
    tip: str
    part: str

    @property
    def checked_out(self) -> bool:
        """Whether the working tree shows this branch, and must come along."""
        return not self.repository.bare and self.branch == self.repository.head_ref

    @property
    def name(self) -> str:
        return f"{self.repository.root} ({self.branch or 'detached HEAD'})"

    def digest_now(self) -> str | None:
        """The digest of what is really there: in the working tree, or in the branch's commit."""
        if not self.checked_out:
            return _digest_in(self.repository, self.tip, self.part)
        try:
            return self.repository.working(self.tip, self.part)
        except NotFoundError:
            return None


class GitConnector:
    """Git repositories of this machine, bare or with a working tree."""

    system: str = "git"
    idempotency: Idempotency = "keyed"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def observe(
        self, target: str, *, kind: str | None = None, name: str | None = None
    ) -> list[Observation]:
        """The committed content at `target`, pinned. See `Connector.observe`.

        Raises: RefusedError when the working files, or the index, differ from the commit that
        HEAD names: what runs there has no commit that could be recorded.
        """
        wanted = parse_target(target)
        repository, part = self._find(wanted)
        commit = repository.commit_of(wanted.ref)
        if wanted.ref == "HEAD" and not repository.bare:
            _check_clean(repository, commit, part)
        listed = repository.listed(commit, part)
        repository.git("update-ref", "--no-deref", KEEP + commit, commit)
        asset = _asset(
            repository, repository.full_ref(wanted.ref), commit, part, listed, kind, name
        )
        details = _details(repository, commit, part)
        return [
            Observation(
                system=self.system, target=target, asset=asset, digest=asset.digest, details=details
            )
        ]

    def translate(self, message: Message) -> list[tuple[str, dict[str, Any]]]:
        """One observation for each reference that a hook reports, our own pins and steps left out.

        The body is what git writes to `post-receive` or `reference-transaction`: lines of `OLD
        NEW REF`. Whether the ledger declares otherwise is not known here: who records the event
        compares, and sets `differs_from_declared`. The header `repository` names the repository,
        `hook` the hook; a `reference-transaction` counts only when its header `state` is
        `committed`. Raises: MalformedError.
        """
        repository = message.headers.get("repository", "")
        if (
            message.headers.get("hook") not in ("post-receive", "reference-transaction")
            or not repository
        ):
            raise MalformedError(
                "not a message of a git hook: headers `hook` and `repository` are needed"
            )
        if message.headers.get("state", "committed") != "committed":
            return []
        return [
            ("observation.recorded/1", _observed_update(repository, *update))
            for update in _parse_updates(message.body)
            if not update[2].startswith("refs/ledger/")
        ]

    def available(self, version: AssetVersion) -> Availability:
        """Whether the commit is there and its content hashes to the version's digest, now."""
        check_system(version, self.system)
        commit, part = _commit_and_part(version)
        try:
            repository = self._repository_of(version)
            if not repository.has_commit(commit):
                return Availability(
                    status="missing", detail=f"{repository.root} has no commit {commit} any more"
                )
            listed = repository.listed(commit, part)
            tree = repository.tree_of(commit)
        except NotFoundError as error:
            return Availability(status="missing", detail=str(error))
        except (TamperError, MalformedError) as error:
            return Availability(status="changed", detail=str(error))
        except AsofError as error:
            return Availability(status="unknown", detail=str(error))
        for what, recorded, found in (
            ("tree", version.details.get("tree"), tree),
            ("content", version.digest, listed.digest),
        ):
            if recorded != found:
                detail = f"commit {commit}: the {what} is {found}, recorded was {recorded}"
                return Availability(status="changed", detail=detail)
        return Availability(status="available")

    def restore(self, step: RestoreStep) -> Outcome:
        """One new commit with the recorded content, history untouched. See `Connector.restore`."""
        check_system(step.target, self.system)
        try:
            return self._restore(step, self._place_of(step.target))
        except RefusedError as error:
            return Outcome(status="refused", detail=str(error))
        except UnknownOutcomeError as error:
            return Outcome(status="unknown", detail=str(error))
        except AsofError as error:
            return Outcome(status="failed", detail=str(error))

    def read_back(self, step: RestoreStep) -> Observation:
        """The digest of the working files; of the branch's commit where none are checked out."""
        check_system(step.target, self.system)
        place = self._place_of(step.target)
        digest = place.digest_now()
        return Observation(
            system=self.system,
            target=str(place.repository.root),
            asset=step.target if digest == step.target.digest else None,
            digest=digest,
            details={"commit": place.tip, "branch": place.branch, "part": place.part},
        )

    # Finding.

    def _find(self, wanted: GitTarget) -> tuple[Repository, str]:
        repository = Repository.open(wanted.path, self._settings)
        inside = "" if repository.bare else _part_of(repository.root, wanted.path)
        if inside and wanted.part:
            raise MalformedError(
                f"{wanted.path} is already a part of the repository", where="target"
            )
        return repository, wanted.part or inside

    def _repository_of(self, version: AssetVersion) -> Repository:
        root = Path(str(version.details.get("repo", "")))
        if not root.is_absolute():
            raise MalformedError(
                f"{version.ref} does not say in which repository it lies", where="/source"
            )
        repository = Repository.open(root, self._settings)
        if repository.root != root:
            raise NotFoundError(
                f"{root} is no repository any more; it lies inside {repository.root}"
            )
        return repository

    def _place_of(self, version: AssetVersion) -> _Place:
        repository = self._repository_of(version)
        _, part = _commit_and_part(version)
        branch = version.details.get("branch") or repository.head_ref
        tip = repository.commit_of(branch or "HEAD")
        return _Place(repository, branch, tip, part)

    # Restoring, in order.

    def _restore(self, step: RestoreStep, place: _Place) -> Outcome:
        made = _step_commit(step, place)
        if made is not None and place.repository.is_ancestor(made, place.tip):
            return _finish(step, place, made)
        found = place.digest_now()
        if found == step.target.digest:
            if place.checked_out:
                _check_clean(place.repository, place.tip, place.part)
            return Outcome(status="already", observed_digest=found)
        _check_may_act(step, place, found, made)
        made = made or _make_commit(step, place)
        if place.checked_out:
            _check_only_ours(place.repository, place.tip, made)
        _advance(step, place, made)
        after = replace(place, tip=made).digest_now()
        return Outcome(status="done", detail=f"commit {made}", observed_digest=after)


# What is captured.


def _part_of(root: Path, path: Path) -> str:
    part = os.path.relpath(path, root)
    return "" if part == "." else part


def _check_clean(repository: Repository, commit: str, part: str) -> None:
    """Raises: RefusedError with the files that are not as in `commit`."""
    dirty = sorted({*repository.differing(commit, part), *repository.staged(commit, part)})
    if dirty:
        shown = ", ".join(
            ascii(path) if not path.isprintable() else path for path in dirty[:_SHOWN]
        )
        more = f" and {len(dirty) - _SHOWN} more" if len(dirty) > _SHOWN else ""
        raise RefusedError(
            f"{repository.root} has uncommitted changes: {shown}{more}. "
            "Commit or stash them, then try again"
        )


def _asset(
    repository: Repository,
    ref: str | None,
    commit: str,
    part: str,
    listed: Listed,
    kind: str | None,
    name: str | None,
) -> AssetVersion:
    facts = {
        "repo": str(repository.root),
        "commit": commit,
        "tree": repository.tree_of(commit),
        "branch": ref if ref and ref.startswith("refs/heads/") else None,
        "remote": repository.remote(),
        "part": part or None,
    }
    details = {key: value for key, value in facts.items() if value is not None}
    short_name = repository.root.name.removesuffix(".git") or "repository"
    return AssetVersion(
        kind=kind or "code",
        name=name or plain_name(f"{short_name}/{part}" if part else short_name),
        version=commit,
        digest=listed.digest,
        location=(repository.root / part).as_uri(),
        source={"system": "git", "ref": ref or commit, "details": details},
        restorable="restorable",
        size=sum(entry.size for entry in listed.entries),
        metadata={
            "files": len(listed.entries),
            "git_digest": f"git-tree:{details['tree']}",
            "lfs_pointers": len(listed.lfs_pointers),
            "submodules": list(listed.submodules[:_SHOWN]),
        },
    )


def _details(repository: Repository, commit: str, part: str) -> dict[str, Any]:
    """What a person may want to know and the ledger need not keep."""
    untracked = [] if repository.bare else repository.untracked(part)
    return {
        "commit": commit,
        "part": part,
        "committed_at": repository.word("show", "-s", "--format=%cI", commit),
        "untracked": len(untracked),
        "untracked_files": untracked[:_SHOWN],
    }


def _commit_and_part(version: AssetVersion) -> tuple[str, str]:
    """Raises: MalformedError."""
    commit, part = version.details.get("commit"), version.details.get("part") or ""
    if (
        not isinstance(commit, str)
        or len(commit) not in (40, 64)
        or set(commit) - set("0123456789abcdef")
    ):
        raise MalformedError(
            f"{version.ref} does not name a full commit id", where="/source/details/commit"
        )
    if part:
        check_tree_path(str(part))
    return commit, str(part)


# What a step does.


def _check_may_act(step: RestoreStep, place: _Place, found: str | None, made: str | None) -> None:
    """Raises: RefusedError for anything that would be lost or is not as the plan saw it."""
    repository = place.repository
    if made is not None and _parent(repository, made) != place.tip:
        raise RefusedError(
            f"{place.name}: this step made commit {made}, which the branch no longer contains; "
            "somebody moved it back. Make a new plan"
        )
    if place.branch is not None and (other := repository.place_elsewhere(place.branch)):
        raise RefusedError(f"{place.branch} is checked out in {other}; restore it there")
    if place.checked_out:
        if mark := repository.under_way():
            raise RefusedError(
                f"{place.name}: {mark} waits to be finished; finish or abort it first"
            )
        _check_clean(repository, place.tip, "")
    if (reason := drift(step, found)) and not _only_own_steps_since(step, place):
        raise RefusedError(f"{place.name}: {reason}")


def _step_ref(step: RestoreStep) -> str:
    return STEP + hash_text(step.id.encode()).sha256


def _step_commit(step: RestoreStep, place: _Place) -> str | None:
    """The commit that this step made earlier, if it did."""
    repository = place.repository
    found = repository.word("rev-parse", "--verify", "--quiet", _step_ref(step), codes=(0, 1))
    if found:
        return found
    # A crash between the two references leaves the branch moved and the step's own one unwritten.
    message = repository.word("show", "-s", "--format=%B", place.tip)
    return place.tip if f"{STEP_LINE}{step.id}" in message.split("\n") else None


def _parent(repository: Repository, commit: str) -> str | None:
    words = repository.word("rev-list", "--parents", "--max-count=1", commit).split(" ")
    return words[1] if len(words) > 1 else None


def _only_own_steps_since(step: RestoreStep, place: _Place) -> bool:
    """Whether the branch was as the plan expects before the restores of our own at its end."""
    repository = place.repository
    own = set(repository.word("for-each-ref", "--format=%(objectname)", STEP).split("\n"))
    tip = place.tip
    for _ in range(MAX_OWN_STEPS):
        parent = _parent(repository, tip) if tip in own else None
        if parent is None:
            break
        tip = parent
    return tip != place.tip and not drift(step, _digest_in(repository, tip, place.part))


def _digest_in(repository: Repository, commit: str, part: str) -> str | None:
    try:
        return repository.listed(commit, part).digest
    except NotFoundError:
        return None


def _finish(step: RestoreStep, place: _Place, made: str) -> Outcome:
    """The step has moved the branch before. Bring the working tree along if it was left behind."""
    found = place.digest_now()
    if found == step.target.digest or made != place.tip or not place.checked_out:
        return Outcome(
            status="already", detail=f"commit {made} was made by this step", observed_digest=found
        )
    _check_only_ours(place.repository, _parent(place.repository, made) or made, made)
    _check_out(step, place.repository, "--reset", "-u", made)
    detail = f"commit {made} was made before; the working tree now follows"
    return Outcome(status="done", detail=detail, observed_digest=place.digest_now())


def _make_commit(step: RestoreStep, place: _Place) -> str:
    """A commit on top of the branch with the recorded content. Nothing refers to it yet.

    Raises: NotFoundError, TamperError when its content is not what was recorded.
    """
    repository = place.repository
    commit, part = _commit_and_part(step.target)
    if not repository.has_commit(commit):
        raise NotFoundError(
            f"{repository.root} has no commit {commit} any more; fetch it, then try again"
        )
    tree = (
        _tree_with_part(repository, place.tip, commit, part) if part else repository.tree_of(commit)
    )
    asked = ("commit-tree", tree, "-p", place.tip)
    made = repository.git(*asked, stdin=_message(step, commit, part)).decode().strip()
    found = repository.listed(made, part).digest
    if found != step.target.digest:
        raise TamperError(
            f"{repository.root}: commit {commit} does not hold what was recorded",
            expected=step.target.digest,
            found=found,
        )
    return made


def _message(step: RestoreStep, commit: str, part: str) -> bytes:
    what = f"{part} as of" if part else "tree of"
    return (
        f"Roll back to the {what} {commit[:12]}\n\n"
        "Made by asof. The history is untouched; revert this commit to undo it.\n\n"
        f"{STEP_LINE}{step.id}\nAsof-Target: {step.target.ref}\n"
    ).encode()


def _tree_with_part(repository: Repository, tip: str, commit: str, part: str) -> str:
    """The tree of `tip`, with all at or below `part` as in `commit`."""
    wanted = repository.blobs(commit, part)
    with tempfile.TemporaryDirectory(prefix="asof-index-") as folder:
        extra = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        repository.git("read-tree", tip, extra=extra)
        said = repository.git("ls-files", "-z", "--", part, extra=extra)
        gone = [
            b"0 " + b"0" * len(commit) + b"\t" + name + b"\0" for name in said.split(b"\0")[:-1]
        ]
        put = [
            f"{blob.mode} {blob.oid}\t".encode() + os.fsencode(blob.path) + b"\0" for blob in wanted
        ]
        lines = b"".join(gone + put)
        repository.git("update-index", "-z", "--replace", "--index-info", stdin=lines, extra=extra)
        return repository.git("write-tree", extra=extra).decode().strip()


def _advance(step: RestoreStep, place: _Place, made: str) -> None:
    """Move the branch by compare-and-swap, with the step's reference; then the files."""
    repository = place.repository
    if place.checked_out:
        # Takes and frees index.lock: if another git is at work, it is seen before anything moves.
        repository.git("update-index", "-q", "--refresh", codes=(0, 1))
    ref = place.branch or "HEAD"
    moves = f"option no-deref\nupdate {ref} {made} {place.tip}\nupdate {_step_ref(step)} {made}\n"
    try:
        repository.git("update-ref", "-m", "asof rollback", "--stdin", stdin=moves.encode())
    except UnreachableError as error:
        raise UnknownOutcomeError(f"whether the branch was moved is not known: {error}") from error
    if place.checked_out:
        _check_out(step, repository, "-m", "-u", place.tip, made)


def _check_out(step: RestoreStep, repository: Repository, *arguments: str) -> None:
    """Raises: UnknownOutcomeError when the branch has moved and the files may not have followed."""
    try:
        repository.git("read-tree", *arguments)
    except StoreError as error:
        raise UnknownOutcomeError(
            f"step {step.id} moved the branch, its files may lag behind; run it again: {error}"
        ) from error


# Guarding what nobody recorded.


def _check_only_ours(repository: Repository, old: str, new: str) -> None:
    """Whatever a checkout of `new` takes away is exactly as in `old`: then no work can be lost.

    This holds before a checkout, and in the middle of one that was interrupted.
    Raises: RefusedError.
    """
    known = {blob.path for blob in repository.blobs(old, "")} - set(repository.differing(old, ""))
    lost = [
        path
        for path in repository.differing(new, "")
        if any(place not in known for place in _replaced_by(repository.root, path))
    ]
    if lost:
        raise RefusedError(
            f"{repository.root}: {', '.join(lost[:_SHOWN])} would be overwritten; "
            "move them away, then try again"
        )


def _replaced_by(root: Path, path: str) -> Iterator[str]:
    """The files that are there now and that a checkout of a file at `path` takes away."""
    if (root / path).is_dir() and not (root / path).is_symlink():
        for folder, folders, names in os.walk(root / path):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            yield from (os.path.relpath(os.path.join(folder, name), root) for name in names + links)
        return
    parents = [path, *(parent.as_posix() for parent in Path(path).parents)][:-1]
    for place in parents:
        if os.path.lexists(root / place) and (
            (root / place).is_symlink() or not (root / place).is_dir()
        ):
            yield place


# What hooks say.


def _parse_updates(body: bytes) -> list[tuple[str, str, str]]:
    try:
        lines = body.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("a hook's message that is not UTF-8") from None
    updates = [tuple(line.split(" ", 2)) for line in lines if line]
    for number, update in enumerate(updates):
        if len(update) != 3 or not all(_is_object_id(text) for text in update[:2]):
            raise MalformedError("not OLD NEW REF", where=f"line {number + 1}")
    return [(old, new, ref) for old, new, ref in updates]


def _is_object_id(text: str) -> bool:
    return len(text) in (40, 64) and not set(text) - set("0123456789abcdef")


def _observed_update(repository: str, old: str, new: str, ref: str) -> dict[str, Any]:
    return {
        "system": "git",
        "target": repository,
        "observed": [{"details": {"ref": ref, "old": old, "new": new}}],
        "differs_from_declared": False,
    }
