"""Writes docs/cli.md from the code: `python scripts/docs_cli.py`; with `--check` it only compares.

Every command, argument, option, setting and exit code is in the page because the page is made of
them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "cli.md"
sys.path.insert(0, str(CHECKOUT))

from typer.main import get_command  # noqa: E402

from api.cli.app import app  # noqa: E402
from api.cli.problems import EXIT_CODES  # noqa: E402
from api.settings import SETTINGS  # noqa: E402

INTRODUCTION = """# Command line

<!-- Made by scripts/docs_cli.py from the code; a test compares. Change the code, then run it. -->

```console
$ asof init
$ asof state --pipeline forecast --stage production --at '2h ago'
```

1. Answers go to the standard output, and nothing else does. Progress, remarks and errors go to the
   standard error. A progress bar appears after half a second, on a terminal only.
2. `-o table` (the default, for people), `json` (the documented form), `jsonl` (one record a line)
   and `csv` (one row a record). The form is never guessed from where the output goes.
3. The global options `--store`, `--server`, `--ledger`, `--output`, `--quiet` and, for commands
   that write, `--actor` are accepted before and after the sub-command; the last one wins, and wins
   over the environment. With `--server` a command asks a server (`asof serve`) instead of a store,
   with the token in `ASOF_TOKEN`; what only works beside the store says so. Connectors run here,
   the ledger is there, and who acts is whose token it is.
4. Every time is printed in UTC with its offset, cut to whole seconds in tables and exact in JSON
   and CSV. Every time that is read must have an offset. `--from A --to B` includes both ends.
5. Versions that are a digest or a commit are cut to twelve digits and `…` in tables; what is shown
   may be typed: commands take the beginning of a version where only one begins so.
6. An error is one line that says what and where, and one that says what to try. Text from the
   ledger is shown with control and direction characters written out (`\\x1b`, `\\u202e`).
7. `asof --install-completion` teaches the shell (bash, zsh, fish, PowerShell) commands, options,
   and the names that the ledger holds.

What a script must **not** assume: that tables keep their looks; that a message keeps its words (the
exit code and the members of the JSON stay); that an exit code above 8 other than 130 and 141 comes
from asof.
"""


def page() -> str:
    """The whole page."""
    return (
        "\n".join([INTRODUCTION, *_times(), *_exit_codes(), *_settings(), *_commands()]).rstrip()
        + "\n"
    )


def _times() -> Iterator[str]:
    yield "## Times and places: `--at`, `--known-at`, `--from`, `--to`\n"
    yield "| form | means |\n| --- | --- |"
    for form, meaning in [
        (
            "`2026-11-21T05:00:00Z`, `2026-11-21T07:00:00+02:00`",
            "an instant (RFC 3339, with offset)",
        ),
        ("`now`, `2h ago`, `3d ago`", "counted from now, in units s, min, h, d, w"),
        ("`index:1234`", "the ledger right after entry 1234"),
        (
            "`event:run/train-42#1`, `event:1234`",
            "right after version 1 of that stream; after entry 1234",
        ),
        ("`tag:release-7`", "where the tag points to"),
        ("`run:train-42`", "the start of that run"),
    ]:
        yield f"| {form} | {meaning} |"
    yield ""
    yield "`--at T` alone asks what held at T, as known now. `--known-at T` alone asks what was"
    yield "known at T and held at T. Both together: any pair. Neither: now. Answers say which.\n"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    yield "| code | name | means |\n| ---: | --- | --- |"
    yield from (f"| {code} | {name} | {meaning} |" for code, name, meaning in EXIT_CODES)
    yield ""


def _settings() -> Iterator[str]:
    yield "## Environment\n"
    yield "| variable | option | default | means |\n| --- | --- | --- | --- |"
    for setting in SETTINGS:
        option = f"`{setting.option}`" if setting.option else ""
        yield f"| `{setting.variable}` | {option} | {setting.default} | {setting.meaning} |"
    yield ""


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield from _section(get_command(app), "asof")


def _section(command: Any, path: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    yield f"### `{path}`\n"
    yield _prose(command.help)
    yield ""
    yield "```text"
    yield f"{path} {' '.join(_pieces(command))}".rstrip()
    yield "```\n"
    yield from _parameters(command)
    yield "Examples:\n"
    yield "```console"
    yield from (f"$ {line}" for line in (command.epilog or "").splitlines())
    yield "```\n"
    for name, child in children.items():
        yield from _section(child, f"{path} {name}")


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\b\n", "").strip()


def _pieces(command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    names = [_argument(p) for p in arguments]
    commands = ["COMMAND …"] if getattr(command, "commands", None) else []
    required = [
        f"{p.opts[0]} {_value(p)}".strip()
        for p in command.params
        if p.param_type_name == "option" and p.required
    ]
    return [*names, *required, "[OPTIONS]", *commands]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name = f"{name}…" if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _parameters(command: Any) -> Iterator[str]:
    rows = []
    for p in command.params:
        if getattr(p, "hidden", False):
            continue
        if p.param_type_name == "argument":
            rows.append((f"`{_argument(p)}`", p.help or ""))
        else:
            names = ", ".join([*p.opts, *p.secondary_opts])
            rows.append((f"`{f'{names} {_value(p)}'.strip()}`", _note(p)))
    if rows:
        yield "| | |\n| --- | --- |"
        yield from (f"| {name.replace('|', chr(92) + '|')} | {text} |" for name, text in rows)
        yield ""


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    return str(parameter.metavar or "VALUE")


def _note(parameter: Any) -> str:
    text = parameter.help or ""
    if parameter.required:
        text += " Required."
    if getattr(parameter, "multiple", False):
        text += " May be given more than once."
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print("docs/cli.md is not current: run python scripts/docs_cli.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
