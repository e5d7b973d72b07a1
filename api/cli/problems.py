"""What people see when something went wrong: one plain line, one hint, the documented exit code.

::

    asof: there is no pipeline 'forcast' in stage 'production'
    try: asof state --pipeline forecast --stage production

The exit code is the error's own (`ledger.errors`). A hint that knows the situation travels with the
error as a note (`api.hints`); otherwise each family has one. A traceback is shown with ASOF_DEBUG=1
only. An error that nobody meant ends with 8: it could not be told whether all is well.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from api.cli.terminal import plain
from api.hints import MIGRATE, hints_of
from api.settings import debugging
from api.urls import without_password
from ledger.errors import (
    AsofError,
    ConflictError,
    IncompleteError,
    LoginRefusedError,
    MalformedError,
    NotFoundError,
    NotPreparedError,
    RefusedError,
    TamperError,
    UnknownEventError,
    UnknownOutcomeError,
    UnreachableError,
)

__all__ = ["EXIT_CODES", "exit_code_of", "problem_lines", "report", "with_store"]

EXIT_CODES = (
    (0, "ok", "It was done, or the answer is what was asked for; VALID."),
    (1, "INVALID", "Evidence of tampering: something is not what was signed. The entry is named."),
    (2, "usage", "The command or its input is not well formed. Nothing was written."),
    (3, "not found", "There is no such ledger, entry, pipeline, asset, plan or file."),
    (
        4,
        "not allowed",
        "A rule says no: a missing approval, a plan that changed, a step of a finished run.",
    ),
    (5, "conflict", "Somebody else was first, or an idempotency key was used for another body."),
    (6, "unreachable", "The store or a system did not answer."),
    (7, "INCOMPLETE", "It could not be verified in full. What was not checked is listed."),
    (
        8,
        "ERROR",
        "It could not be done or told: a full disk, a broken file, an error of this program.",
    ),
    (
        130,
        "interrupted",
        "Ctrl-C, or no to a question. What was acknowledged stays; nothing is half-written.",
    ),
    (141, "broken pipe", "The reader of the output went away before the end (asof log | head)."),
)

_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (UnknownEventError, "the event types are listed in docs/events.md"),
    (MalformedError, "{command} --help"),
    (UnknownOutcomeError, "the same command again, with the same --idempotency-key"),
    (ConflictError, "read again (asof log), then decide again"),
    (NotPreparedError, MIGRATE),
    (NotFoundError, "{command} --help"),
    (LoginRefusedError, "another user in the URL, or that user's password in PGPASSWORD"),
    (UnreachableError, "again in a moment; nothing is known to have changed"),
    (RefusedError, "{command} --help"),
    (TamperError, "asof verify -o json, and keep the files as they are: they are evidence"),
    (IncompleteError, "asof verify -o json, to see what was not checked"),
)


def exit_code_of(error: BaseException) -> int:
    """The documented exit code of an error."""
    if isinstance(error, AsofError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 3 if isinstance(error, FileNotFoundError) else 8


_COMMAND = re.compile(r"asof [^,(]*[^,( ]")  # up to the words that explain it


def report(error: BaseException, *, command: str, store: str | None = None) -> int:
    """Say on the standard error what went wrong, and return the exit code.

    `store` is the --store that was given: a command that helps needs it too.
    """
    for line in problem_lines(error, command=command, store=store, debug=debugging()):
        print(line, file=sys.stderr)  # noqa: T201
    return exit_code_of(error)


def problem_lines(
    error: BaseException, *, command: str, store: str | None = None, debug: bool = False
) -> Iterator[str]:
    """Yield what to print on the standard error about `error`."""
    if debug:
        yield from "".join(traceback.format_exception(error)).rstrip().splitlines()
    yield f"asof: {_what(error)}"
    for hint in _hints(error, command):
        yield plain(f"try: {with_store(hint, store)}")


def with_store(hint: str, store: str | None) -> str:
    """A command that is suggested, with the --store that was given, but for its password."""
    command = _COMMAND.match(hint)
    if store is None or command is None or hint.endswith("--help"):
        return hint
    if "--store" in hint or "--admin" in hint:
        return hint
    return f"{command.group()} --store {without_password(store)}{hint[command.end() :]}"


def _what(error: BaseException) -> str:
    if isinstance(error, AsofError):
        return plain(str(error) or type(error).__name__)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return plain(f"{place}{error.strerror or error}")
    return plain(f"unexpected {type(error).__name__}: {error} ({_place(error)})")


def _hints(error: BaseException, command: str) -> list[str]:
    own = hints_of(error)
    if own or isinstance(error, (KeyboardInterrupt, OSError)):
        return own
    if not isinstance(error, AsofError):
        return [
            "again with ASOF_DEBUG=1, and report what it prints: this is an error of asof itself"
        ]
    for family, hint in _HINTS:
        if isinstance(error, family):
            return [hint.format(command=command)]
    return []


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "nowhere"
    last = frames[-1]
    return f"{Path(last.filename).parent.name}/{Path(last.filename).name}:{last.lineno}"
