"""Real git repositories for tests, made by the real program, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["commit_all", "git", "make_repository", "write"]

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@localhost",
}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """What git answers, without the last line's end; fails the test when git fails."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=_ENVIRONMENT,
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.decode().removesuffix("\n")


def write(path: Path, content: str | bytes, *, executable: bool = False) -> Path:
    """A file with this content, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o755 if executable else 0o644)
    return path


def make_repository(folder: Path, files: dict[str, str | bytes] | None = None) -> Path:
    """A repository on branch `main`, with one commit if `files` are given."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    if files:
        for name, content in files.items():
            write(folder / name, content)
        commit_all(folder, "first")
    return folder


def commit_all(folder: Path, message: str) -> str:
    """Commit everything that is there; returns the commit's id."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")
