"""What is written is tested: the ```console blocks of README.md and docs/ are typed in, as shown.

A block that begins with the comment `<!-- tested -->` on the line before it is run; all blocks of
one file share one folder, in their order, so that a page reads as one session. A block without that
mark is only looked at: every `asof` command in it must exist, with every option that it uses.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.clusters import Cluster
from tests.support import transcript

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    p for p in [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")] if p.exists()
)
_BLOCK = re.compile(r"^(<!-- tested -->\n+)?```(?:console|sh)\n(.*?)^```$", re.M | re.S)


def blocks(text: str) -> Iterator[tuple[int, bool, str]]:
    """The console blocks of a page: first line, whether it is to be run, content."""
    for found in _BLOCK.finditer(text):
        first = text.count("\n", 0, found.start(2)) + 1
        yield first, found.group(1) is not None, found.group(2)


def marked(path: Path) -> list[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    return [(first, content) for first, is_marked, content in blocks(text) if is_marked]


@pytest.mark.parametrize(
    "path", [p for p in PAGES if marked(p)], ids=lambda p: str(p.relative_to(CHECKOUT))
)
def test_marked_blocks_run(path: Path, tmp_path: Path) -> None:
    for first, content in marked(path):
        differences = transcript.run(content, tmp_path, first_line=first)
        assert not differences, f"{path.relative_to(CHECKOUT)}, " + "\n".join(differences)


def test_the_five_lines_of_postgresql_run_on_a_fresh_server(
    pg_cluster: Cluster, tmp_path: Path
) -> None:
    """As they stand there; only the port is another, and the server's programs are on the path."""
    page = (CHECKOUT / "docs" / "postgresql.md").read_text(encoding="utf-8")
    content = next(content for _, _, content in blocks(page))
    assert len(content.splitlines()) == 5
    env = transcript.environment(tmp_path) | {"PGPORT": str(pg_cluster.port)}
    env["PATH"] = f"{env['PATH']}:{pg_cluster.bindir}"
    step = transcript.Step(1, f"set -e\n{content}asof verify", ["...", "VALID  1 entry", "..."])
    difference = transcript.run_step(step, tmp_path, env)
    assert not difference, difference


def commands_in(text: str) -> Iterator[tuple[int, list[str]]]:
    """Every `asof …` line of the console blocks, as words."""
    for first, _, content in blocks(text):
        joined = re.sub(r"\\\n>? ?", " ", content)
        for number, line in enumerate(joined.splitlines(), first):
            bare = re.sub(r"^\$ ", "", line)
            if re.match(r"(\./scripts/)?asof(\s|$)", bare):
                yield number, shlex.split(bare.split(" | ")[0].split(" > ")[0], comments=True)[1:]


def unknown_word(words: list[str], command: Any) -> str:
    """The first sub-command or option in `words` that `command` does not have, or nothing."""
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {
        "--help",
        "-h",
    }
    commands = getattr(command, "commands", {})
    skip = False
    for position, word in enumerate(words):
        if skip:
            skip = False
        elif word.startswith("-") and word != "-" and not re.match(r"-\d", word):
            name = word.split("=")[0]
            if name not in options:
                return f"{command.name}: {name}"
            takes_value = any(
                name in p.opts and not getattr(p, "is_flag", False) for p in command.params
            )
            skip = takes_value and "=" not in word
        elif commands:
            if word not in commands:
                return f"{command.name}: {word}"
            return unknown_word(words[position + 1 :], commands[word])
    return ""


@pytest.fixture(scope="module")
def root() -> Any:
    """Every command that there is."""
    from typer.main import get_command

    from api.cli.app import app

    return get_command(app)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_commands_in_docs_exist(path: Path, root: Any) -> None:
    for number, words in commands_in(path.read_text(encoding="utf-8")):
        wrong = unknown_word(words, root)
        assert not wrong, f"{path.relative_to(CHECKOUT)}:{number}: there is no such thing: {wrong}"


def test_the_runner_notices(root: Any) -> None:
    """The negative control: an invented option, an invented command, a block that is marked."""
    assert unknown_word(["state", "--invented"], root) == "state: --invented"
    assert unknown_word(["inventedcommand"], root).endswith("inventedcommand")
    assert unknown_word(["--store", "x", "log", "-o", "json"], root) == ""
    page = "text\n<!-- tested -->\n```console\n$ asof init\n```\n```console\n$ asof log\n```\n"
    assert [(m, c) for _, m, c in blocks(page)] == [
        (True, "$ asof init\n"),
        (False, "$ asof log\n"),
    ]
    assert [w for _, w in commands_in(page)] == [["init"], ["log"]]
