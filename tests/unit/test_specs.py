"""The examples in the specifications of the core are run, as they stand on the page."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

SPECS = (
    *("canonical", "checkpoint", "entry", "note", "proof", "receipt", "tiles", "tree"),
    *("append", "cosignature", "guard", "keys", "policy", "store"),
)


def run(name: str, page: str, flags: int = doctest.ELLIPSIS) -> list[str]:
    """What the examples of a page print otherwise than the page says."""
    test = doctest.DocTestParser().get_doctest(page, {"page": page}, name, name, 0)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    return said


@pytest.mark.parametrize("name", SPECS)
def test_examples_of_the_page(checkout: Path, name: str) -> None:
    page = (checkout / "docs" / "spec" / f"{name}.md").read_text(encoding="utf-8")
    assert not run(name, page)


@pytest.mark.parametrize("name", SPECS)
def test_page_has_example_rules_and_warnings(checkout: Path, name: str) -> None:
    page = (checkout / "docs" / "spec" / f"{name}.md").read_text(encoding="utf-8")
    assert page.index("```") < page.index("## Rules") < page.index("## A reader must not assume")


def test_a_wrong_example_is_noticed() -> None:
    assert run("control", ">>> 1 + 1\n3\n")
