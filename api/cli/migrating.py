"""`asof migrate`: prepare a database for ledgers, or bring what is there to the newest schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from api.cli.command import command
from api.cli.session import Session
from api.cli.terminal import Ink, plain

__all__ = ["register"]

_EXAMPLES = [
    "asof migrate --admin postgresql://postgres@localhost/audit --login asof_app",
    "asof migrate --dry-run --store sqlite:///asof.db",
]


AdminOption = Annotated[
    str | None,
    typer.Option(
        "--admin",
        metavar="URL",
        show_default=False,
        help="For PostgreSQL: the database, as a role that may create roles.",
    ),
]
LoginOption = Annotated[
    str | None,
    typer.Option(
        "--login",
        metavar="ROLE",
        show_default=False,
        help="A role to log in as: made where it is missing, allowed to append and to "
        "project, and nothing else.",
    ),
]
ReadsOnlyOption = Annotated[
    bool,
    typer.Option("--read-only", help="The login may read and nothing else."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]


def register(app: typer.Typer) -> None:
    """Add this command to the app."""

    @command(app, "migrate", examples=_EXAMPLES)
    def migrate(
        session: Session,
        admin: AdminOption = None,
        login: LoginOption = None,
        reads_only: ReadsOnlyOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        """Prepare a PostgreSQL database for ledgers, or bring a store to the newest schema.

        Makes the roles asof_owner (logs in never), asof_writer, asof_reader, asof_auditor and
        asof_projector, the schemas asof and asof_projections, and applies the numbered migrations
        that are lacking, each in a transaction. Repeating it, also at the same time, does no harm.
        Entries are never touched; a ledger tells of each migration in an entry of its own.
        """
        from api.migrating import migrate

        done = migrate(
            session.settings, admin=admin, login=login, reads_only=reads_only, dry_run=dry_run
        )
        session.output.answer(done, lines=lambda ink: _lines(done, ink))
        if done["password"]:
            session.say("the password is shown once: keep it in ~/.pgpass or PGPASSWORD")
        if done["login"] and not dry_run:
            session.say(f"next: ASOF_STORE={plain(done['store'])} asof init")


def _lines(done: dict[str, Any], ink: Ink) -> Iterator[str]:
    verb = "would apply" if done["dry_run"] else "applied"
    for name in done["migrations"]:
        yield f"{verb} {plain(name)}"
    if not done["migrations"]:
        yield f"{plain(done['store'])} has the newest schema ({done['schema']})"
    if done["password"]:
        yield f"made the role {plain(done['login'])}, password {done['password']}"
    elif done["login"] and not done["dry_run"]:
        yield f"{plain(done['login'])} is a member of {', '.join(done['roles'])}"
