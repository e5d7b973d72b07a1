"""Commands that keep house: keys show, path, public; ledger recover."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from api.cli.command import command, group, new_app
from api.cli.options import YesOption
from api.cli.output import pairs
from api.cli.session import Session
from api.cli.terminal import Ink
from api.cli.words import time_text

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_keys(app)
    _register_ledger(app)


def _register_keys(app: typer.Typer) -> None:
    keys = new_app(
        "keys",
        "The ledger's signing key: what it is, where it lies, what to give to others.",
        examples=["asof keys show", "asof keys public > acme.vkey"],
    )
    group(keys)
    app.add_typer(keys, name="keys")

    @command(keys, "show", examples=["asof keys show", "asof keys show -o json"])
    def show(session: Session) -> None:
        """The key's name, its public half, and how far the rollback guard saw the ledger."""
        from api.main import describe_keys

        found = describe_keys(session.settings)
        session.output.answer(found, lines=lambda ink: _key_lines(found, ink))

    @command(keys, "path", examples=["asof keys path", 'cp -a "$(asof keys path)" /media/backup/'])
    def path(session: Session) -> None:
        """The folder in which the key lies."""
        from api.main import keys_of

        session.output.text(f"{keys_of(session.settings).absolute()}\n")

    @command(
        keys,
        "public",
        examples=[
            "asof keys public > acme.vkey",
            'asof verify claim.zip --vkey "$(asof keys public)"',
        ],
    )
    def public(session: Session) -> None:
        """The public key (vkey), in one line: give it to everybody who shall verify."""
        from api.main import describe_keys

        session.output.text(f"{describe_keys(session.settings)['vkey']}\n")


def _key_lines(found: dict[str, Any], ink: Ink) -> Iterator[str]:
    guard = found["guard"]
    rows = [
        ("ledger", found["origin"]),
        ("vkey", found["vkey"]),
        ("algorithm", found["algorithm"]),
        ("folder", found["folder"]),
        ("can sign", "yes" if found["can_sign"] else "no: here one can read and verify"),
        ("guard", "none" if guard is None else f"saw {guard['tree_size']} entries"),
    ]
    yield from pairs(rows, ink)


WhyOption = Annotated[
    str,
    typer.Option(
        "--why",
        metavar="TEXT",
        show_default=False,
        help="What happened. It becomes part of the ledger.",
    ),
]


def _register_ledger(app: typer.Typer) -> None:
    ledger = new_app(
        "ledger",
        "The ledger as a whole, when something happened to its files.",
        examples=[
            "asof ledger recover --why 'restored the backup of 2026-11-20 after a disk failure'",
            "asof ledger recover --why 'the guard file was lost with the old laptop' --yes",
        ],
    )
    group(ledger)
    app.add_typer(ledger, name="ledger")

    @command(
        ledger,
        "recover",
        examples=[
            "asof ledger recover --why 'restored the backup of 2026-11-20 after a disk failure'",
            "asof ledger recover --why 'the guard file was lost with the old laptop' --yes",
        ],
        writes=True,
    )
    def recover(
        session: Session,
        why: WhyOption,
        yes: YesOption = False,
    ) -> None:
        """Go on from a store that is behind its rollback guard, such as a restored backup.

        The ledger says so for ever (epoch.started). What was signed and is missing stays missing;
        whoever holds a receipt for it can still show that. Anything else that is wrong is refused.
        """
        from api.main import keys_of, store_of
        from ledger.opening import recover as recovered

        question = "What was signed and is not in this store will stay missing. Go on?"
        if not session.confirm(question, yes=yes):
            session.say("nothing was done")
            raise typer.Exit(130)
        appended = recovered(
            store_of(session.settings, session.say),
            why=why,
            actor=session.actor,
            keys=keys_of(session.settings),
        )
        answer = {
            "index": appended.first_index,
            "recorded_at": time_text(appended.recorded_at, exact=True),
            "tree_size": appended.tree_size,
        }
        session.output.answer(
            answer,
            lines=lambda ink: [
                f"a new epoch begins with entry {appended.first_index}, recorded "
                f"{time_text(appended.recorded_at)}"
            ],
        )
        session.suggest("asof verify")
