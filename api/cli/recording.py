"""Commands that begin a ledger and record into it: init, record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.appending import ReceiptOption, append
from api.cli.command import command
from api.cli.options import KeyOption
from api.cli.output import pairs
from api.cli.session import Session
from api.cli.terminal import Ink
from api.hints import hinted
from ledger.errors import MalformedError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_init(app)
    _register_record(app)


def _register_init(app: typer.Typer) -> None:
    @command(
        app,
        "init",
        examples=["asof init", "asof init --origin ledger.example.com/acme"],
        writes=True,
    )
    def init(
        session: Session,
        origin: Annotated[
            str | None,
            typer.Option(
                "--origin",
                metavar="NAME",
                show_default=False,
                help="The ledger's name for ever: an address without https://, such as "
                "ledger.example.com/acme. Default: a random one.",
            ),
        ] = None,
    ) -> None:
        """Make a ledger and its signing key, and print the key that verifies it.

        The public key (vkey) is what others check the ledger with: give it to your auditor now,
        before there is anything to hide. The private key stays in asof.keys beside the store.
        """
        from api.main import create

        created = create(session.settings, origin=origin, actor=session.actor, notice=session.say)
        session.output.answer(created, lines=lambda ink: _init_lines(created, ink))
        session.suggest("asof capture git . --pipeline NAME --stage production --slot code")


def _init_lines(created: dict[str, Any], ink: Ink) -> Iterator[str]:
    rows = [
        ("ledger", created["origin"]),
        ("store", created["store"]),
        ("key", created["keys"]),
        ("vkey", created["vkey"]),
    ]
    yield from pairs(rows, ink)


def _register_record(app: typer.Typer) -> None:
    @command(
        app,
        "record",
        examples=[
            """echo '{"type":"note.added/1","stream":"note/a","data":{"text":"b"}}'|asof record""",
            "asof record events.jsonl --idempotency-key nightly-2026-11-21",
        ],
        writes=True,
        remote=True,
    )
    def record(
        session: Session,
        file: Annotated[
            str,
            typer.Argument(
                metavar="FILE", help="One JSON event, or JSON lines; - is the standard input."
            ),
        ] = "-",
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Record one event, or JSON lines as one batch: all or none.

        An event is {"type", "stream", "data"} and, if you like, "expected_version" (the version of
        the stream before it; 0 = new) and "effective_at" (a time with offset).
        """
        from ledger.events import parse_drafts

        drafts = parse_drafts(_read(file), session.actor, session.now)
        append(session, drafts, key=idempotency_key, receipt=receipt)


def _read(file: str) -> bytes:
    """The bytes of a file or of the standard input, which must not be a waiting terminal."""
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin.isatty():
        raise hinted(
            MalformedError("nothing to record: no FILE, and the standard input is a terminal"),
            "asof record events.jsonl",
        )
    return sys.stdin.buffer.read()
