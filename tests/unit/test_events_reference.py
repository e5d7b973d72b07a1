"""docs/events.md is what the code says, and the example of docs/spec/payload.md runs."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.events import EVENT_TYPES


def run_script(checkout: Path, *args: str) -> subprocess.CompletedProcess[str]:
    script = checkout / "scripts" / "docs_events.py"
    return subprocess.run(
        [sys.executable, str(script), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=checkout,
    )


def test_the_reference_is_current(checkout: Path) -> None:
    done = run_script(checkout, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reference_names_every_type_and_field(checkout: Path) -> None:
    page = (checkout / "docs" / "events.md").read_text(encoding="utf-8")
    for name, event_class in EVENT_TYPES.items():
        _, _, section = page.partition(f"\n## {name}\n")
        assert section, name
        section = section.partition("\n## ")[0] + page.partition("## All types")[0]
        for field, info in event_class.model_fields.items():
            assert f"| `{info.alias or field}` |" in section, f"{name}: {field}"


def test_the_example_of_the_specification(checkout: Path) -> None:
    page = (checkout / "docs" / "spec" / "payload.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, {}, "payload", "payload", 0)
    said: list[str] = []
    results = doctest.DocTestRunner().run(test, out=said.append)
    assert results.attempted and not results.failed, "".join(said)
    assert page.index("```") < page.index("## Rules") < page.index("## A reader must not assume")


@pytest.mark.parametrize("rule", range(1, 10))
def test_the_rules_of_the_door_have_tests_of_their_number(checkout: Path, rule: int) -> None:
    tests = (checkout / "tests" / "unit" / "test_event_door.py").read_text(encoding="utf-8")
    page = (checkout / "docs" / "spec" / "payload.md").read_text(encoding="utf-8")
    assert f"\n{rule}. " in page
    assert f"def test_{rule}_" in tests or rule == 3, "rule 3 is the first test of the file"
