"""The app: every group of commands, and how a mistake on the command line is answered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.main import get_command

from api import __version__
from api.cli import (
    bindings,
    evidence,
    exports,
    keeping,
    migrating,
    projecting,
    questions,
    recording,
    rollback,
    runs,
    serving,
)
from api.cli.command import Group, group, new_app
from api.cli.terminal import plain

__all__ = ["app", "run"]

_TEXT = """What ran at time T? An audit ledger for machine-learning pipelines.

Every change to data, code, models, configuration and environment is appended to a hash-chained,
signed log. Ask for the state at any instant, prove it to a stranger, roll the real systems back.
"""


class Root(Group):
    """The commands under what one wants to do."""

    panels = MappingProxyType(
        {
            "Begin": ("init",),
            "Record": (
                "record",
                "capture",
                "bind",
                "unbind",
                "traffic",
                "run",
                "note",
                "tag",
                "import",
            ),
            "Ask": ("state", "diff", "history", "log", "show", "lineage", "impact"),
            "Prove": ("verify", "prove", "bundle", "export"),
            "Go back": ("rollback",),
            "Serve": ("serve", "access", "tokens"),
            "Keep": ("keys", "ledger", "projections", "migrate"),
        }
    )


app = new_app(
    "asof",
    _TEXT,
    kind=Root,
    examples=["asof init", "asof state --pipeline forecast --stage production --at '2h ago'"],
    completion=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asof {__version__}")
        raise typer.Exit


group(
    app,
    extra=[
        (
            "version",
            Annotated[
                bool,
                typer.Option(
                    "--version",
                    is_eager=True,
                    callback=_show_version,
                    show_default=False,
                    help="Print the version and exit.",
                ),
            ],
            False,
        )
    ],
)
for part in (
    recording,
    bindings,
    runs,
    questions,
    evidence,
    exports,
    rollback,
    keeping,
    migrating,
    projecting,
    serving,
):
    part.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result: Any = _commands().main(list(arguments), prog_name="asof", standalone_mode=False)
    except typer.TyperException as error:
        return _mistake(error)
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0


@cache
def _commands() -> Any:
    """All commands as Typer converts them: 40 ms of work, done once in a process."""
    return get_command(app)


def _mistake(error: typer.TyperException) -> int:
    """Say what is wrong with the line and where help is; usage is exit code 2."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "asof"
    message = error.format_message()
    if message.startswith("Usage:"):  # nothing was asked: the help text itself
        print(message, file=sys.stderr)  # noqa: T201
        return 2
    first = message[:1].lower() + message[1:]
    print(f"asof: {plain(first.rstrip('.'))}", file=sys.stderr)  # noqa: T201
    print(f"try: {path} --help", file=sys.stderr)  # noqa: T201
    return 2
