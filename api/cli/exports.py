"""Commands that move a whole ledger, or much into it: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.command import command
from api.cli.session import Session
from api.cli.terminal import plain
from api.cli.words import count_text
from ledger.errors import MalformedError, NotFoundError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_export(app)
    _register_import(app)


def _register_export(app: typer.Typer) -> None:
    @command(
        app,
        "export",
        examples=["asof export --out public/", "asof export --out public/ && asof verify public/"],
    )
    def export(
        session: Session,
        out: Annotated[
            Path,
            typer.Option("--out", metavar="DIR", show_default=False, help="The folder to write."),
        ],
    ) -> None:
        """Write the whole ledger as files: to keep, to publish, to check, to read back.

        checkpoint and tile/ are those of C2SP tlog-tiles, so a web server over the folder is a
        public log; payloads/ holds what the entries say. A folder that holds an earlier export is
        brought up to date.
        """
        from ledger.export import export_folder

        reader = session.rooms.reader
        with session.progress("Exporting") as tell:
            entries = export_folder(reader, out, progress=tell)
        answer = {"folder": str(out), "ledger": reader.origin, "entries": entries}
        session.output.answer(
            answer,
            lines=lambda ink: [
                f"wrote {count_text(entries, 'entry', 'entries')} to {plain(str(out))}"
            ],
        )
        session.say(f"check it with: asof verify {out}")


def _register_import(app: typer.Typer) -> None:
    @command(
        app,
        "import",
        examples=[
            "asof import events.jsonl --actor service:backfill",
            "asof import public/ --store sqlite:///copy.db --vkey acme.vkey",
        ],
        writes=True,
    )
    def import_(
        session: Session,
        source: Annotated[
            Path,
            typer.Argument(
                metavar="WHAT", help="A file of JSON lines, or the folder of an export."
            ),
        ],
        vkey: Annotated[
            str | None,
            typer.Option(
                "--vkey",
                metavar="KEY",
                show_default=False,
                help="For an export: the key that you were given (default: the one inside).",
            ),
        ] = None,
    ) -> None:
        """Take in many events from a file, or make a ledger's file out of an export.

        A file is checked as a whole before anything is written, then recorded in batches; started
        again after an interruption it goes on where it was. An export becomes a copy, entry for
        entry, to read and to verify; it is verified before it appears.
        """
        if source.is_dir():
            _import_folder(session, source, vkey)
        elif vkey is not None:
            raise MalformedError("a file of events has no key", where="--vkey")
        elif source.is_file():
            _import_file(session, source)
        else:
            raise NotFoundError(f"there is no file and no folder {source}")


def _import_folder(session: Session, folder: Path, vkey: str | None) -> None:
    from api.main import keys_of
    from api.verification import vkey_of
    from ledger.export import import_folder
    from ledger.keys import VKEY_FILE
    from ledger.places import sqlite_path

    path = sqlite_path(session.settings.store)
    if vkey is None:
        session.say(f"the key was taken from {folder} itself: with --vkey you know whose it is")
    with session.progress("Importing") as tell:
        entries = import_folder(
            folder,
            path,
            vkey=vkey_of(vkey or str(folder / VKEY_FILE)),
            keys=keys_of(session.settings),
            progress=tell,
        )
    answer = {"store": session.settings.store, "entries": entries}
    session.output.answer(
        answer,
        lines=lambda ink: [f"{plain(str(path))} holds {count_text(entries, 'entry', 'entries')}"],
    )
    session.suggest("asof verify")


def _import_file(session: Session, path: Path) -> None:
    from api.importing import import_events

    with session.progress("Importing") as tell:
        done = import_events(
            session.rooms.writer, path, actor=session.actor, now=session.now, progress=tell
        )
    answer = {
        "entries": done.entries,
        "repeated": done.repeated,
        "first_index": done.first_index,
        "tree_size": done.tree_size,
    }
    again = f" ({done.repeated:,} were there already)" if done.repeated else ""
    session.output.answer(
        answer,
        lines=lambda ink: [f"recorded {count_text(done.entries, 'entry', 'entries')}{again}"],
    )
