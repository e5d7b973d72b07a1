"""One git repository, read and moved by the program `git`, without trusting its surroundings.

::

    repository = Repository.open(Path("/srv/shop/params.yaml"), settings)
    repository.root                                     # /srv/shop
    commit = repository.commit_of("main")
    repository.listed(commit, "").digest                # sha256:…, read from the blobs themselves

Rules:

1. No system or user configuration, hook, file-system monitor, prompt, pager or replacement object
   takes part; of the environment git sees PATH only. The repository's own filters (`.git/config`)
   do run: a repository is therefore refused when it belongs to another user, unless the settings
   trust it.
2. Revisions are names that git accepts for references, or hexadecimal commit ids; each is
   resolved once to a full commit id, and only that id is used from then on.
3. Content is read blob by blob and hashed with SHA-256. Git's own ids stand beside, for finding.
4. What the working tree holds is found by hashing its files, never by the times that the index
   remembers.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from connectors.connector import Settings
from connectors.listing import LINK, SUBMODULE, TreeEntry, listing_digest
from connectors.program import ProgramError, check_operand, run, stream
from connectors.reading import Hashed, hash_open, hash_text, read_file
from ledger.errors import (
    MalformedError,
    NotFoundError,
    RefusedError,
    StoreError,
    TamperError,
)

__all__ = ["Blob", "Listed", "Repository"]

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.ignoreStat=false",
    "core.splitIndex=false",
    "core.attributesFile=/dev/null",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
)
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:ssh",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_AUTHOR_EMAIL": "asof@localhost",
    "GIT_AUTHOR_NAME": "asof",
    "GIT_COMMITTER_EMAIL": "asof@localhost",
    "GIT_COMMITTER_NAME": "asof",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
}
_UNDER_WAY = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-merge",
    "rebase-apply",
)
_HEX_ID = re.compile(r"[0-9a-f]{4,64}")
_LFS = b"version https://git-lfs.github.com/spec/"
_MAX_TREE = 1 << 30


class Blob(NamedTuple):
    """One entry of a commit's tree, as git names it."""

    path: str
    mode: str
    oid: str


