"""Running other people's programs: no shell, few variables, a time limit, bounded output.

::

    done = run(["git", "rev-parse", "HEAD"], cwd=Path("/srv/shop"), environ=os.environ)
    done.stdout

Rules:

1. The program is found by name in the absolute folders of PATH only, never in the working folder.
2. It sees PATH, a fixed locale and time zone, and the variables that the caller names; nothing
   else.
3. It reads what it is given or nothing; there is no terminal to ask questions on.
4. It leads a process group of its own. At the time limit, at too much output, or when the caller
   goes away by an exception, the whole group is ended: first asked (so that it removes its lock
   files), then killed.
5. What goes wrong says what was run, where, and the program's own last words, with passwords
   struck out.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ledger.errors import MalformedError, NotFoundError, StoreError, UnreachableError

__all__ = [
    "Finished",
    "ProgramError",
    "check_operand",
    "find_program",
    "redacted",
    "run",
    "stream",
]

MAX_OUTPUT = 64 << 20
MAX_WORDS = 2_000
GRACE_SECONDS = 2.0
CHUNK = 1 << 18
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_SECRET_WORD = re.compile(
    r"(?i)\b((?:pass(?:word|wd)?|secret|token|api[-_]?key|authorization)\s*[=:]\s*)\S+"
)


class ProgramError(StoreError):
    """A program that we ran ended badly; `returncode` and `stderr` (already redacted) say how."""

    def __init__(self, message: str, *, returncode: int, stderr: str) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A program that ended by itself: its exit code and all that it said."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: str


def check_operand(value: str, field: str) -> str:
    """`value`, which a user gave and a program will get as an operand.

    Raises: MalformedError for an empty one, one that a program would take for an option, or one
    with a control character that could end an argument or a line.
    """
    if (
        not value
        or value.startswith("-")
        or any(ord(sign) < 32 or ord(sign) == 127 for sign in value)
    ):
        raise MalformedError(
            f"{value!r} cannot be given to a program: it is empty, begins with '-' "
            "or holds a control character",
            where=field,
        )
    return value


def redacted(text: str) -> str:
    """`text` without the user part of URLs and without what follows `password=` and its like."""
    return _SECRET_WORD.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """The absolute path of a program (rule 1). Raises: NotFoundError."""
    if os.path.isabs(name):
        return name
    for folder in environ.get("PATH", DEFAULT_PATH).split(os.pathsep):
        candidate = os.path.join(folder, name)
        if os.path.isabs(folder) and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise NotFoundError(
        f"the program {name!r} is not installed, or not in an absolute folder of PATH"
    )


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    allow: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 600.0,
    max_output: int = MAX_OUTPUT,
    codes: Sequence[int] = (0,),
) -> Finished:
    """Run a program to its end. `codes` are the exit codes that are not a failure.

    Raises: NotFoundError (not installed), UnreachableError (time limit; it was killed),
    ProgramError.
    """
    running = _Running(
        argv, cwd=cwd, environ=environ, allow=allow, extra=extra, stdin=stdin, timeout=timeout
    )
    with running:
        stdout = b"".join(running.chunks(max_output))
        return running.finished(stdout, codes)


def stream(
    argv: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 600.0,
) -> Iterator[bytes]:
    """What a program says, piece by piece; its failure is raised after the last piece.

    The time limit is for each piece, so that a large output may take its time. Closing the iterator
    ends the program.
    """
    running = _Running(
        argv, cwd=cwd, environ=environ, allow=(), extra=extra, stdin=stdin, timeout=timeout
    )
    with running:
        for chunk in running.chunks(None):
            yield chunk
            running.rest()
        running.finished(b"", (0,))


class _Running:
    """A program under way, with its limits; leaving the `with` block ends it (rule 4)."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        allow: Sequence[str],
        extra: Mapping[str, str] | None,
        stdin: bytes,
        timeout: float,
    ) -> None:
        self.argv = (find_program(argv[0], environ), *argv[1:])
        self.cwd = cwd
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.words: IO[bytes] = tempfile.TemporaryFile()
        self.process = self._start(_scrubbed(environ, allow, extra), stdin)

    def _start(self, env: Mapping[str, str], stdin: bytes) -> subprocess.Popen[bytes]:
        # The input is a file, so that neither side can wait for the other with a full pipe.
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            try:
                return subprocess.Popen(  # noqa: S603 - an argument list, a found program, no shell
                    self.argv,
                    cwd=self.cwd,
                    env=dict(env),
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=self.words,
                    start_new_session=True,
                )
            except OSError as error:
                self.words.close()
                raise NotFoundError(f"could not run {self.shown}: {error}") from error

    @property
    def shown(self) -> str:
        """The call as a person would type it, with its folder, without secrets."""
        return f"{redacted(shlex.join(self.argv))} in {self.cwd}"

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self._end()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.words.close()

    def _end(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            try:
                self.process.wait(GRACE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        # Grandchildren may have outlived their parent; the group is ours: no one else is hit.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def rest(self) -> None:
        """The time limit begins anew: the last piece came in time and has been dealt with."""
        self.deadline = time.monotonic() + self.timeout

    def chunks(self, limit: int | None) -> Iterator[bytes]:
        """The program's output to its end. Raises: ProgramError over `limit`, UnreachableError."""
        output = self.process.stdout
        assert output is not None  # noqa: S101 - PIPE was asked for
        seen = 0
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, self.deadline - time.monotonic())):
                    raise self._too_slow()
                chunk = os.read(output.fileno(), CHUNK)
                if not chunk:
                    return
                seen += len(chunk)
                if limit is not None and seen > limit:
                    raise self._failed(f"said more than {limit} bytes and was ended", 0)
                yield chunk

    def finished(self, stdout: bytes, codes: Sequence[int]) -> Finished:
        """The end of the program. Raises: ProgramError unless its exit code is one of `codes`."""
        try:
            code = self.process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._too_slow() from None
        if code not in codes:
            raise self._failed(f"ended with code {code}", code)
        return Finished(argv=self.argv, returncode=code, stdout=stdout, stderr=self.last_words())

    def last_words(self) -> str:
        """The end of what the program said on stderr, as text, without secrets."""
        size = self.words.seek(0, os.SEEK_END)
        self.words.seek(max(0, size - MAX_WORDS))
        return redacted(self.words.read().decode("utf-8", "replace").strip())

    def _too_slow(self) -> UnreachableError:
        return UnreachableError(
            f"{self.shown} did not answer within {self.timeout:g} seconds and was ended; "
            "see whether the disk or the machine is busy, then try again"
        )

    def _failed(self, what: str, code: int) -> ProgramError:
        words = self.last_words()
        return ProgramError(
            f"{self.shown} {what}: {words or 'no message'}", returncode=code, stderr=words
        )


def _scrubbed(
    environ: Mapping[str, str], allow: Sequence[str], extra: Mapping[str, str] | None
) -> dict[str, str]:
    kept = {name: environ[name] for name in allow if name in environ}
    fixed = {"PATH": environ.get("PATH", DEFAULT_PATH), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return {**fixed, **kept, **(extra or {})}
