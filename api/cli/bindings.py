"""Commands about what a slot holds and who serves: capture, bind, unbind, traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from api.cli.appending import ReceiptOption, append, append_one, common_fields
from api.cli.command import command
from api.cli.options import (
    AssetVersionArgument,
    EffectiveAtOption,
    KeyOption,
    PipelineOption,
    ReasonOption,
    SlotOption,
    StageOption,
    words_of,
)
from api.cli.session import Session
from api.cli.terminal import plain
from ledger.errors import MalformedError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    _register_capture(app)
    _register_bind(app)
    _register_unbind(app)
    _register_traffic(app)


TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="What to look at: a folder, a file, …")
]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        show_default=False,
        help="What it is: dataset, model, code, config, … (default: what the system says).",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        show_default=False,
        help="The asset's name (default: what the system says).",
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        show_default=False,
        help="The asset's version (default: what the system says, or its digest).",
    ),
]
MetaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--meta",
        metavar="KEY=VALUE",
        show_default=False,
        help="A fact to keep with the version.",
    ),
]


def _register_capture(app: typer.Typer) -> None:
    @command(
        app,
        "capture",
        examples=[
            "asof capture git . -p forecast -s production --slot code",
            "asof capture files data/orders.csv -p forecast -s production --slot data/orders",
        ],
        writes=True,
        remote=True,
    )
    def capture(
        session: Session,
        system: Annotated[str, typer.Argument(metavar="SYSTEM", help="git, files or environment.")],
        target: TargetArgument,
        pipeline: PipelineOption,
        stage: StageOption,
        slot: SlotOption,
        kind: KindOption = None,
        name: NameOption = None,
        version: VersionOption = None,
        meta: MetaOption = None,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Look at a system, record the version that is there, and bind it to a slot.

        Both entries are one batch. What is captured can be restored later, byte for byte, where the
        system allows it. Doing it twice changes nothing: 'unchanged' is said.
        """
        from api.binding import capture as captured_drafts

        metadata = words_of(meta, "--meta")
        seen = session.rooms.observe(system, target, kind=kind, name=name)
        recorded = seen.as_event_data() | ({"version": version} if version else {})
        recorded["metadata"] = {**recorded["metadata"], **metadata}
        binding = captured_drafts(
            session.rooms,
            recorded,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=common_fields(reason, effective_at),
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
            facts={"unchanged": False, "slot": slot, "asset_version": binding.asset_version},
        )


def _register_bind(app: typer.Typer) -> None:
    @command(
        app,
        "bind",
        examples=[
            "asof bind model/forecaster@7 -p forecast -s production --slot model --reason reviewed",
            "asof bind dataset/orders@2026-11-20 -p forecast -s staging --slot data/orders",
        ],
        writes=True,
        remote=True,
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
        receipt: ReceiptOption = None,
    ) -> None:
        """Put a recorded asset version into a slot of a pipeline."""
        from api.binding import bind as bound_drafts

        binding = bound_drafts(
            session.rooms,
            asset_version,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=common_fields(reason, effective_at),
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
            facts={"unchanged": False, "slot": slot, "asset_version": binding.asset_version},
        )


def _register_unbind(app: typer.Typer) -> None:
    @command(
        app,
        "unbind",
        examples=[
            "asof unbind -p forecast -s production --slot feature/days --reason 'not used now'",
            "asof unbind -p forecast -s staging --slot model",
        ],
        writes=True,
        remote=True,
    )
    def unbind(
        session: Session,
        pipeline: PipelineOption,
        stage: StageOption,
        slot: SlotOption,
        reason: ReasonOption = None,
        effective_at: EffectiveAtOption = None,
        idempotency_key: KeyOption = None,
        receipt: ReceiptOption = None,
    ) -> None:
        """Empty a slot of a pipeline."""
        from api.binding import unbind as unbound_drafts

        binding = unbound_drafts(
            session.rooms,
            pipeline=pipeline,
            stage=stage,
            slot=slot,
            common=common_fields(reason, effective_at),
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


def _register_traffic(app: typer.Typer) -> None:
    @command(
        app,
        "traffic",
        examples=[
            "asof traffic model/forecaster@7=100 -p forecast -s production",
            "asof traffic model/m@7=90 model/m@8=10 -p forecast -s production --mode canary",
        ],
        writes=True,
        remote=True,
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
        receipt: ReceiptOption = None,
    ) -> None:
        """Say which model version serves what share of the requests."""
        data = {
            "pipeline": pipeline,
            "stage": stage,
            "shares": _percents(shares),
            "mode": mode,
            **common_fields(reason, effective_at),
        }
        append_one(session, "traffic.changed/1", data, key=idempotency_key, receipt=receipt)


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
