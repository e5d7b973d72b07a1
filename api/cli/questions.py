"""Commands that ask: state, diff, log, show, history, lineage, impact. None of them writes to the
ledger.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.answers import LOG_COLUMNS, entry_lines
from api.cli.command import command
from api.cli.options import (
    AtOption,
    BasisOption,
    KnownAtOption,
    PipelineOption,
    StageOption,
)
from api.cli.session import Session
from api.cli.state_view import STATE_COLUMNS, state_lines, state_rows

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_state(app)
    _register_show(app)


def _register_state(app: typer.Typer) -> None:
    @command(
        app,
        "state",
        examples=[
            "asof state --pipeline forecast --stage production",
            "asof state -p forecast -s production --at '2h ago' -o json",
        ],
    )
    def state(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        at: AtOption = None,
        known_at: KnownAtOption = None,
        basis: BasisOption = None,
        proof: Annotated[
            Path | None,
            typer.Option(
                "--proof",
                metavar="BUNDLE.zip",
                show_default=False,
                help="Replay every entry, compare, and write a bundle that a stranger can check.",
            ),
        ] = None,
    ) -> None:
        """What is bound, running and served, now or at any instant.

        The answer says on which entries it stands; --basis N gives the same answer again later.
        """
        rooms = session.rooms
        found = rooms.state(
            pipeline,
            stage,
            at=rooms.moment(at, now=session.now),
            known_at=rooms.moment(known_at, now=session.now, known=True),
            basis=basis,
            now=session.now,
        )
        answer = found.as_json()
        session.output.answer(
            answer,
            lines=lambda ink: state_lines(answer, ink),
            rows=state_rows(answer),
            columns=STATE_COLUMNS,
        )


def _register_show(app: typer.Typer) -> None:
    @command(app, "show", examples=["asof show 1204", "asof show 0 -o json"])
    def show(
        session: Session,
        index: Annotated[int, typer.Argument(metavar="INDEX", help="The entry, counted from 0.")],
    ) -> None:
        """One entry: what it says, who recorded it, and its place in the chain."""
        record = session.rooms.reader.entry(index).as_json()
        session.output.answer(
            record, lines=lambda ink: entry_lines(record, ink), rows=[record], columns=LOG_COLUMNS
        )
