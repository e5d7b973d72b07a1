"""Commands that look after the index: projections status, rebuild, drop, follow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Annotated, Any, cast

import typer

from api.cli.command import command, group, new_app
from api.cli.options import YesOption
from api.cli.output import pairs
from api.cli.session import Session
from api.cli.terminal import Ink, plain

__all__ = ["register"]

_TEXT = "The index from which questions are answered: never evidence, can always be built again."
_STATUS = ["asof projections status", "asof projections status -o json"]
_REBUILD = [
    "asof projections rebuild",
    "asof projections rebuild --store postgresql://asof_app@localhost/audit -o json",
]
_DROP = ["asof projections drop", "asof projections drop --yes"]
_FOLLOW = ["asof projections follow", "asof projections follow --on-error pause"]
_SHOWN_LETTERS = 5


def register(app: typer.Typer) -> None:
    """Add this group's commands to the app."""
    projections = new_app("projections", _TEXT, examples=[_STATUS[0], _REBUILD[0]])
    group(projections)
    app.add_typer(projections, name="projections")
    command(projections, "status", examples=_STATUS)(_status)
    command(projections, "rebuild", examples=_REBUILD)(_rebuild)
    command(projections, "drop", examples=_DROP)(_drop)
    command(projections, "follow", examples=_FOLLOW)(_follow)


def _status(session: Session) -> None:
    """How far the index is behind the ledger, and which entries it could not take.

    Nothing is indexed by asking. A dead letter is an entry that could not be indexed; it is read
    with every state, so that no answer lacks it. A snapshot is where a replay may begin.
    """
    from api.projecting import status

    found = status(session.rooms, now=session.now)
    session.output.answer(found, lines=lambda ink: _status_lines(found, ink))
    if found["problem"] or found["dead_letters"]:
        session.suggest("asof projections rebuild")


def _status_lines(found: dict[str, Any], ink: Ink) -> Iterator[str]:
    lag, letters = found["lag"], found["dead_letters"]
    behind = f"{lag['entries']} entries, {lag['seconds']:.1f} s" if lag["entries"] else "no"
    paused = found["paused_at"]
    rows = [
        ("index", plain(found["index"])),
        ("entries", f"{found['entries']} of {found['ledger_entries']}"),
        ("behind", behind),
        ("state", "runs" if paused is None else f"stands before entry {paused}"),
        ("dead letters", str(len(letters))),
        *((f"entry {one['entry']}", plain(one["reason"])) for one in letters[:_SHOWN_LETTERS]),
        ("newest snapshot", _snapshot(found["newest_snapshot"])),
        *(("build", f"{one['entries']} entries, not live") for one in _unfinished(found)),
    ]
    if found["problem"]:
        rows.append(("problem", plain(found["problem"])))
    yield from pairs(rows, ink)


def _snapshot(tree_size: int | None) -> str:
    return "none" if tree_size is None else f"at {tree_size} entries"


def _unfinished(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in found["builds"] if not one["live"]]


def _rebuild(session: Session) -> None:
    """Build the index again, beside the live one, and switch to it when it is complete.

    Questions are answered from the live one meanwhile. Where both stand at the same entry they are
    compared, and the tables that differ are named. It stops at the first entry that it cannot
    apply. A rebuild that is running already ends, and this one takes its place. Snapshots are
    dropped.
    """
    from api.projecting import rebuild

    done = rebuild(session.rooms)
    session.output.answer(done, lines=lambda ink: _rebuilt_lines(done))


def _rebuilt_lines(done: dict[str, Any]) -> Iterator[str]:
    yield f"the index in {plain(done['index'])} was built again: {done['entries']} entries"
    if done["differing"]:
        yield f"the one before said something else in: {', '.join(done['differing'])}"
    elif done["differing"] is not None:
        yield "the one before said the same"


def _drop(session: Session, yes: YesOption = False) -> None:
    """Drop the index of this ledger. The ledger is not touched; the next question builds it again.

    Its snapshots are dropped with it. Other ledgers of the same database keep theirs.
    """
    from api.projecting import drop

    if not session.confirm("The next question will build the index again. Drop it?", yes=yes):
        session.say("nothing was done")
        raise typer.Exit(130)
    done = drop(session.rooms)
    session.output.answer(
        done, lines=lambda ink: [f"{plain(done['index'])}: {done['entries']} entries were dropped"]
    )


def _follow(
    session: Session,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="dead-letter|pause",
            help="For an entry that cannot be indexed: put it aside, or stand before it.",
        ),
    ] = "dead-letter",
) -> None:
    """Keep the index up to date until it is interrupted.

    Questions bring the index up to date themselves: this is for ledgers that grow so fast that they
    should not wait for it. Any number may run.
    """
    if on_error not in ("dead-letter", "pause"):
        raise typer.BadParameter(f"{on_error!r} is none of dead-letter, pause")
    from api.projecting import follow_ledger

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    done = follow_ledger(session.rooms, on_unfit=cast("Any", on_error), stop=stop)
    session.output.answer(
        done, lines=lambda ink: [f"{plain(done['index'])}: {done['entries']} entries"]
    )
