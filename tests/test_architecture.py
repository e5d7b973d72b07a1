"""The arrows of the house: which room may import which, read from the code itself.

A new arrow is a line in one of these tables and a decision record in docs/adr/. Imports under
`if TYPE_CHECKING` count too: a type that a room may not know is a thing that it may not know.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
ROOMS = ("ledger", "projections", "connectors", "api")

# Between rooms: who may import whom. Only api/main.py, the composition root, names the connectors.
MAY_IMPORT = {
    "ledger": set(),
    "projections": {"ledger"},
    "connectors": {"ledger"},
    "api": {"ledger", "projections"},
}
COMPOSITION_ROOT = "api.main"

# Inside ledger: a module may import those of the lines above its own, and its neighbours.
# fmt: off
LAYERS = (
    ("errors",),
    ("hashing", "canonical", "clock", "bell"),
    ("asset_ref", "entry", "merkle", "tiles", "note", "commitment"),
    (
        "verdict", "chain", "checkpoint", "cosignature", "proof", "receipt", "bundle", "draft",
        "policy", "secrets", "events",
    ),
    ("store",),
    (
        "audit", "batch", "edge", "export", "group", "guard", "keys", "opening", "places", "reader",
        "record", "sequencer", "stores", "writer",
    ),
    ("recorder", "lifecycle"),
)
PURE = {
    "asset_ref", "bundle", "canonical", "chain", "checkpoint", "commitment", "cosignature", "draft",
    "entry", "errors", "hashing", "merkle", "note", "policy", "proof", "receipt", "store", "tiles",
    "verdict",
}
IMPURE = {
    "datetime", "logging", "os", "pathlib", "pydantic", "random", "secrets", "socket", "sqlite3",
    "subprocess", "threading", "time",
}
# fmt: on
# What a pure module needs all the same, and why it stays pure.
EXCEPTIONS = {
    ("receipt", "threading"): "a lock around the memo of lazily computed proofs",
    ("merkle", "threading"): "a lock around the memo of lazily computed nodes",
    ("bundle", "os"): "a bundle is streamed to and from a file; it knows no store",
    ("bundle", "pathlib"): "as above",
    ("canonical", "datetime"): "arithmetic on given instants; the clock is never read",
}


def modules(room: str) -> Iterator[tuple[str, Path]]:
    """The dotted name and file of each module of a room; the stand-alone verifier is none."""
    for path in sorted((CHECKOUT / room).rglob("*.py")):
        if "verifier" in path.parts:
            continue
        yield (
            ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"),
            path,
        )


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that the file imports, wherever, dotted; from-imports with their names."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def layer_of(module: str) -> int | None:
    part = module.split(".")[1] if module.count(".") else ""
    return next((number for number, names in enumerate(LAYERS) if part in names), None)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_along_the_arrows(room: str) -> None:
    for module, path in modules(room):
        allowed = set(ROOMS) if module == COMPOSITION_ROOT else MAY_IMPORT[room] | {room}
        for name in imports(path):
            target = name.split(".")[0]
            assert target not in ROOMS or target in allowed, f"{module} may not import {name}"
            assert target not in {"tests", "scripts"}, f"{module} imports {name}"


def test_the_client_and_the_server_know_nothing_of_each_other() -> None:
    """What training code installs needs none of the server; only HTTP lies between them."""
    for path in sorted((CHECKOUT / "client" / "src").rglob("*.py")):
        for name in imports(path):
            assert name.split(".")[0] not in {*ROOMS, "pydantic", "cryptography", "orjson"}, path
    for room in ROOMS:
        for module, path in modules(room):
            assert not any(name.split(".")[0] == "asof" for name in imports(path)), module


def test_ledger_modules_import_only_those_above() -> None:
    for module, path in modules("ledger"):
        if module == "ledger":
            continue
        own = layer_of(module)
        assert own is not None, f"{module} has no line in LAYERS"
        for name in imports(path):
            target = layer_of(name) if name.startswith("ledger.") else None
            assert target is None or target <= own, f"{module} may not import {name}"


def test_the_core_is_pure() -> None:
    for module, path in modules("ledger"):
        part = module.removeprefix("ledger.").split(".")[0]
        for name in imports(path) if part in PURE else ():
            target = name.split(".")[0]
            allowed = target not in IMPURE or (part, target) in EXCEPTIONS
            assert allowed, f"{module} is pure and may not import {name}"


def test_only_two_modules_know_eventsourcing() -> None:
    for room in ROOMS:
        for module, path in modules(room):
            if module.split(".")[:2] in (["ledger", "recorder"], ["ledger", "lifecycle"]):
                continue
            assert not any(name.split(".")[0] == "eventsourcing" for name in imports(path)), module


def test_sql_lives_in_files_and_shells_nowhere() -> None:
    for room in ROOMS:
        for module, path in modules(room):
            text = path.read_text(encoding="utf-8")
            assert "shell=True" not in text and "os.system(" not in text, f"{module} runs a shell"
            assert "import pickle" not in text, f"{module} unpickles"


def test_the_test_would_notice() -> None:
    """Negative control: the reader of imports sees each form of import."""
    sample = CHECKOUT / "tests" / "conftest.py"
    assert {"pytest", "pathlib.Path"} <= set(imports(sample))
    assert layer_of("ledger.errors") == 0 and layer_of("ledger.nowhere") is None
