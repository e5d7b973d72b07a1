"""Commands that append: init, record, capture, bind, unbind, run start and finish, traffic, note,
tag.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.command import command, group, new_app
from api.cli.options import (
    MOST_ENTRIES,
    AssetVersionArgument,
    EffectiveAtOption,
    KeyOption,
    PipelineOption,
    ReasonOption,
    SlotOption,
    StageOption,
    words_of,
)
from api.cli.output import pairs
from api.cli.session import Session
from api.cli.terminal import Ink, plain
from api.cli.words import time_text
from api.hints import hinted
from ledger.errors import MalformedError, NotFoundError

if TYPE_CHECKING:
    from ledger.draft import Draft
    from ledger.writer import Appended

__all__ = ["register"]

_RECEIPTS = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        metavar="FILE",
        show_default=False,
        help="Keep the receipts there, one a line: proof for yourself that it was recorded.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_init(app)
    _register_record(app)
    _register_bindings(app)
    _register_runs(app)
    _register_remarks(app)


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
                "ledger.example.com/acme. Default: made from this folder's name.",
            ),
        ] = None,
    ) -> None:
        """Make a ledger and its signing key, and print the key that verifies it.

        The public key (vkey) is what others check the ledger with: give it to your auditor now,
        before there is anything to hide. The private key stays in asof.keys beside the store.
        """
        from api.main import create

        created = create(session.settings, origin=origin, actor=session.actor)
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
        receipt: _RECEIPTS = None,
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


def _register_bindings(app: typer.Typer) -> None:
    @command(
        app,
        "capture",
        examples=[
            "asof capture git . -p forecast -s production --slot code",
            "asof capture files data/orders.csv -p forecast -s production --slot data/orders",
        ],
        writes=True,
    )
    def capture(
        session: Session,
        system: Annotated[str, typer.Argument(metavar="SYSTEM", help="git, files or environment.")],
        target: Annotated[
            str, typer.Argument(metavar="TARGET", help="What to look at: a folder, a file, …")
        ],
        pipeline: PipelineOption,
        stage: StageOption,
        slot: SlotOption,
        kind: Annotated[
            str | None,
            typer.Option(
                "--kind",
                metavar="KIND",
                show_default=False,
                help="What it is: dataset, model, code, config, … (default: what the system says).",
            ),
        ] = None,
        name: Annotated[
            str | None,
            typer.Option(
                "--name",
                metavar="NAME",
                show_default=False,
                help="The asset's name (default: what the system says).",
            ),
        ] = None,
        version: Annotated[
            str | None,
            typer.Option(
                "--version",
                metavar="VERSION",
                show_default=False,
                help="The asset's version (default: what the system says, or its digest).",
            ),
        ] = None,
        meta: Annotated[
            list[str] | None,
            typer.Option(
                "--meta",
                metavar="KEY=VALUE",
                show_default=False,
                help="A fact to keep with the version.",
            ),
        ] = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        receipt: _RECEIPTS = None,
    ) -> None:
        """Look at a system, record the version that is there, and bind it to a slot.

        Both entries are one batch. What is captured can be restored later, byte for byte, where the
        system allows it. Doing it twice changes nothing: 'unchanged' is said.
        """
        from api.binding import capture as captured_drafts

        metadata = words_of(meta, "--meta")
        seen = session.rooms.observe(system, target, kind=kind, name=name)
        recorded = seen.as_event_data()
        recorded["metadata"] = {**recorded["metadata"], **metadata}
        binding = captured_drafts(
            session.rooms,
            {**recorded, "version": version} if version else recorded,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=_common(reason, effective_at),
            actor=session.actor,
            now=session.now,
        )
        if not binding.drafts:
            _unchanged(session, slot, binding.asset_version)
            return
        append(
            session,
            binding.drafts,
            key=binding.key,
            receipt=receipt,
            sentence=f"{slot} is now {binding.asset_version}",
        )

    @command(
        app,
        "bind",
        examples=[
            "asof bind model/forecaster@7 -p forecast -s production --slot model --reason reviewed",
            "asof bind dataset/orders@2026-11-20 -p forecast -s staging --slot data/orders",
        ],
        writes=True,
    )
    def bind(
        session: Session,
        asset_version: AssetVersionArgument,
        pipeline: PipelineOption,
        stage: StageOption,
        slot: SlotOption,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
    ) -> None:
        """Put a recorded asset version into a slot of a pipeline."""
        from api.binding import bind as bound_drafts

        binding = bound_drafts(
            session.rooms,
            asset_version,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=_common(reason, effective_at),
            actor=session.actor,
            now=session.now,
        )
        if not binding.drafts:
            _unchanged(session, slot, binding.asset_version)
            return
        append(
            session,
            binding.drafts,
            key=idempotency_key,
            receipt=receipt,
            sentence=f"{slot} is now {binding.asset_version}",
        )

    @command(
        app,
        "unbind",
        examples=[
            "asof unbind -p forecast -s production --slot feature/days --reason 'not used now'",
            "asof unbind -p forecast -s staging --slot model",
        ],
        writes=True,
    )
    def unbind(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        slot: SlotOption,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
    ) -> None:
        """Empty a slot of a pipeline."""
        from api.binding import unbind as unbound_drafts

        binding = unbound_drafts(
            session.rooms,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=_common(reason, effective_at),
            actor=session.actor,
            now=session.now,
        )
        append(
            session,
            binding.drafts,
            key=idempotency_key,
            receipt=receipt,
            sentence=f"{slot} is now empty",
        )

    @command(
        app,
        "traffic",
        examples=[
            "asof traffic model/forecaster@7=100 -p forecast -s production",
            "asof traffic model/m@7=90 model/m@8=10 -p forecast -s production --mode canary",
        ],
        writes=True,
    )
    def traffic(
        session: Session,
        shares: Annotated[
            list[str], typer.Argument(metavar="ASSET_VERSION=PERCENT…", help="Who serves how much.")
        ],
        pipeline: PipelineOption,
        stage: StageOption,
        mode: Annotated[
            str, typer.Option("--mode", metavar="live|canary|shadow|ab", help="How it is split.")
        ] = "live",
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
    ) -> None:
        """Say which model version serves what share of the requests."""
        data = {
            "pipeline": pipeline,
            "stage": stage,
            "shares": _percents(shares),
            "mode": mode,
            **_common(reason, effective_at),
        }
        _one(session, "traffic.changed/1", data, key=idempotency_key, receipt=receipt)


def _unchanged(session: Session, slot: str, asset_version: str) -> None:
    data = {"unchanged": True, "slot": slot, "asset_version": asset_version}
    session.output.answer(
        data, lines=lambda ink: [f"unchanged: {plain(slot)} is {plain(asset_version)}"]
    )


def _percents(shares: Sequence[str]) -> dict[str, float | int]:
    found: dict[str, float | int] = {}
    for share in shares:
        ref, equals, percent = share.rpartition("=")
        try:
            number = float(percent.removesuffix("%"))
        except ValueError:
            equals = ""
            number = 0.0
        if not equals:
            raise MalformedError(
                f"{share!r} is not of the form ASSET_VERSION=PERCENT", where="shares"
            )
        if ref in found:
            raise MalformedError(f"{ref!r} is given twice", where="shares")
        found[ref] = int(number) if number.is_integer() else number
    return found


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

    @command(
        run,
        "start",
        examples=[
            "asof run start train-42 -p forecast -s staging --input dataset/orders@2026-11-20",
            "asof run start batch-7 -p forecast -s production --kind inference --param horizon=14",
        ],
        writes=True,
    )
    def start(
        session: Session,
        name: Annotated[
            str, typer.Argument(metavar="RUN", help="The run's id, new and yours to choose.")
        ],
        pipeline: PipelineOption,
        stage: StageOption,
        kind: Annotated[
            str,
            typer.Option(
                "--kind", metavar="KIND", help="training, evaluation, inference, service, …"
            ),
        ] = "training",
        input: Annotated[
            list[str] | None,
            typer.Option(
                "--input",
                metavar="ASSET_VERSION",
                show_default=False,
                help="What it reads (default: all that is bound).",
            ),
        ] = None,
        param: Annotated[
            list[str] | None,
            typer.Option(
                "--param", metavar="KEY=VALUE", show_default=False, help="A parameter of the run."
            ),
        ] = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
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
            **_common(reason, effective_at),
        }
        if state["state_digest"]:
            data["state_digest"] = state["state_digest"]
        _one(
            session, "run.started/1", data, key=idempotency_key, receipt=receipt, expected_version=0
        )

    @command(
        run,
        "finish",
        examples=[
            "asof run finish train-42 --made model/forecaster@7 --metric mae=11.8 --metric r2=0.91",
            "asof run finish batch-7 --status failed --reason 'out of memory'",
        ],
        writes=True,
    )
    def finish(
        session: Session,
        name: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
        status: Annotated[
            str, typer.Option("--status", metavar="STATUS", help="succeeded, failed or stopped.")
        ] = "succeeded",
        made: Annotated[
            list[str] | None,
            typer.Option(
                "--made", metavar="ASSET_VERSION", show_default=False, help="What it made."
            ),
        ] = None,
        metric: Annotated[
            list[str] | None,
            typer.Option(
                "--metric",
                metavar="NAME=NUMBER",
                show_default=False,
                help="A figure that it measured.",
            ),
        ] = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
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
            **_common(reason, effective_at),
        }
        _one(
            session,
            "run.finished/1",
            data,
            stream=f"run/{name}",
            key=idempotency_key,
            receipt=receipt,
        )


def _register_remarks(app: typer.Typer) -> None:
    @command(
        app,
        "note",
        examples=[
            "asof note 'Approved by the change board.' --topic release",
            "asof note 'Orders of 3 May were late.' --about 41 --about 42",
        ],
        writes=True,
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
        receipt: _RECEIPTS = None,
    ) -> None:
        """Add a note in plain words."""
        data: dict[str, Any] = {"text": text, "about": about or []}
        _one(
            session,
            "note.added/1",
            data,
            stream=f"note/{topic}",
            key=idempotency_key,
            receipt=receipt,
        )

    @command(
        app,
        "tag",
        examples=["asof tag release-7", "asof tag before-migration --index 1204"],
        writes=True,
    )
    def tag(
        session: Session,
        name: Annotated[
            str, typer.Argument(metavar="NAME", help="The tag; use it as --at tag:NAME.")
        ],
        index: Annotated[
            int | None,
            typer.Option(
                "--index",
                metavar="N",
                min=0,
                max=MOST_ENTRIES,
                show_default=False,
                help="The entry it names (default: the last one).",
            ),
        ] = None,
        reason: ReasonOption = None,
        idempotency_key: KeyOption = None,
        receipt: _RECEIPTS = None,
    ) -> None:
        """Give a place in the ledger a name; setting it again moves it."""
        size = session.rooms.reader.size()
        place = size - 1 if index is None else index
        if not 0 <= place < size:
            raise hinted(
                NotFoundError(f"there is no entry {place}: the ledger has {size}, counted from 0"),
                "asof log --last 20",
            )
        data = {"tag": name, "index": place, **_common(reason, None)}
        _one(session, "tag.set/1", data, key=idempotency_key, receipt=receipt)


def _common(reason: str | None, effective_at: str | None) -> dict[str, Any]:
    """The optional fields of every event that were given."""
    given = {"reason": reason, "effective_at": effective_at}
    return {name: value for name, value in given.items() if value is not None}


def _value(text: str) -> Any:
    """A number where it reads as one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _one(
    session: Session,
    type_name: str,
    data: dict[str, Any],
    *,
    key: str | None,
    receipt: Path | None,
    stream: str | None = None,
    expected_version: int | None = None,
) -> None:
    """Append one event."""
    from ledger.events import draft

    one = draft(
        (type_name, data),
        stream=stream,
        actor=session.actor,
        expected_version=expected_version,
        now=session.now,
    )
    append(session, [one], key=key, receipt=receipt)


