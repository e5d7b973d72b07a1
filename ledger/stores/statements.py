"""SQL by name, read from the `.sql` files that lie under `stores/sql/<dialect>/`.

::

    -- name: stream_version
    SELECT coalesce(max(version), 0) FROM entry WHERE stream = ?;
"""

from __future__ import annotations

from importlib.resources import files

__all__ = ["load_statements"]

MARK = "-- name: "


def load_statements(dialect: str, file: str = "queries.sql") -> dict[str, str]:
    """The statements of a file by name, without comments and the closing semicolon."""
    parts = _read(dialect, file).split(MARK)[1:]
    return {name: _statement(body) for name, _, body in (part.partition("\n") for part in parts)}


def _read(dialect: str, name: str) -> str:
    return files("ledger.stores").joinpath("sql", dialect, name).read_text("utf-8")


def _statement(body: str) -> str:
    lines = [line for line in body.splitlines() if line and not line.startswith("--")]
    return "\n".join(lines).rstrip().removesuffix(";")
