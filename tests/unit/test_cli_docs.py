"""Every command, option, setting and exit code is documented, or the build fails."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli.app import Root, app
from api.cli.problems import EXIT_CODES
from api.settings import SETTINGS

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command and group with its full name."""
    waiting = [("asof", get_command(app))]
    while waiting:
        path, command = waiting.pop(0)
        yield path, command
        waiting += [
            (f"{path} {name}", child) for name, child in getattr(command, "commands", {}).items()
        ]


COMMANDS = list(commands())


def help_of(path: str) -> str:
    """The help text as people get it."""
    from io import StringIO
    from unittest.mock import patch

    from api.cli import main

    out = StringIO()
    with patch.object(sys, "stdout", out):
        assert main([*path.split()[1:], "--help"]) == 0
    return out.getvalue()


def test_the_page_is_current() -> None:
    """`python scripts/docs_cli.py` writes it again."""
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts" / "docs_cli.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_each_command_is_documented(path: str, command: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^### `{path}`$(.*?)(?=^### |\Z)", page, re.M | re.S)
    assert section, f"docs/cli.md has no section for {path}"
    for parameter in command.params:
        assert parameter.help, f"{path}: {parameter.name} has no help"
        if parameter.param_type_name == "option":
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert name in section[1], f"{path}: {name} is not documented"


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_each_help_says_what_and_ends_with_two_examples(path: str, command: Any) -> None:
    text = help_of(path)
    assert command.help, f"{path} has no description"
    tail = text.rsplit("Examples:\n", 1)[1].strip().splitlines()
    assert len(tail) == 2, f"{path} has {len(tail)} examples"
    assert all("asof" in line for line in tail)


def test_settings_and_exit_codes_are_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert f"| `{setting.variable}` |" in page
    for code, name, _ in EXIT_CODES:
        assert re.search(rf"^\| {code} \| {re.escape(name)} \|", page, re.M)


def test_every_command_has_a_panel() -> None:
    shown = [name for names in Root.panels.values() for name in names]
    assert sorted(shown) == sorted(get_command(app).commands)  # type: ignore[attr-defined]