class Listed(NamedTuple):
    """A part of a commit, read and hashed: its entries, and those that only point elsewhere."""

    entries: tuple[TreeEntry, ...]
    is_tree: bool
    lfs_pointers: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the one file its content's SHA-256; of a tree its listing's."""
        if self.is_tree:
            return listing_digest(self.entries)
        return f"sha256:{self.entries[0].sha256}"

    @property
    def submodules(self) -> tuple[str, ...]:
        return tuple(entry.path for entry in self.entries if entry.mode == SUBMODULE)


@dataclass(frozen=True)
class Repository:
    """A repository that may be used. `root` is its working tree, or the bare repository."""

    root: Path
    git_folder: Path
    bare: bool
    settings: Settings

    @classmethod
    def open(cls, path: Path, settings: Settings) -> Repository:
        """The repository that holds `path`.

        Raises: NotFoundError (no such path, or no repository around it), RefusedError (it belongs
        to another user, or `path` lies inside its `.git`), StoreError.
        """
        folder = path if path.is_dir() else path.parent
        if not folder.is_dir():
            raise NotFoundError(f"{path}: there is no such file or folder")
        asked = ("rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--absolute-git-dir")
        try:
            bare, inside, git_folder = _git(folder, settings, asked).decode().split("\n")[:3]
        except ProgramError as error:
            raise _explained(error, folder) from error
        if bare != "true" and inside != "true":
            raise RefusedError(
                f"{path} is not inside a working tree; name the folder with your files"
            )
        root = git_folder
        if bare != "true":
            root = (
                _git(folder, settings, ("rev-parse", "--show-toplevel")).decode().removesuffix("\n")
            )
        return cls(Path(root), Path(git_folder), bare == "true", settings)

    def git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        codes: Sequence[int] = (0,),
        extra: Mapping[str, str] | None = None,
    ) -> bytes:
        """What git says to `arguments`. Raises: ProgramError, UnreachableError, NotFoundError."""
        return _git(self.root, self.settings, arguments, stdin=stdin, codes=codes, extra=extra)

    def word(self, *arguments: str, codes: Sequence[int] = (0,)) -> str:
        """`git`, for an answer of one line; empty where git says nothing."""
        return self.git(*arguments, codes=codes).decode("utf-8", "surrogateescape").strip("\n")

    # Names (rule 2).

    @cached_property
    def head_ref(self) -> str | None:
        """The full name of the branch that is checked out; None for a detached HEAD."""
        return self.word("symbolic-ref", "--quiet", "HEAD", codes=(0, 1)) or None

    def full_ref(self, name: str) -> str | None:
        """The full name of a reference (`main` → `refs/heads/main`); None for a commit id."""
        if name == "HEAD":
            return self.head_ref
        asked = (
            "rev-parse",
            "--symbolic-full-name",
            "--verify",
            "--quiet",
            "--end-of-options",
            name,
        )
        return self.word(*asked, codes=(0, 1, 128)) or None

    def commit_of(self, name: str) -> str:
        """The full id of the commit that `name` means now.

        Raises: MalformedError (not a name of a reference, nor an id), NotFoundError.
        """
        check_operand(name, "revision")
        if not _HEX_ID.fullmatch(name):
            try:
                self.git("check-ref-format", "--allow-onelevel", name)
            except ProgramError:
                raise MalformedError(
                    "neither a branch, a tag nor a commit id", where=f"revision {name!r}"
                ) from None
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = self.word(*asked, codes=(0, 1, 128))
        if not found:
            raise NotFoundError(self._no_commit(name))
        return found

    def _no_commit(self, name: str) -> str:
        if name == "HEAD":
            return f"{self.root} has no commits yet; make the first one, then capture it"
        return f"{self.root} has no branch, tag or commit {name!r}"

    def has_commit(self, commit: str) -> bool:
        """Whether the commit's object is here."""
        check_operand(commit, "commit")
        return bool(
            self.word(
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                f"{commit}^{{commit}}",
                codes=(0, 1, 128),
            )
        )

    def tree_of(self, commit: str) -> str:
        """Git's id of the commit's tree."""
        return self.word("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` contains `older`."""
        try:
            self.git("merge-base", "--is-ancestor", older, newer)
        except ProgramError as error:
            if error.returncode == 1:
                return False
            raise
        return True

    def remote(self) -> str | None:
        """The address of the remote `origin`, or of the first one, without user or password."""
        lines = self.git("config", "-z", "--get-regexp", r"^remote\..*\.url$", codes=(0, 1))
        found = dict(
            item.decode("utf-8", "replace").split("\n", 1)
            for item in lines.split(b"\0")
            if b"\n" in item
        )
        address = found.get("remote.origin.url") or next(iter(found.values()), None)
        return None if address is None else _without_credentials(address)

    def place_elsewhere(self, ref: str) -> str | None:
        """Another working tree of this repository in which the branch `ref` is checked out."""
        worktree = ""
        for line in self.word("worktree", "list", "--porcelain").split("\n"):
            if line.startswith("worktree "):
                worktree = line.removeprefix("worktree ")
            elif line == f"branch {ref}" and Path(worktree) != self.root:
                return worktree
        return None

    def under_way(self) -> str | None:
        """The merge, rebase or the like that waits to be finished, by the name of its mark."""
        return next((mark for mark in _UNDER_WAY if (self.git_folder / mark).exists()), None)

    # Content (rule 3).

    def blobs(self, commit: str, part: str) -> list[Blob]:
        """The entries of the commit at or below `part` ("" for all). Raises: NotFoundError."""
        limit = ("--", part) if part else ()
        said = self.git("ls-tree", "-r", "-z", "--full-tree", commit, *limit)
        found = []
        for item in said.split(b"\0")[:-1]:
            facts, _, path = item.partition(b"\t")
            mode, _, oid = facts.decode().split(" ")
            found.append(Blob(path.decode("utf-8", "surrogateescape"), mode, oid))
        if part and not found:
            raise NotFoundError(f"{self.root}: commit {commit[:12]} has no file or folder {part!r}")
        return found

    def listed(self, commit: str, part: str) -> Listed:
        """A part of a commit, read and hashed blob by blob. Paths are relative to the part.

        Raises: NotFoundError, TamperError (a blob is missing or damaged), MalformedError (a name
        that no listing can hold).
        """
        blobs = self.blobs(commit, part)
        hashes, pointers = self._hash_blobs({blob.oid for blob in blobs if blob.mode != SUBMODULE})
        is_tree = not (part and len(blobs) == 1 and blobs[0].path == part)
        entries = tuple(
            TreeEntry(_below(blob.path, part), blob.mode, *_hash_of(blob, hashes)) for blob in blobs
        )
        return Listed(entries, is_tree, tuple(blob.path for blob in blobs if blob.oid in pointers))

    def _hash_blobs(self, oids: set[str]) -> tuple[dict[str, Hashed], set[str]]:
        """The SHA-256 and size of each blob, and which of them are pointers of Git LFS."""
        if not oids:
            return {}, set()
        argv = _argv(self.root, self.settings, ("cat-file", "--batch", "--buffer"))
        wanted = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
        hashes: dict[str, Hashed] = {}
        pointers: set[str] = set()
        incoming = _Incoming(
            stream(
                argv,
                cwd=self.root,
                environ=self.settings.environ,
                extra=_ENVIRONMENT,
                stdin=wanted,
                timeout=self.settings.timeout,
            )
        )
        done = 0
        for oid in sorted(oids):
            hashes[oid], is_pointer = _hash_one(incoming, oid, self.root)
            if is_pointer:
                pointers.add(oid)
            done += hashes[oid].size
            self.settings.progress(done, None)
        incoming.end()
        return hashes, pointers

    # The working tree (rule 4).

    def differing(self, commit: str, part: str) -> list[str]:
        """The paths at or below `part` whose working files are not as in `commit`, by content."""
        with tempfile.TemporaryDirectory(prefix="asof-index-") as folder:
            extra = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
            lines = b"".join(_index_line(blob) for blob in self.blobs(commit, part))
            self.git("update-index", "-z", "--index-info", stdin=lines, extra=extra)
            self.git("update-index", "-q", "--refresh", codes=(0, 1), extra=extra)
            said = self.git(
                "diff-files", "-z", "--name-only", "--ignore-submodules=dirty", extra=extra
            )
        return _names(said)

    def staged(self, commit: str, part: str) -> list[str]:
        """The paths at or below `part` that the index holds differently from `commit`."""
        asked = ("diff-index", "--cached", "-z", "--name-only", "--ignore-submodules=dirty", commit)
        return _names(self.git(*asked, *(("--", part) if part else ("--",))))

    def untracked(self, part: str) -> list[str]:
        """Files and folders that git neither tracks nor ignores."""
        asked = (
            "ls-files",
            "-z",
            "--others",
            "--exclude-standard",
            "--directory",
            "--no-empty-directory",
        )
        return _names(self.git(*asked, *(("--", part) if part else ())))

    def working(self, commit: str, part: str) -> str | None:
        """The digest of what the working tree holds of the files that `commit` has at `part`.

        Files like those of the commit count with the content of their blobs (a filter may have
        changed line ends); others with the bytes that lie there. None when the one file of `part`
        is not there.
        """
        listed = self.listed(commit, part)
        changed = {_below(path, part) for path in self.differing(commit, part)}
        entries = [entry for entry in listed.entries if entry.path not in changed]
        for path in sorted(changed):
            place = self.root / part / path if listed.is_tree else self.root / part
            entries += [entry._replace(path=path) for entry in _working_entry(place)]
        if not entries and not listed.is_tree:
            return None
        return Listed(tuple(entries), listed.is_tree, ()).digest


def _git(
    folder: Path,
    settings: Settings,
    arguments: Sequence[str],
    *,
    stdin: bytes = b"",
    codes: Sequence[int] = (0,),
    extra: Mapping[str, str] | None = None,
) -> bytes:
    return run(
        _argv(folder, settings, arguments),
        cwd=folder,
        environ=settings.environ,
        extra={**_ENVIRONMENT, **(extra or {})},
        stdin=stdin,
        timeout=settings.timeout,
        max_output=_MAX_TREE,
        codes=codes,
    ).stdout


def _argv(folder: Path, settings: Settings, arguments: Sequence[str]) -> list[str]:
    options = list(_OPTIONS)
    if settings.trust_owner:
        # Only for this path: git looks for the repository in it and in the folders above it.
        options += [f"safe.directory={place}" for place in (folder, *folder.parents)]
    return ["git", *(part for option in options for part in ("-c", option)), *arguments]


def _explained(error: ProgramError, folder: Path) -> StoreError | RefusedError:
    """Git's words for the two common failures, with what to do."""
    if "dubious ownership" in error.stderr:
        return RefusedError(
            f"{folder} lies in a repository of {_owner(folder)}, not yours. Git would run "
            "programs that its configuration names: run asof as that user, or trust it explicitly"
        )
    if "not a git repository" in error.stderr:
        return NotFoundError(
            f"{folder} is not in a git repository; name one, or capture the folder with `files`"
        )
    return error


def _owner(folder: Path) -> str:
    number = folder.stat().st_uid
    try:
        return f"user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"user number {number}"


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    if not parts.scheme or not parts.netloc:
        return address
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _names(said: bytes) -> list[str]:
    return [name.decode("utf-8", "surrogateescape") for name in said.split(b"\0")[:-1]]


def _index_line(blob: Blob) -> bytes:
    return f"{blob.mode} {blob.oid}\t".encode() + os.fsencode(blob.path) + b"\0"


def _below(path: str, part: str) -> str:
    """`path` relative to the part that was asked for; of one file, its own name."""
    if not part:
        return path
    return path.removeprefix(f"{part}/") if path != part else path.rpartition("/")[2]


def _hash_of(blob: Blob, hashes: Mapping[str, Hashed]) -> Hashed:
    return hash_text(blob.oid.encode()) if blob.mode == SUBMODULE else hashes[blob.oid]


def _working_entry(place: Path) -> Iterator[TreeEntry]:
    """The entry of the file or link that lies in the working tree now, or none."""
    if place.is_symlink():
        yield TreeEntry("", LINK, *hash_text(os.fsencode(os.readlink(place))))
    elif place.is_file():
        yield read_file(place, hash_open)


def _hash_one(incoming: _Incoming, oid: str, root: Path) -> tuple[Hashed, bool]:
    header = incoming.line().decode().split(" ")
    if header[:2] != [oid, "blob"]:
        raise TamperError(
            f"{root}: object {oid} cannot be read; run `git fsck` and fetch it again",
            expected="blob",
            found=header[-1],
        )
    digest, size, start = hashlib.sha256(), int(header[2]), b""
    for piece in incoming.take(size):
        digest.update(piece)
        start += bytes(piece[: len(_LFS) - len(start)])
    incoming.line()
    return Hashed(digest.hexdigest(), size), size < 1024 and start == _LFS


class _Incoming:
    """What a program says, read by lines and by lengths."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def line(self) -> bytes:
        """The next line, without its end."""
        parts = []
        while (stop := self._chunk.find(b"\n", self._at)) < 0:
            parts.append(self._chunk[self._at :])
            self._next()
        parts.append(self._chunk[self._at : stop])
        self._at = stop + 1
        return b"".join(parts)

    def take(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces."""
        while size:
            if self._at == len(self._chunk):
                self._next()
            piece = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def _next(self) -> None:
        chunk = next(self._chunks, b"")
        if not chunk:
            raise StoreError("git stopped in the middle of its answer; run `git fsck`")
        self._chunk, self._at = chunk, 0

    def end(self) -> None:
        """The program has said all; its exit code is looked at. Raises: ProgramError."""
        for _ in self._chunks:
            continue
