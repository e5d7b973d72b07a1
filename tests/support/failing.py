"""What breaks on request: a database connection, and a process that may not write."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["FailingConnection", "as_nobody", "sqlite_error"]

NOBODY = 65534


def sqlite_error(code: int, text: str = "injected", kind: type = sqlite3.OperationalError) -> Any:
    """An error as the driver raises it, with SQLite's extended code."""
    error = kind(text)
    error.sqlite_errorcode = code
    return error


class FailingConnection:
    """A connection that raises `error` at each statement that begins so.

    With `after`, the statement is run first: it was done, and the caller is told that it failed.
    """

    def __init__(
        self, inner: sqlite3.Connection, statement: str, error: Exception, *, after: bool = False
    ) -> None:
        self.inner = inner
        self.statement = statement
        self.error = error
        self.after = after

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if not statement.startswith(self.statement):
            return self.inner.execute(statement, *values)
        if self.after:
            self.inner.execute(statement, *values)
        raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def as_nobody(work: Callable[[], None]) -> None:
    """Run `work` in a child process without root's rights; its assertions are ours."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
