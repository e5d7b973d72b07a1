"""How a function becomes a command: options that every command has, examples that every help ends
with.

::

    @command(app, "state", examples=["asof state -p forecast -s production", "asof state … --at '2h
    ago'"]) def state(session: Session, pipeline: PipelineOption, …) -> None:
        \"\"\"What is bound, running and served, now or at any instant.\"\"\"

`--store`, `-o`, `--quiet` and `--actor` are accepted before and after the sub-command; the one
nearest to the end of the line wins. A command is a plain function of a `Session` and its own
parameters: its signature is all that Typer is given, with the global options added.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from api.cli.problems import report
from api.cli.session import Given, Session
from api.settings import FORMATS

__all__ = ["EXAMPLES", "Command", "Group", "command", "group", "new_app"]

EXAMPLES = "Examples:"
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = TypeVar("_Function", bound=Callable[..., None])


def _known_form(value: str | None) -> str | None:
    if value is not None and value not in FORMATS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(FORMATS)}")
    return value


_GLOBALS: tuple[tuple[str, Any, Any], ...] = (
    (
        "store",
        Annotated[
            str | None,
            typer.Option(
                "--store",
                metavar="URL",
                show_default=False,
                help="The ledger: sqlite:///path or postgresql://user@host/database (ASOF_STORE; "
                "default sqlite:///asof.db).",
            ),
        ],
        None,
    ),
    (
        "server",
        Annotated[
            str | None,
            typer.Option(
                "--server",
                metavar="URL",
                show_default=False,
                help="A server instead of a store (ASOF_SERVER; the token: ASOF_TOKEN).",
            ),
        ],
        None,
    ),
    (
        "ledger",
        Annotated[
            str | None,
            typer.Option(
                "--ledger",
                metavar="NAME",
                show_default=False,
                help="Which ledger of that server (ASOF_LEDGER; default: the only one).",
            ),
        ],
        None,
    ),
    (
        "output",
        Annotated[
            str | None,
            typer.Option(
                "--output",
                "-o",
                metavar="|".join(FORMATS),
                callback=_known_form,
                show_default=False,
                help="How the answer is printed (ASOF_OUTPUT; default table).",
            ),
        ],
        None,
    ),
    (
        "quiet",
        Annotated[
            bool,
            typer.Option(
                "--quiet",
                "-q",
                show_default=False,
                help="No progress and no remarks on the standard error (ASOF_QUIET).",
            ),
        ],
        False,
    ),
)

_ACTOR: tuple[str, Any, Any] = (
    "actor",
    Annotated[
        str | None,
        typer.Option(
            "--actor",
            metavar="ID",
            show_default=False,
            help="Who records: user:…, service:… or agent:… (ASOF_ACTOR; default user:<login>).",
        ),
    ],
    None,
)


def _write_examples(epilog: str | None, formatter: Any) -> None:
    """The last paragraph of a help text, one example a line."""
    formatter.write_paragraph()
    formatter.write(f"{EXAMPLES}\n")
    for line in (epilog or "").splitlines():
        formatter.write(f"  {line}\n")


class Command(TyperCommand):
    """A command whose help ends with its examples, one a line of its epilog."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group whose help lists its commands whole, under `panels` where it has some, and ends with
    examples.
    """

    panels: Mapping[str, Sequence[str]] = MappingProxyType({})

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in self._panels().values() for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in self._panels().items():
            rows = [(name, _first_sentence(self.commands[name].help)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def _panels(self) -> Mapping[str, Sequence[str]]:
        """The panels with the commands that there are; a test finds one that is in none."""
        if not self.panels:
            return {"Commands": list(self.commands)}
        return {
            title: held
            for title, names in self.panels.items()
            if (held := [name for name in names if name in self.commands])
        }

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog, formatter)


def _first_sentence(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " ")


def new_app(
    name: str,
    text: str,
    *,
    examples: Sequence[str],
    completion: bool = False,
    kind: type[Group] = Group,
) -> typer.Typer:
    """Make the app, or a group of it; `group` puts the global options on it."""
    return typer.Typer(
        name=name,
        cls=kind,
        help=text,
        epilog="\n".join(examples),
        add_completion=completion,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )


def group(app: typer.Typer, *, extra: Sequence[tuple[str, Any, Any]] = ()) -> None:
    """Let the group take the global options, for all its commands. `extra` are eager ones of its
    own.
    """

    def options(ctx: typer.Context, **given: Any) -> None:
        ctx.obj = _given(ctx, given)

    _sign(options, [], [*extra, *_GLOBALS, _ACTOR])
    app.callback()(options)


def command(
    app: typer.Typer,
    name: str,
    *,
    examples: Sequence[str],
    writes: bool = False,
    remote: bool = False,
) -> Callable[[_Function], _Function]:
    """Register a function of (session, …) under `name`. `writes`: it takes --actor too. `remote`: a
    server can do it; the others refuse one that is named.
    """

    def register(function: _Function) -> _Function:
        def run(ctx: typer.Context, **values: Any) -> None:
            given = _given(ctx, {key: values.pop(key, None) for key in Given.names()})
            with (
                _Ending(ctx.command_path, given.store),
                Session(given, ctx.command_path, writes=writes) as session,
            ):
                if not remote:
                    session.beside_the_store()
                function(session, **values)

        taken = set(inspect.signature(function).parameters) & set(Given.names())
        if taken:
            raise AssertionError(f"{name}: {taken} are global options")
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        offered = [one for one in _GLOBALS if remote or one[0] not in ("server", "ledger")]
        _sign(run, own, [*offered, *([_ACTOR] if writes else [])])
        run.__doc__ = function.__doc__
        app.command(name, cls=Command, epilog="\n".join(examples), context_settings=_CONTEXT)(run)
        return function

    return register


def _given(ctx: typer.Context, values: dict[str, Any]) -> Given:
    """What was said here, on top of what was said before the sub-command."""
    outer = (
        ctx.parent.obj if ctx.parent is not None and isinstance(ctx.parent.obj, Given) else Given()
    )
    said = {key: value for key, value in values.items() if key in Given.names() and value}
    return outer.with_(said)


def _sign(
    function: Callable[..., None],
    own: Sequence[inspect.Parameter],
    more: Sequence[tuple[str, Any, Any]],
) -> None:
    """Give `function` the signature that Typer reads: context, own parameters, globals."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(name, keyword, annotation=kind, default=default)
            for name, kind, default in more
        ),
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}


class _Ending:
    """How a command ends: what went wrong is said, and becomes the exit code that docs/cli.md
    lists.

    A broken pipe is caught here because Typer would make a 1 of it, which means INVALID.
    """

    def __init__(self, command: str, store: str | None) -> None:
        self._command = command
        self._store = store

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, (typer.Exit, typer.Abort, typer.TyperException)):
            return
        if isinstance(error, BrokenPipeError):
            _drop_output()
            raise typer.Exit(141) from error
        if isinstance(error, (Exception, KeyboardInterrupt)):
            raise typer.Exit(report(error, command=self._command, store=self._store)) from error


def _drop_output() -> None:
    """Let the interpreter flush into nothing at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
