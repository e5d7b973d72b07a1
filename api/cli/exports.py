"""Commands that move a whole ledger, or much into it: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.command import command
from api.cli.importing import import_file, refuse_options
from api.cli.session import Session
from api.cli.terminal import plain
from api.cli.words import count_text
from api.hints import hinted
from ledger.errors import MalformedError

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


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        show_default=False,
        help="A file of JSON lines or CSV, - (the standard input), or an export's folder.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="jsonl|csv",
        show_default=False,
        help="What the file is (default: csv for a name that ends so, else jsonl).",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only check; write nothing.")]
SkipBadOption = Annotated[
    Path | None,
    typer.Option(
        "--skip-bad",
        metavar="FILE",
        show_default=False,
        help="Record what is good, and write the refused lines there (the reasons to "
        "FILE.reasons). Default: one bad line, and nothing is recorded.",
    ),
]
VkeyOption = Annotated[
    str | None,
    typer.Option(
        "--vkey",
        metavar="KEY",
        show_default=False,
        help="For an export: the key that you were given (default: the one inside).",
    ),
]


def _register_import(app: typer.Typer) -> None:
    @command(
        app,
        "import",
        examples=[
            "zcat history.jsonl.gz | asof import - --skip-bad refused.jsonl",
            "asof import public/ --store sqlite:///copy.db --vkey acme.vkey",
        ],
        writes=True,
    )
    def import_(
        session: Session,
        source: SourceArgument,
        format: FormatOption = None,
        dry_run: DryRunOption = False,
        skip_bad: SkipBadOption = None,
        vkey: VkeyOption = None,
    ) -> None:
        """Take in history from elsewhere, or make a ledger's file out of an export.

        Events keep their own times as effective_at; recorded_at is now. A file is checked as a
        whole, then recorded in batches; the same command again, after an interruption or by
        mistake, repeats nothing. docs/importing.md has the forms.

        An export becomes a copy, entry for entry, to read and to verify; it is verified before it
        appears.
        """
        if Path(source).is_dir():
            refuse_options("a folder", format=format, dry_run=dry_run, skip_bad=skip_bad)
            _import_folder(session, Path(source), vkey)
            return
        refuse_options("a file of events", vkey=vkey)
        if dry_run:
            refuse_options("--dry-run", skip_bad=skip_bad)
        import_file(session, source, form=format, dry_run=dry_run, skip_bad=skip_bad)


def _import_folder(session: Session, folder: Path, vkey: str | None) -> None:
    from api.main import keys_of
    from api.verification import vkey_of
    from ledger.export import import_folder
    from ledger.keys import VKEY_FILE
    from ledger.places import FilePlace, place_of

    place = place_of(session.settings.store)
    if not isinstance(place, FilePlace):
        raise hinted(
            MalformedError("an export becomes a file of its own: name a new one", where="--store"),
            f"asof import {folder} --store sqlite:///copy.db",
        )
    path = place.path
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