def append(
    session: Session,
    drafts: Sequence[Draft],
    *,
    key: str | None,
    receipt: Path | None,
    sentence: str = "",
) -> None:
    """Append a batch, keep the receipts if asked to, and answer with where it lies now."""
    appended = session.rooms.writer.append(drafts, idempotency_key=key)
    if receipt is not None:
        _keep_receipts(appended, receipt)
    data = {
        "first_index": appended.first_index,
        "count": appended.count,
        "recorded_at": time_text(appended.recorded_at, exact=True),
        "tree_size": appended.tree_size,
        "repeated": appended.repeated,
        "checkpoint": appended.checkpoint.decode(),
    }
    session.output.answer(data, lines=lambda ink: _appended_lines(appended, sentence, ink))


def _keep_receipts(appended: Appended, path: Path) -> None:
    from ledger.receipt import format_receipt

    with path.open("wb") as file:
        for receipt in appended.receipts:
            file.write(format_receipt(receipt) + b"\n")


def _appended_lines(appended: Appended, sentence: str, ink: Ink) -> Iterator[str]:
    first, last = appended.first_index, appended.first_index + appended.count - 1
    place = f"entry {first}" if first == last else f"entries {first} to {last}"
    done = "already recorded as" if appended.repeated else "recorded as"
    if sentence:
        yield ink.bold(plain(sentence))
    yield f"{done} {place} at {time_text(appended.recorded_at)}"
