"""What every test may rely on."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.postgres", "tests.support.indexes", "tests.support.service"]

CHECKOUT = Path(__file__).resolve().parents[1]

# Hundreds of programs are started by the tests. Where nothing may be written beside the sources
# (PYTHONDONTWRITEBYTECODE, as in images), each of them would compile all that it imports: what is
# compiled is kept aside instead, for these processes, the workers and the programs.
sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(CHECKOUT / ".cache/pycache"))
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "asof",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("asof-long", parent=settings.get_profile("asof"), max_examples=2_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long campaigns too")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("asof-long" if config.getoption("--long") else "asof")


def pytest_unconfigure() -> None:
    """What clients of tests leave in their spools is not said behind the last line."""
    logging.getLogger("asof").addHandler(logging.NullHandler())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="a long campaign: ./scripts/test --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """The folder of shared test vectors; the test reports itself as skipped where it is absent."""
    folder = CHECKOUT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip(f"no test vectors beside the checkout ({folder.parent.name}/{folder.name})")
    return folder
