"""The options and arguments that several commands share, so that one word means one thing
everywhere.
"""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli import completing
from ledger.errors import MalformedError

__all__ = [
    "MOST_ENTRIES",
    "AssetVersionArgument",
    "AtOption",
    "BasisOption",
    "EffectiveAtOption",
    "FromOption",
    "IndexArgument",
    "KeyOption",
    "KnownAtOption",
    "OptionalPipelineOption",
    "OptionalStageOption",
    "PipelineOption",
    "ReasonOption",
    "SlotOption",
    "StageOption",
    "ToOption",
    "YesOption",
    "words_of",
]

PipelineOption = Annotated[
    str,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="NAME",
        help="The pipeline.",
        show_default=False,
        autocompletion=completing.pipelines,
    ),
]
StageOption = Annotated[
    str,
    typer.Option(
        "--stage",
        "-s",
        metavar="NAME",
        help="Its stage.",
        show_default=False,
        autocompletion=completing.stages,
    ),
]
OptionalPipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="NAME",
        help="Only this pipeline.",
        show_default=False,
        autocompletion=completing.pipelines,
    ),
]
OptionalStageOption = Annotated[
    str | None,
    typer.Option(
        "--stage",
        "-s",
        metavar="NAME",
        help="Only this stage.",
        show_default=False,
        autocompletion=completing.stages,
    ),
]
SlotOption = Annotated[
    str,
    typer.Option(
        "--slot",
        metavar="SLOT",
        help="The slot: model, data/orders, …",
        autocompletion=completing.slots,
        show_default=False,
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="In effect when: a time, '2h ago', index:N, tag:NAME, run:ID.",
        show_default=False,
    ),
]
KnownAtOption = Annotated[
    str | None,
    typer.Option(
        "--known-at",
        metavar="WHEN",
        help="Count only what was recorded by then.",
        show_default=False,
    ),
]
BasisOption = Annotated[
    int | None,
    typer.Option(
        "--basis",
        metavar="N",
        min=1,
        max=(1 << 53) - 1,
        help="Answer from the first N entries, to repeat an answer.",
        show_default=False,
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="From then on (included).", show_default=False),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="WHEN", help="Until then (included).", show_default=False),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why.", show_default=False)
]
EffectiveAtOption = Annotated[
    str | None,
    typer.Option(
        "--effective-at",
        metavar="TIME",
        help="When it took effect, if not now: a time with offset.",
        show_default=False,
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="Repeating the command with the same key changes nothing.",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)]
MOST_ENTRIES = (1 << 53) - 1
IndexArgument = Annotated[
    int,
    typer.Argument(metavar="INDEX", min=0, max=MOST_ENTRIES, help="The entry, counted from 0."),
]
AssetVersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="ASSET_VERSION",
        help="<kind>/<name>@<version>, such as model/forecaster@7.",
        autocompletion=completing.asset_versions,
    ),
]


def words_of(items: list[str] | None, option: str) -> dict[str, str]:
    """Split `name=value` words. Raises MalformedError naming the option."""
    found: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise MalformedError(f"{item!r} is not of the form name=value", where=option)
        if name in found:
            raise MalformedError(f"{name!r} is given twice", where=option)
        found[name] = value
    return found
