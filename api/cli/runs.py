"""Commands about what happened: run start, run finish, note, tag."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.appending import ReceiptOption, append_one, common_fields
from api.cli.command import command, group, new_app
from api.cli.options import (
    MOST_ENTRIES,
    EffectiveAtOption,
    KeyOption,
    PipelineOption,
    ReasonOption,
    StageOption,
    words_of,
)
from api.cli.session import Session
from api.hints import hinted
from ledger.errors import NotFoundError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_runs(app)
    _register_note(app)
    _register_tag(app)


def _register_runs(app: typer.Typer) -> None:
    run = new_app(
        "run",
        "Record executions: a training, an evaluation, a batch, a service period.",
        examples=[
            "asof run start train-42 -p forecast -s staging --kind training",
            "asof run finish train-42 --status succeeded --metric mae=11.8",
        ],
    )
    group(run)
    app.add_typer(run, name="run")
    _register_start(run)
    _register_finish(run)


NameArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, new and yours to choose.")
]
KindOption = Annotated[
    str,
    typer.Option("--kind", metavar="KIND", help="training, evaluation, inference, service, …"),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="ASSET_VERSION",
        show_default=False,
        help="What it reads (default: all that is bound).",
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="KEY=VALUE", show_default=False, help="A parameter of the run."
    ),
]


def _register_start(run: typer.Typer) -> None:
    @command(
        run,
        "start",
        examples=[
            "asof run start train-42 -p forecast -s staging --input dataset/orders@2026-11-20",
            "asof run start batch-7 -p forecast -s production --kind inference --param horizon=14",
        ],
        writes=True,
        remote=True,
    )
    def start(
        session: Session,
        name: NameArgument,
        pipeline: PipelineOption,
        stage: StageOption,
        kind: KindOption = "training",
        input: InputOption = None,
        param: ParamOption = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Record that a run begins, with the state that it runs on."""
        from api.binding import current_state

        state = current_state(session.rooms, pipeline, stage, now=session.now)
        inputs = input or sorted({held["asset_version"] for held in state["bindings"].values()})
        data = {
            "run": name,
            "kind": kind,
            "pipeline": pipeline,
            "stage": stage,
            "inputs": inputs,
            "params": {key: _value(text) for key, text in words_of(param, "--param").items()},
            **common_fields(reason, effective_at),
        }
        if state["state_digest"]:
            data["state_digest"] = state["state_digest"]
        append_one(
            session, "run.started/1", data, key=idempotency_key, receipt=receipt, expected_version=0
        )


StatusOption = Annotated[
    str, typer.Option("--status", metavar="STATUS", help="succeeded, failed or stopped.")
]
MadeOption = Annotated[
    list[str] | None,
    typer.Option("--made", metavar="ASSET_VERSION", show_default=False, help="What it made."),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME=NUMBER",
        show_default=False,
        help="A figure that it measured.",
    ),
]


def _register_finish(run: typer.Typer) -> None:
    @command(
        run,
        "finish",
        examples=[
            "asof run finish train-42 --made model/forecaster@7 --metric mae=11.8 --metric r2=0.91",
            "asof run finish batch-7 --status failed --reason 'out of memory'",
        ],
        writes=True,
        remote=True,
    )
    def finish(
        session: Session,
        name: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
        status: StatusOption = "succeeded",
        made: MadeOption = None,
        metric: MetricOption = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Record that a run ended, what it made and what it measured."""
        if session.rooms.reader.stream_version(f"run/{name}") == 0:
            raise hinted(
                NotFoundError(f"there is no run {name!r} in this ledger"),
                f"asof run start {name} --pipeline NAME --stage NAME",
            )
        data = {
            "status": status,
            "outputs": made or [],
            "metrics": {key: _value(text) for key, text in words_of(metric, "--metric").items()},
            **common_fields(reason, effective_at),
        }
        append_one(
            session,
            "run.finished/1",
            data,
            stream=f"run/{name}",
            key=idempotency_key,
            receipt=receipt,
        )


def _register_note(app: typer.Typer) -> None:
    @command(
        app,
        "note",
        examples=[
            "asof note 'Approved by the change board.' --topic release",
            "asof note 'Orders of 3 May were late.' --about 41 --about 42",
        ],
        writes=True,
        remote=True,
    )
    def note(
        session: Session,
        text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember.")],
        topic: Annotated[
            str, typer.Option("--topic", metavar="NAME", help="The notes' stream.")
        ] = "general",
        about: Annotated[
            list[str] | None,
            typer.Option(
                "--about",
                metavar="WHAT",
                show_default=False,
                help="What it is about: an asset version, an entry, a run.",
            ),
        ] = None,
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Add a note in plain words."""
        data: dict[str, Any] = {"text": text, "about": about or []}
        append_one(
            session,
            "note.added/1",
            data,
            stream=f"note/{topic}",
            key=idempotency_key,
            receipt=receipt,
        )


TagNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The tag; use it as --at tag:NAME.")
]
IndexOption = Annotated[
    int | None,
    typer.Option(
        "--index",
        metavar="N",
        min=0,
        max=MOST_ENTRIES,
        show_default=False,
        help="The entry it names (default: the last one).",
    ),
]


def _register_tag(app: typer.Typer) -> None:
    @command(
        app,
        "tag",
        examples=["asof tag release-7", "asof tag before-migration --index 1204"],
        writes=True,
        remote=True,
    )
    def tag(
        session: Session,
        name: TagNameArgument,
        index: IndexOption = None,
        reason: ReasonOption = None,
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Give a place in the ledger a name; setting it again moves it."""
        size = session.rooms.reader.size()
        place = size - 1 if index is None else index
        if not 0 <= place < size:
            raise hinted(
                NotFoundError(f"there is no entry {place}: the ledger has {size}, counted from 0"),
                "asof log --last 20",
            )
        data = {"tag": name, "index": place, **common_fields(reason, None)}
        append_one(
            session,
            "tag.set/1",
            data,
            key=idempotency_key,
            receipt=receipt,
            sentence=f"tag:{name} is entry {place}",
        )


def _value(text: str) -> Any:
    """A number where it reads as one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
