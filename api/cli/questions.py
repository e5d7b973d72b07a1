"""Commands that ask: state, diff, history, log, show, lineage, impact. None of them writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.answers import (
    HISTORY_COLUMNS,
    LOG_COLUMNS,
    entry_lines,
    impact_lines,
    impact_rows,
    lineage_lines,
)
from api.cli.command import command
from api.cli.diff_view import DIFF_COLUMNS, diff_lines, diff_rows
from api.cli.options import (
    AssetVersionArgument,
    AtOption,
    BasisOption,
    FromOption,
    IndexArgument,
    KnownAtOption,
    OptionalPipelineOption,
    OptionalStageOption,
    PipelineOption,
    StageOption,
    ToOption,
)
from api.cli.output import Column
from api.cli.session import Session
from api.cli.state_view import STATE_COLUMNS, state_lines, state_rows
from api.hints import hinting
from ledger.errors import MalformedError, NotFoundError

__all__ = ["register"]

FOLLOW_SECONDS = 0.5

EDGE_COLUMNS = tuple(
    Column(name, lambda record, name=name: record.get(name))  # type: ignore[misc]
    for name in ("parent", "child", "run", "index")
)
IMPACT_COLUMNS = tuple(
    Column(name, lambda record, name=name: record.get(name))  # type: ignore[misc]
    for name in (
        "what",
        "asset_version",
        "pipeline",
        "stage",
        "slot",
        "run",
        "role",
        "percent",
        "shadow",
        "from",
        "to",
        "index",
    )
)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_state(app)
    _register_diff(app)
    _register_history(app)
    _register_log(app)
    _register_show(app)
    _register_lineage(app)
    _register_impact(app)


ReplayOption = Annotated[
    bool,
    typer.Option(
        "--replay",
        help="Fold the entries too, from the nearest snapshot on, and compare.",
    ),
]
ProofOption = Annotated[
    Path | None,
    typer.Option(
        "--proof",
        metavar="BUNDLE.zip",
        show_default=False,
        help="Replay every entry, compare, and write a bundle that a stranger can check.",
    ),
]


def _register_state(app: typer.Typer) -> None:
    @command(
        app,
        "state",
        examples=[
            "asof state --pipeline forecast --stage production",
            "asof state -p forecast -s production --at '2h ago' -o json",
        ],
        remote=True,
    )
    def state(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        at: AtOption = None,
        known_at: KnownAtOption = None,
        basis: BasisOption = None,
        replay: ReplayOption = False,
        proof: ProofOption = None,
    ) -> None:
        """What is bound, running and served, now or at any instant.

        The answer says on which entries it stands; --basis N gives the same answer again later.
        """
        from api.asking import state as asked

        found = asked(
            session.rooms,
            pipeline,
            stage,
            at=at,
            known_at=known_at,
            basis=basis,
            now=session.now,
            replay=replay,
            proof=proof,
        )
        answer = found.as_json()
        session.output.answer(
            answer,
            lines=lambda ink: state_lines(answer, ink),
            rows=state_rows(answer),
            columns=STATE_COLUMNS,
        )
        if replay and proof is None:
            session.say("replayed: the same digest")
        if proof is not None:
            session.say(f"replayed from {answer['basis']['tree_size']} entries: the same digest")
            session.say(f"wrote {proof}; check it with: asof verify {proof}")


def _register_diff(app: typer.Typer) -> None:
    @command(
        app,
        "diff",
        examples=[
            "asof diff -p forecast -s production --from tag:release-7 --to now",
            "asof diff -p forecast -s production --from index:41 --to index:57 -o json",
        ],
        remote=True,
    )
    def diff(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        start: Annotated[
            str,
            typer.Option(
                "--from", metavar="WHEN", show_default=False, help="The state to compare with."
            ),
        ],
        end: Annotated[
            str | None,
            typer.Option(
                "--to", metavar="WHEN", show_default=False, help="The other state (default: now)."
            ),
        ] = None,
        basis: BasisOption = None,
    ) -> None:
        """What changed between two states, field by field, and which entries did it."""
        from api.asking import diff as asked

        found = asked(
            session.rooms, pipeline, stage, start=start, end=end, basis=basis, now=session.now
        )
        answer = found.as_json()
        session.output.answer(
            answer,
            lines=lambda ink: diff_lines(answer, ink),
            rows=diff_rows(answer),
            columns=DIFF_COLUMNS,
        )


def _register_history(app: typer.Typer) -> None:
    @command(
        app,
        "history",
        examples=[
            "asof history -p forecast -s production",
            "asof history -p forecast -s production --slot model -o csv",
        ],
        remote=True,
    )
    def history(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        slot: Annotated[
            str | None,
            typer.Option("--slot", metavar="SLOT", show_default=False, help="Only this slot."),
        ] = None,
        at: AtOption = None,
        known_at: KnownAtOption = None,
        basis: BasisOption = None,
    ) -> None:
        """Every change of a pipeline, in the order in which it took effect, oldest first."""
        from api.asking import history as asked

        changes = asked(
            session.rooms,
            pipeline,
            stage,
            slot=slot,
            at=at,
            known_at=known_at,
            basis=basis,
            now=session.now,
        )
        session.output.records(
            (change.as_json() for change in changes), HISTORY_COLUMNS, empty="nothing changed yet"
        )


QueryArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="QUERY",
        show_default=False,
        help="The same in one text: 'actor:user:7 type:binding.* after:7d stream:run/*'.",
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        "--actor",
        "--by",
        metavar="ID",
        show_default=False,
        help="Only what this actor recorded.",
    ),
]
TypeOption = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        show_default=False,
        help="Only this type: binding.changed, 'binding.*', …",
    ),
]
LastOption = Annotated[
    int | None,
    typer.Option(
        "--last",
        "-n",
        metavar="N",
        min=1,
        show_default=False,
        help="Only the last N of them.",
    ),
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", "-f", show_default=False, help="Go on as entries are recorded."),
]


def _register_log(app: typer.Typer) -> None:
    @command(
        app,
        "log",
        examples=[
            "asof log --pipeline forecast --type 'binding.*' --from '7d ago'",
            "asof log 'type:binding.* stage:production after:7d' --follow",
        ],
        remote=True,
    )
    def log(
        session: Session,
        query: QueryArgument = None,
        pipeline: OptionalPipelineOption = None,
        stage: OptionalStageOption = None,
        by: ByOption = None,
        type: TypeOption = None,
        start: FromOption = None,
        end: ToOption = None,
        last: LastOption = None,
        follow: FollowOption = False,
    ) -> None:
        """The entries, oldest first, as the ledger recorded them."""
        if follow and session.output.form == "json":
            raise MalformedError("--follow has no end, so it cannot be one JSON text: use -o jsonl")
        words = {
            "pipeline": pipeline,
            "stage": stage,
            "actor": by,
            "type": type,
            "after": start,
            "before": end,
        }
        found, empty = _found(session, query or "", words, last=last, follow=follow)
        session.output.records(
            (record.as_json() for record in found), LOG_COLUMNS, empty=empty, live=follow
        )


def _found(
    session: Session,
    query: str,
    words: dict[str, str | None],
    *,
    last: int | None,
    follow: bool,
) -> tuple[Iterator[Any], str]:
    """The entries that pass query and options together, and what to say where there is none."""
    from projections.search import format_query, joined, parse_query

    text = joined(query, format_query(words))
    empty = f"no entry matches: {text}" if text else "no entry yet"
    empty += "\ntry: asof log --last 20"
    if session.remote is not None:
        return session.remote.log(text, last=last, follow=follow), empty
    from projections.log import log

    reader = session.rooms.reader
    wanted = parse_query(text, reader=reader, now=session.now)
    return log(reader, wanted, last=last, wait=_sleep if follow else None), empty


def _sleep() -> bool:
    """Look again in a moment, until somebody presses Ctrl-C."""
    time.sleep(FOLLOW_SECONDS)
    return True


def _register_show(app: typer.Typer) -> None:
    @command(app, "show", examples=["asof show 1204", "asof show 0 -o json"], remote=True)
    def show(
        session: Session,
        index: IndexArgument,
    ) -> None:
        """One entry: what it says, who recorded it, and its place in the chain."""
        with hinting(NotFoundError, "asof log --last 20"):
            record = session.rooms.reader.entry(index).as_json()
        session.output.answer(
            record, lines=lambda ink: entry_lines(record, ink), rows=[record], columns=LOG_COLUMNS
        )


UpOption = Annotated[
    bool, typer.Option("--up", show_default=False, help="Only what it was made from.")
]
DownOption = Annotated[
    bool, typer.Option("--down", show_default=False, help="Only what was made from it.")
]
DepthOption = Annotated[
    int, typer.Option("--depth", metavar="N", min=1, max=100, help="How many steps.")
]


def _register_lineage(app: typer.Typer) -> None:
    @command(
        app,
        "lineage",
        examples=[
            "asof lineage model/forecaster@7 --up --depth 3",
            "asof lineage dataset/orders@2026-11-20 --down --at tag:release-7",
        ],
        remote=True,
    )
    def lineage(
        session: Session,
        asset_version: AssetVersionArgument,
        up: UpOption = False,
        down: DownOption = False,
        depth: DepthOption = 1,
        at: AtOption = None,
        known_at: KnownAtOption = None,
        basis: BasisOption = None,
    ) -> None:
        """What an asset version was made from, and what was made from it, as of any instant."""
        from api.asking import lineage as asked

        found = asked(
            session.rooms,
            asset_version,
            up=up,
            down=down,
            depth=depth,
            at=at,
            known_at=known_at,
            basis=basis,
            now=session.now,
        )
        answer = found.as_json()
        session.output.answer(
            answer,
            lines=lambda ink: lineage_lines(answer, ink),
            rows=answer["edges"],
            columns=EDGE_COLUMNS,
        )


def _register_impact(app: typer.Typer) -> None:
    @command(
        app,
        "impact",
        examples=[
            "asof impact dataset/orders@2026-11-20",
            "asof impact code/forecast@4f2a91c -o json",
        ],
        remote=True,
    )
    def impact(
        session: Session,
        asset_version: AssetVersionArgument,
        at: AtOption = None,
        known_at: KnownAtOption = None,
        basis: BasisOption = None,
    ) -> None:
        """What was made from an asset version, where that was bound and served, and when."""
        from api.asking import impact as asked

        found = asked(
            session.rooms, asset_version, at=at, known_at=known_at, basis=basis, now=session.now
        )
        answer = found.as_json()
        session.output.answer(
            answer,
            lines=lambda ink: impact_lines(answer, ink),
            rows=impact_rows(answer),
            columns=IMPACT_COLUMNS,
        )
