"""The pages about connectors are true: examples run, lists are those of the code."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from connectors import SYSTEMS
from connectors.environment import LOCK_FILES, LOCK_PATTERNS, VARIABLES
from connectors.git import KEEP, STEP, STEP_LINE
from connectors.placing import staging_names


def page(checkout: Path, name: str) -> str:
    return (checkout / "docs" / "connectors" / f"{name}.md").read_text(encoding="utf-8")


def test_the_examples_run(checkout: Path) -> None:
    text = page(checkout, "README")
    test = doctest.DocTestParser().get_doctest(text, {}, "docs/connectors/README.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.attempted > 10 and result.failed == 0, "".join(said)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_its_page(checkout: Path, system: str) -> None:
    assert f"[{system}]({system}.md)" in page(checkout, "README")
    assert f"asof capture {system} " in page(checkout, system)


def test_the_page_on_environments_names_what_is_read(checkout: Path) -> None:
    named = set(re.findall(r"`([^`\n]+)`", page(checkout, "environment")))
    assert {*VARIABLES, *LOCK_FILES, *LOCK_PATTERNS} <= named


def test_the_pages_name_what_is_left_on_disk(checkout: Path) -> None:
    text = page(checkout, "git")
    assert (
        f"`{KEEP}<commit>`" in text and f"`{STEP}<sha256 of" in text and STEP_LINE.strip() in text
    )
    assert all(name.name.startswith(".asof-") for name in staging_names(checkout))
    assert "`.asof-`" in page(checkout, "files")
