"""What an audit has the server compare: indexes with their tables, streams with their names.

::

    with connection.transaction():
        complaints = deep_complaints(connection, ledger)      # [] where all of it agrees

An index is what finds the newest version of a stream, and its number: where one is damaged, the
next append goes astray while every row is as it was. So each is read by itself, without its table,
and the table without it. All of it is read as of one moment, for others append meanwhile.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from ledger.stores.statements import load_statements

__all__ = ["deep_complaints"]

SQL = load_statements("postgres")
INDEXES: Final = {
    "versions": "the index over streams and versions",
    "names": "the index over names of streams",
    "numbers": "the index over numbers of streams",
}
Connection = psycopg.Connection[Any]


def deep_complaints(connection: Connection, ledger: int) -> list[str]:
    """A line each. Begins a transaction's questions, and reads everything: about a second a
    million entries. Raises psycopg.Error.
    """
    connection.execute(SQL["one_moment"])
    connection.execute(SQL["patience"])
    by_table, by_index = (digests(connection, ledger, by) for by in ("table", "index"))
    connection.execute(SQL["by_any"])
    lines = [
        f"{words} holds other rows than the table"
        for name, words in INDEXES.items()
        if by_table[name] != by_index[name]
    ]
    asked = connection.execute(SQL["misnamed_streams"], {"ledger": ledger})
    return [*lines, *(str(line) for (line,) in asked.fetchall())]


def digests(connection: Connection, ledger: int, by: str) -> dict[str, Any]:
    """Number and sum of what each index is about, read by the "table" or by the "index"."""
    connection.execute(SQL["by_any"])
    connection.execute(SQL[f"by_{by}"])
    return {
        name: connection.execute(SQL[f"{name}_by_{by}"], (ledger,)).fetchone() for name in INDEXES
    }
