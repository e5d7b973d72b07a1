"""The pages about projections: their examples run, and each has its three parts."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

SPECS = ("projections", "state", "time")


@pytest.mark.parametrize("name", SPECS)
def test_page_has_a_running_example_rules_and_warnings(checkout: Path, name: str) -> None:
    page = (checkout / "docs" / "spec" / f"{name}.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, {}, name, name, 0)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said
    assert page.index("```") < page.index("## Rules") < page.index("## A reader must not assume")
