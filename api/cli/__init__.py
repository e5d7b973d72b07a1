"""The command line: `asof`.

Answers go to the standard output and nothing else does; progress, remarks and errors go to the
standard error; the exit code says how it went (docs/cli.md). Starting is cheap: until a command
needs a room, no room is imported (docs/adr/0061).

`command` turns a function into a command; each group of commands has a file: `recording`,
`bindings`, `runs`, `questions`, `evidence`, `exports`, `rollback`, `keeping`, `migrating`.
`output`, `terminal`, `progress` and `problems` decide how things look.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code. Never raises, never prints a traceback
    unasked.
    """
    _speak_utf8()
    try:
        from api.cli.app import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except (Exception, KeyboardInterrupt) as error:
        from api.cli.problems import report

        return report(error, command="asof")


def _speak_utf8() -> None:
    """Write UTF-8 whatever the locale says; what cannot be written is escaped, never a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")
