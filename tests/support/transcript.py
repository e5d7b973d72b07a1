"""Runs transcripts: what one types and what one sees, as plain text, through the real program.

::

    # comments begin with a sharp at the start of a line
    $ asof init --origin shop.example/ledger
    ledger  shop.example/ledger
    ...
    $ cat > note.json <<'END'
    > {"type": "note.added/1", "stream": "note/x", "data": {"text": "hi"}}
    > END
    $ asof show 99
    2> asof: no entry 99 ...
    ? 3

1. `$ ` begins a command for `sh`; `> ` lines continue it. All commands of a file share one folder.
2. The lines that follow are the standard output; `2> ` lines are the standard error. Output is
compared
   only as far as it is written: a command without output lines may say what it likes.
3. `...` inside a line stands for any text, two spaces or more for any number of them; `...` alone
on a
   line stands for any lines.
4. `? N` is the exit code; 0 where nothing is said.
5. `! empty` says that the standard output must be empty.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Step", "environment", "mismatch", "parse", "run", "run_step"]

CHECKOUT = Path(__file__).resolve().parents[2]
SHIM = "bin"


@dataclass
class Step:
    """One command, with what it should print and how it should end."""

    line: int
    command: str
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    code: int = 0
    silent: bool = False


def parse(text: str, *, first_line: int = 1) -> list[Step]:
    """Read a transcript. Raises ValueError for output that belongs to no command."""
    steps: list[Step] = []
    continuing = False
    for number, line in enumerate(text.splitlines(), first_line):
        if line.startswith("$ "):
            steps.append(Step(number, line[2:]))
            continuing = True
        elif continuing and (line.startswith("> ") or line == ">"):
            steps[-1].command += "\n" + line[2:]
        elif line.startswith("#") or (not line.strip() and (not steps or not steps[-1].stdout)):
            continuing = False
        else:
            continuing = False
            if not steps:
                raise ValueError(f"line {number}: output before the first command")
            _expect(steps[-1], line)
    for step in steps:
        while step.stdout and not step.stdout[-1].strip():
            step.stdout.pop()
    return steps


def _expect(step: Step, line: str) -> None:
    if line.startswith("2> "):
        step.stderr.append(line[3:])
    elif line.startswith("? "):
        step.code = int(line[2:])
    elif line == "! empty":
        step.silent = True
    else:
        step.stdout.append(line)


def environment(folder: Path) -> dict[str, str]:
    """A clean environment in which `asof` is this checkout's program and nothing is set."""
    shim = folder / SHIM
    shim.mkdir(exist_ok=True)
    program = shim / "asof"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m api.cli "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    python = shim / "python3"
    if not python.exists():
        python.symlink_to(sys.executable)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"LANG", "LC_ALL", "TMPDIR", "PYTHONPYCACHEPREFIX"}
    }
    return {
        **kept,
        "PATH": f"{shim}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(CHECKOUT),
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
        "ASOF_ACTOR": "user:ada",
    }


def run_step(step: Step, folder: Path, env: dict[str, str]) -> str:
    """Run one command in `folder`; return what differs, or nothing."""
    done = subprocess.run(
        ["/bin/sh", "-c", step.command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    complaints = [*_complaints(step, done.returncode, stdout, stderr)]
    if not complaints:
        return ""
    return "\n".join(
        [
            f"line {step.line}: $ {step.command}",
            *complaints,
            "--- stdout",
            stdout,
            "--- stderr",
            stderr,
        ]
    )


def _complaints(step: Step, code: int, stdout: str, stderr: str) -> Iterator[str]:
    if code != step.code:
        yield f"exit code {code}, expected {step.code}"
    if "Traceback (most recent call last)" in stderr:
        yield "a traceback"
    if step.silent and stdout:
        yield "something on the standard output"
    if step.stdout:
        yield from mismatch(step.stdout, stdout)
    if step.stderr:
        yield from mismatch(step.stderr, stderr)


def mismatch(expected: list[str], found: str) -> list[str]:
    """What is expected, unless it matches all of `found`: see rule 3."""
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = [_spaced(piece) for piece in line.rstrip().split("...")]
            parts.append("[^\n]*?".join(pieces) + r"[ \t]*\n")
    if re.fullmatch("".join(parts), found if found.endswith("\n") or not found else found + "\n"):
        return []
    return ["expected:", *(f"  {line}" for line in expected)]


def _spaced(text: str) -> str:
    """A pattern for `text` in which two spaces or more stand for any number of them."""
    return " +".join(re.escape(piece) for piece in re.split("  +", text))


def run(
    text: str, folder: Path, *, first_line: int = 1, more: Mapping[str, str] | None = None
) -> list[str]:
    """Run a whole transcript; return every difference, up to and with the first failing command.

    `more` is added to the environment."""
    env = environment(folder) | dict(more or {})
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for step in parse(text, first_line=first_line):
        difference = run_step(step, work, env)
        if difference:
            return [difference]
    return []
