"""What is asked of a server before a ledger is kept in it; durability is checked, not hoped for.

1. The version is 15 or newer, and the server takes writes.
2. `fsync` and `full_page_writes` are on, data checksums are there, `synchronous_commit` is `on` or
   `remote_apply`: with less, acknowledged entries are lost with the power.
3. The session's role can append, and nothing that a program of a ledger does not need: not change
   or remove what is recorded, nor become a role that can.
4. The migrations applied are those that this program knows, text by text.
5. The schema consists of what the migrations made: a trigger that was dropped or switched off, a
   right that was granted, are found here.

docs/spec/store.md, rules 24 to 28.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final

import psycopg

from ledger.errors import NotPreparedError, RefusedError, StoreError, TamperError
from ledger.store import Applied
from ledger.stores.migrations import load_migrations, pending
from ledger.stores.statements import load_statements

__all__ = [
    "WITHOUT_CHECKSUMS",
    "check_migrations",
    "check_role",
    "check_schema",
    "check_server",
    "schema_lines",
]

SQL = load_statements("postgres")
SETUP = load_statements("postgres", "setup.sql")
OLDEST: Final = 150_000
WITHOUT_CHECKSUMS: Final = "ASOF_PG_WITHOUT_CHECKSUMS"
Notice = Callable[[str], None]
Connection = psycopg.Connection[Any]


def check_server(connection: Connection, place: str, *, checksums: bool, notice: Notice) -> None:
    """Rules 1 and 2. `checksums=False` makes the lack of checksums a notice. Raises: StoreError."""
    found = connection.execute(SQL["server"]).fetchone() or (0,) * 7
    number, name, fsync, full_pages, page_checksums, commit, standby = found
    if number < OLDEST:
        raise StoreError(f"{place} runs PostgreSQL {name}; asof needs 15 or newer")
    if standby:
        raise StoreError(f"{place} is a standby: connect to the primary to append")
    for setting, value in (("fsync", fsync), ("full_page_writes", full_pages)):
        if value != "on":
            raise StoreError(
                f"{place}: {setting} is {value}, so a power loss takes acknowledged entries with "
                f"it: set {setting} = on"
            )
    if commit not in ("on", "remote_apply"):
        raise StoreError(
            f"{place}: synchronous_commit is {commit}, so commits are answered before they are "
            "durable: set it to on, for the server, the database and this role"
        )
    if page_checksums != "on":
        words = (
            f"{place}: data checksums are off, so the server does not notice a damaged page "
            "(pg_checksums --enable, while it is stopped)"
        )
        if checksums:
            raise StoreError(f"{words}; to go on without them: {WITHOUT_CHECKSUMS}=1")
        notice(words)


def check_role(connection: Connection, place: str) -> None:
    """Rule 3. Raises: RefusedError."""
    user = connection.info.user
    reasons = [reason for (reason,) in connection.execute(SQL["role"]).fetchall()]
    if reasons:
        raise RefusedError(
            f"{place}: the role {user} can do more than a ledger needs: {'; '.join(reasons)}. "
            "Log in as a role that is a member of asof_writer and of little else: "
            "`asof migrate --login NAME` makes one"
        )
    if connection.execute(SQL["may_append"]).fetchone() != (True,):
        raise RefusedError(
            f"{place}: the role {user} may not append: `asof migrate --login {user}` makes it a "
            "member of asof_writer"
        )


def check_migrations(connection: Connection, place: str) -> None:
    """Rule 4. Raises: NotPreparedError, StoreError, TamperError."""
    if connection.execute(SETUP["has_migrations"]).fetchone() != (True,):
        raise NotPreparedError(f"{place} is not prepared for ledgers: run `asof migrate`")
    applied = [Applied(*row) for row in connection.execute(SETUP["applied"]).fetchall()]
    missing = pending(applied, load_migrations("postgres"), place)
    if missing:
        names = ", ".join(f"{step.number:04} {step.name}" for step in missing)
        raise StoreError(f"{place} lacks the migrations {names}: run `asof migrate`")


def check_schema(connection: Connection, place: str) -> None:
    """Rule 5. Raises: TamperError."""
    differing = sorted(set(schema_lines(connection)) ^ _expected_lines())
    if differing:
        raise TamperError(
            f"{place}: the schema is not what the migrations made: {'; '.join(differing[:5])}"
        )


def schema_lines(connection: Connection) -> list[str]:
    """What the schema consists of, a line each; the same on every version of the server."""
    return [line for (line,) in connection.execute(SETUP["schema_lines"], ()).fetchall()]


@cache
def _expected_lines() -> frozenset[str]:
    text = files("ledger.stores").joinpath("sql", "postgres", "schema.txt").read_text("utf-8")
    return frozenset(text.splitlines())
