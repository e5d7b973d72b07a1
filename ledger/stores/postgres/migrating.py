"""Preparing a database for ledgers: roles, schema, numbered migrations, logins.

::

    migrate("postgresql://postgres@localhost/audit", login="asof_app")

One at a time in a database (an advisory lock), each step in a transaction of its own together with
the note that it was applied; whoever dies in between, or comes second, finds what is left to do.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from ledger.errors import RefusedError
from ledger.store import Applied
from ledger.stores.migrations import Migration, load_migrations, pending
from ledger.stores.postgres.connecting import connect, shown
from ledger.stores.postgres.errors import translated
from ledger.stores.statements import load_statements

__all__ = ["LOGIN_ROLES", "Migrated", "migrate"]

SETUP = load_statements("postgres", "setup.sql")
LOGIN_ROLES: Final = ("writer", "reader", "auditor", "projector")
Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What was done, or would be. `password` is that of a login that was made now, told once."""

    place: str
    before: int
    steps: tuple[Migration, ...]
    login: str | None = None
    password: str | None = None


def migrate(
    url: str,
    *,
    login: str | None = None,
    roles: tuple[str, ...] = ("writer", "projector"),
    dry_run: bool = False,
) -> Migrated:
    """Bring a database to the newest schema, as an administrator; repeating it does no harm.

    `login` is a role to log in as: made with a new password where there is none, and made a member
    of the groups named. Raises: StoreError, RefusedError for one who may not do this, TamperError
    for a schema that others have changed.
    """
    place = shown(url)
    with closing(connect(url, "admin")) as connection, translated(place):
        if dry_run:
            before, steps = _left(connection, place)
            return Migrated(place=place, before=before, steps=tuple(steps), login=login)
        _check_may(connection, place)
        connection.execute(SETUP["lock"])
        connection.execute(SETUP["roles"])
        connection.execute(SETUP["schema"])
        before, steps = _left(connection, place)
        _apply(connection, before, steps)
        password = None if login is None else _grant_login(connection, login, roles)
        return Migrated(
            place=place, before=before, steps=tuple(steps), login=login, password=password
        )


def _left(connection: Connection, place: str) -> tuple[int, list[Migration]]:
    """The number of steps that were applied, and those that are left."""
    if connection.execute(SETUP["has_migrations"]).fetchone() != (True,):
        return 0, list(load_migrations("postgres"))
    applied = [Applied(*row) for row in connection.execute(SETUP["applied"]).fetchall()]
    return len(applied), pending(applied, load_migrations("postgres"), place)


def _apply(connection: Connection, before: int, steps: list[Migration]) -> None:
    if before == 0:
        with connection.transaction():
            connection.execute(SETUP["as_owner"])
            connection.execute(SETUP["migration_table"])
    for step in steps:
        with connection.transaction():
            connection.execute(SETUP["as_owner"])
            connection.execute(step.sql.encode())
            connection.execute(SETUP["note_migration"], step[:3])


def _grant_login(connection: Connection, login: str, roles: tuple[str, ...]) -> str | None:
    """Make the login where it is missing, and a member; its password, if it was made."""
    password = None
    if connection.execute(SETUP["has_role"], (login,)).fetchone() != (True,):
        password = secrets.token_urlsafe(24)
        _run_made(connection, "login", login, password)
    for role in roles:
        _run_made(connection, "grant", f"asof_{role}", login)
    return password


def _run_made(connection: Connection, name: str, *values: str) -> None:
    """A statement that takes no parameters is quoted by the server first, and then run."""
    made = connection.execute(SETUP[name], values).fetchone() or ("",)
    connection.execute(made[0].encode())


def _check_may(connection: Connection, place: str) -> None:
    if connection.execute(SETUP["may_create_roles"]).fetchone() != (True,):
        raise RefusedError(
            f"{place}: {connection.info.user} may not create roles; migrate as an administrator "
            "(--admin postgresql://postgres@…)"
        )
