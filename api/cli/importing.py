"""`asof import` of a file of events: what is read, what is said, what is answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from api.cli.session import Session
from api.cli.terminal import plain
from api.cli.words import count_text
from api.hints import hinted
from ledger.clock import system_clock
from ledger.errors import MalformedError, NotFoundError

if TYPE_CHECKING:
    from api.event_files import EventFile
    from api.import_pieces import Refused
    from api.importing import Checked, Imported

__all__ = ["import_file", "refuse_options"]

_READ_AHEAD: Final = 1 << 18


def refuse_options(what: str, **given: object) -> None:
    """Raises MalformedError for the first option that was given and does not go with `what`."""
    for name, value in given.items():
        if value:
            option = "--" + name.replace("_", "-")
            raise MalformedError(f"does not go with {what}", where=option)


def import_file(
    session: Session, source: str, *, form: str | None, dry_run: bool, skip_bad: Path | None
) -> None:
    """Import the events of a file, or only check them. Raises as `check_events`, `append_events`;
    MalformedError where lines were refused and not to be skipped.
    """
    with _opened(source) as file:
        events = _event_file(source, form, file)
        if dry_run:
            _only_check(session, events)
        elif skip_bad is None:
            _check_then_append(session, events)
        else:
            _append_what_is_good(session, events, source, skip_bad)


# ------------------------------------------------------------------------------------- three ways


def _only_check(session: Session, events: EventFile) -> None:
    checked = _check(session, events, keep=False)
    answer = {"events": checked.events, "refused": checked.refused, "refusals": _told(checked)}
    _say_refused(checked)
    session.output.answer(answer, lines=lambda ink: _checked_lines(checked))
    if checked.refused:
        raise _refusal(checked)


def _check_then_append(session: Session, events: EventFile) -> None:
    from api.importing import append_events

    writer = session.rooms.writer  # before a minute is spent on checking for a ledger that is not
    with _check(session, events, keep=True) as checked:
        if checked.refused:
            _say_refused(checked)
            raise _refusal(checked)
        if not checked.events:
            raise MalformedError("the file holds no event")
        with session.progress("Importing") as tell:
            done = append_events(
                writer, checked.pieces(), progress=lambda count, _: tell(count, checked.events)
            )
    _answer(session, done, refused=0)


def _append_what_is_good(session: Session, events: EventFile, source: str, skip_bad: Path) -> None:
    from api.import_pieces import others_here, pieces_of
    from api.importing import append_events

    if skip_bad.exists() and Path(source).exists() and skip_bad.samefile(source):
        raise MalformedError("is the file that is imported", where="--skip-bad")
    writer = session.rooms.writer
    pieces = pieces_of(events, actor=session.actor, clock=system_clock, workers=others_here())
    with (
        closing(pieces),
        _RefusedFile(skip_bad, events.header) as refused,
        session.progress("Importing") as tell,
    ):
        done = append_events(writer, pieces, progress=tell, refuse=refused.add)
    if refused.count:
        session.say(
            f"{count_text(refused.count, 'line was', 'lines were')} refused: see {skip_bad} and"
            f" {refused.reasons_path}; mend and import them"
        )
    _answer(session, done, refused=refused.count)


class _RefusedFile:
    """The refused lines as they were, to be mended and imported, and beside them the reasons.

    Both are written anew each time: a repeated import reads the whole file again.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        self.count = 0
        self.reasons_path = path.with_name(path.name + ".reasons")
        self._lines = path.open("wb")
        self._reasons = self.reasons_path.open("w", encoding="utf-8")
        self._lines.write(header)

    def __enter__(self) -> _RefusedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._reasons.close()

    def add(self, refused: Refused) -> None:
        """One more; `append_events` calls it."""
        self.count += 1
        self._lines.write(refused.raw if refused.raw.endswith(b"\n") else refused.raw + b"\n")
        self._reasons.write(f"{refused.where}: {plain(refused.why)}\n")


# ------------------------------------------------------------------------------------ input, words


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    """The file, or the standard input, which must not be a waiting terminal."""
    if source != "-":
        if not Path(source).exists():
            raise NotFoundError(f"there is no file and no folder {source}")
        with Path(source).open("rb", buffering=_READ_AHEAD) as file:
            yield file
        return
    if sys.stdin.isatty():
        raise hinted(
            MalformedError("nothing to import: the standard input is a terminal"),
            "asof import history.jsonl",
        )
    yield sys.stdin.buffer


def _event_file(source: str, form: str | None, file: BinaryIO) -> EventFile:
    from api.event_files import FORMATS

    form = form or ("csv" if source.lower().endswith(".csv") else "jsonl")
    if form not in FORMATS:
        raise MalformedError(f"{form!r} is none of {', '.join(FORMATS)}", where="--format")
    return FORMATS[form](file)


def _check(session: Session, events: EventFile, *, keep: bool) -> Checked:
    from api.import_pieces import others_here
    from api.importing import check_events

    with session.progress("Checking") as tell:
        return check_events(
            events,
            actor=session.actor,
            clock=system_clock,
            keep=keep,
            workers=others_here(),
            progress=tell,
        )


def _refusal(checked: Checked) -> MalformedError:
    """One refused line is the message itself; of many, the count is."""
    if checked.refused == 1:
        (one,) = checked.first_refused
        return MalformedError(one.why, where=one.where)
    total = checked.events + checked.refused
    return MalformedError(
        f"{checked.refused:,} of {total:,} events are refused; nothing was written"
    )


def _say_refused(checked: Checked) -> None:
    """The first of many refused lines, on the standard error: --quiet keeps them, they are the
    error. A single one is told by `_refusal`.
    """
    if checked.refused == 1:
        return
    for one in checked.first_refused:
        print(plain(f"{one.where}: {one.why}"), file=sys.stderr)  # noqa: T201
    more = checked.refused - len(checked.first_refused)
    if more:
        print(f"… and {more:,} more", file=sys.stderr)  # noqa: T201


def _told(checked: Checked) -> list[dict[str, Any]]:
    return [
        {"line": one.line, "place": one.place, "reason": one.why} for one in checked.first_refused
    ]


def _checked_lines(checked: Checked) -> Iterator[str]:
    good = count_text(checked.events, "event")
    bad = f", {checked.refused:,} refused" if checked.refused else ""
    yield f"{good} would be recorded{bad}; nothing was written"


def _answer(session: Session, done: Imported, *, refused: int) -> None:
    answer = {
        "entries": done.entries,
        "recorded": done.recorded,
        "repeated": done.repeated,
        "refused": refused,
        "first_index": done.first_index,
        "last_index": done.last_index,
        "tree_size": done.tree_size,
        "seconds": round(done.seconds, 3),
        "per_second": round(done.per_second),
    }
    session.output.answer(answer, lines=lambda ink: _imported_lines(done))


def _imported_lines(done: Imported) -> Iterator[str]:
    if done.recorded:
        place = f"{done.first_index} to {done.last_index}"
        if done.first_index == done.last_index:
            place = f"{done.first_index}"
        said = f"recorded {count_text(done.recorded, 'entry', 'entries')}: {place}"
        yield f"{said}, {done.per_second:,.0f} a second"
    else:
        yield "recorded nothing"
    if done.repeated:
        yield f"{count_text(done.repeated, 'event')} of the file were there already"
