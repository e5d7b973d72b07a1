"""What `asof migrate` does, for the place that the settings or an administrator's URL name."""

from __future__ import annotations

from typing import Any

from api.hints import hinted
from api.main import store_of
from api.settings import Settings
from api.urls import as_user
from ledger.errors import MalformedError
from ledger.places import DatabasePlace, FilePlace, place_of

__all__ = ["migrate"]


def migrate(
    settings: Settings, *, admin: str | None, login: str | None, reads_only: bool, dry_run: bool
) -> dict[str, Any]:
    """Migrate, and say what was done. Raises: MalformedError, StoreError, RefusedError."""
    place = store_of(settings) if admin is None else place_of(admin)
    if isinstance(place, FilePlace):
        if login is not None or admin is not None:
            raise hinted(
                MalformedError("a SQLite file knows no logins", where="--login"),
                "asof migrate, or --admin postgresql://postgres@localhost/audit",
            )
        return _migrate_file(place, dry_run=dry_run)
    roles = ("reader",) if reads_only else ("writer", "projector")
    return _migrate_database(place, login, roles, dry_run=dry_run)


def _migrate_file(place: FilePlace, *, dry_run: bool) -> dict[str, Any]:
    from ledger.stores.sqlite import SCHEMA_VERSION, SqliteStore

    steps = SqliteStore.migrate(place.path, dry_run=dry_run)
    return _told(place.url, SCHEMA_VERSION, steps, dry_run=dry_run)


def _migrate_database(
    place: DatabasePlace, login: str | None, roles: tuple[str, ...], *, dry_run: bool
) -> dict[str, Any]:
    from ledger.stores.postgres import migrate

    done = migrate(place.given, login=login, roles=roles, dry_run=dry_run)
    schema = done.before + len(done.steps)
    told = _told(place.url, schema, done.steps, dry_run=dry_run)
    if login is not None:
        told |= {"store": as_user(place.given, login), "login": login}
        told |= {"password": done.password, "roles": [f"asof_{role}" for role in roles]}
    return told


def _told(store: str, schema: int, steps: Any, *, dry_run: bool) -> dict[str, Any]:
    return {
        "store": store,
        "schema": schema,
        "migrations": [f"{step.number:04}_{step.name}" for step in steps],
        "dry_run": dry_run,
        "login": None,
        "password": None,
        "roles": [],
    }
