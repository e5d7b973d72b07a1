"""One place reads the environment; what makes no sense is refused by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from api import __version__
from api.settings import SETTINGS, Settings, debugging, read_settings
from ledger.errors import MalformedError

CHECKOUT = Path(__file__).resolve().parents[2]


def test_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"ASOF_STORE": "", "ASOF_OUTPUT": "", "ASOF_QUIET": ""}) == Settings()


def test_every_setting_is_read() -> None:
    given = {
        "ASOF_STORE": "sqlite:///x.db",
        "ASOF_SERVER": "https://ledger.example.com",
        "ASOF_LEDGER": "acme",
        "ASOF_TOKEN": "asof_live_x",
        "ASOF_VKEY": "a.vkey",
        "ASOF_CONFIG": "/c.toml",
        "ASOF_OUTPUT": "json",
        "ASOF_ACTOR": "service:x",
        "ASOF_QUIET": "yes",
        "ASOF_KEYS": "/k",
        "ASOF_OBJECTS": "/o",
        "ASOF_PG_WITHOUT_CHECKSUMS": "1",
        "ASOF_DEBUG": "1",
        "NO_COLOR": "1",
    }
    assert given.keys() == {setting.variable for setting in SETTINGS}
    assert read_settings(given) == Settings(
        store="sqlite:///x.db",
        server="https://ledger.example.com",
        ledger="acme",
        token="asof_live_x",
        vkey="a.vkey",
        config=Path("/c.toml"),
        output="json",
        actor="service:x",
        quiet=True,
        keys=Path("/k"),
        objects=Path("/o"),
        without_checksums=True,
        debug=True,
        no_color=True,
    )


@pytest.mark.parametrize(
    ("variable", "value"), [("ASOF_OUTPUT", "xml"), ("ASOF_QUIET", "maybe"), ("ASOF_DEBUG", "2")]
)
def test_nonsense_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(MalformedError, match=f"{variable}: '{value}'"):
        read_settings({variable: value})


def test_debugging_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASOF_DEBUG", "nonsense")
    assert debugging() is False
    monkeypatch.setenv("ASOF_DEBUG", "1")
    assert debugging() is True


def test_nobody_else_reads_the_environment() -> None:
    """os.environ and os.getenv stand in api/settings.py alone."""
    readers = set()
    for room in ("api", "ledger", "projections", "connectors"):
        for path in (CHECKOUT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in (
                    "environ",
                    "getenv",
                    "environb",
                ):
                    if isinstance(node.value, ast.Name) and node.value.id == "os":
                        readers.add(str(path.relative_to(CHECKOUT)))
    assert readers == {"api/settings.py"}


def test_the_version_is_the_package_s() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == __version__
