"""What people type after `--at` and `--known-at`, and the position on both time axes that it means.

::

    2026-10-14T09:30:00Z      an instant; any offset will do, but there must be one
    now, 2h ago, 1d12h ago    counted back from the `now` that is passed in
    index:1234                the ledger right after entry 1234
    event:<stream>#<version>  the ledger right after that entry (event:1234 is index:1234)
    tag:release-7             what the tag names: an entry, or the moment at which it was set
    run:train-42              what the run stood on: its start, as known right after it was recorded

A `Moment` is one such word resolved against a ledger; two of them, or one, or none make a
`Position` (docs/spec/time.md). No clock is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ledger.canonical import format_time, parse_rfc3339
from ledger.errors import MalformedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.reader import Reader
    from ledger.record import Record
    from ledger.store import Head

__all__ = ["Moment", "Position", "parse_at", "position"]

SECOND: Final = 1_000_000
UNITS: Final = {
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 7 * 86_400 * SECOND,
}

_AGO = re.compile(r"((?:\d{1,9}\s*[a-z]+\s*)+)\s+ago", re.ASCII)
_PART = re.compile(r"(\d{1,9})\s*([a-z]+)", re.ASCII)
_UNIT = re.compile(
    r"(?:(?P<s>s|sec|secs|seconds?)|(?P<m>m|min|mins|minutes?)|(?P<h>h|hrs?|hours?)"
    r"|(?P<d>d|days?)|(?P<w>w|weeks?))"
)
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9]\d{0,15}", re.ASCII)

FORMS: Final = (
    "write a time with its offset (2026-10-14T09:30:00Z), '2h ago', 'now', "
    "index:N, event:<stream>#<version>, tag:NAME or run:ID"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One point of a ledger's time: an instant, and the number of entries known where it names a
    place.

    `size` is None for a plain time: how much was known then is for the question to say.
    """

    text: str
    instant: int
    size: int | None = None

    @property
    def known_text(self) -> str:
        """The form that `--known-at` takes for it and that an answer prints."""
        return format_time(self.instant) if self.size is None else f"index:{self.size - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where on both axes a question is asked.

    An entry counts where its index is below `known` and its effective time is not after `at`.
    `basis` is the number of entries that the answer stands on, never less than `known`; `head` is
    the ledger's as it was then, so that it need not be asked for again.
    """

    at: int
    known: int
    basis: int
    known_at: str | None
    mode: str
    head: Head | None = field(default=None, repr=False, compare=False)


def parse_at(
    text: str, *, reader: Reader, now: int, axis: Literal["at", "known_at"] = "at"
) -> Moment:
    """Resolve what was typed. Raises MalformedError (how to write it) or NotFoundError (what is
    not there).

    An instant after `now` is refused on either axis. An instant before the ledger's first entry is
    refused for `known_at` only, as nothing was known then; what *held* then may have been
    recorded later.
    """
    word = text.strip()
    scheme, colon, rest = word.partition(":")
    resolve = _SCHEMES.get(scheme.lower()) if colon else None
    if resolve is not None:
        return resolve(text, rest, reader)
    return _checked(text, _parse_instant(word, now), reader, now, axis)


def position(
    reader: Reader,
    *,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
) -> Position:
    """The position that a pair of moments means; all four cases of docs/spec/time.md.

    Raises NotFoundError where the ledger does not hold `basis` entries, or not the entry that a
    moment names.
    """
    head = reader.head()
    size = head.size
    stand = size if basis is None else basis
    if not 1 <= stand <= size:
        raise NotFoundError(f"basis {stand}: this ledger holds {size} entries, give 1 to {size}")
    knowing = known_at if known_at is not None else _names_place(at)
    return Position(
        at=_in_effect_at(at, known_at, now),
        known=stand if knowing is None else _known(reader, knowing, stand),
        basis=stand,
        known_at=None if knowing is None else knowing.known_text,
        mode=_mode(at, known_at, basis),
        head=head,
    )


def _names_place(at: Moment | None) -> Moment | None:
    return at if at is not None and at.size is not None else None


def _in_effect_at(at: Moment | None, known_at: Moment | None, now: int) -> int:
    if at is not None:
        return at.instant
    return known_at.instant if known_at is not None else now


def _known(reader: Reader, moment: Moment, stand: int) -> int:
    if moment.size is None:
        return min(reader.index_at(moment.instant), stand)
    if moment.size > stand:
        raise NotFoundError(f"{moment.text}: the answer may stand on {stand} entries only")
    return moment.size


def _mode(at: Moment | None, known_at: Moment | None, basis: int | None) -> str:
    if known_at is not None:
        if at is None:
            return f"known and in effect {_words(known_at)}"
        return f"in effect at {format_time(at.instant)}, as known {_words(known_at)}"
    if at is not None and at.size is not None:
        return f"in effect at {format_time(at.instant)}, as known {_words(at)}"
    when = "now" if at is None else f"at {format_time(at.instant)}"
    known = "now" if basis is None else f"from the first {basis} entries"
    return f"in effect {when}, as known {known}"


def _words(moment: Moment) -> str:
    if moment.size is None:
        return f"at {format_time(moment.instant)}"
    return f"right after entry {moment.size - 1}"


# --- plain times ------------------------------------------------------------------------------


def _parse_instant(word: str, now: int) -> int:
    if word.lower() == "now":
        return now
    ago = _AGO.fullmatch(word.lower())
    if ago is not None:
        return now - _span(ago[1], word)
    if _LOCAL.fullmatch(word):
        raise MalformedError(_local_time(word))
    try:
        return parse_rfc3339(word)
    except MalformedError as error:
        raise MalformedError(
            f"{word!r} is not a time that is understood here ({error}); {FORMS}"
        ) from error


def _local_time(word: str) -> str:
    example = word.replace(" ", "T")
    if "T" not in example.upper():
        example += "T00:00:00"
    elif example.count(":") == 1:
        example += ":00"
    return (
        f"{word!r} has no offset, so it could mean any of two dozen instants; "
        f"write {example}Z for UTC, or your own offset such as {example}+02:00"
    )


def _span(parts: str, word: str) -> int:
    total = 0
    for number, unit in _PART.findall(parts):
        known = _UNIT.fullmatch(unit)
        if known is None:
            raise MalformedError(
                f"{word!r}: {unit!r} is no unit; use s, min, h, d or w, as in '2h ago'"
            )
        total += int(number) * UNITS[str(known.lastgroup)]
    return total


def _checked(text: str, instant: int, reader: Reader, now: int, axis: str) -> Moment:
    """Refuse what has not happened yet, and for `known_at` what no ledger knew.

    The head's own time counts as now where the clock of this machine is behind it.
    """
    last = reader.head().recorded_at
    if instant > max(now, last):
        raise MalformedError(
            f"{text!r} lies in the future: it is {format_time(now)} now, "
            "and what will hold is not known"
        )
    if instant < 0:
        raise MalformedError(f"{text!r} lies before 1970, where no ledger reaches")
    if axis == "known_at" and reader.index_at(instant) == 0:
        first = reader.entry(0).recorded_at
        raise MalformedError(
            f"{text!r} is before the first entry, recorded at {format_time(first)}: "
            "nothing was known then; to ask what held then as known now, give it as --at"
        )
    return Moment(text=text, instant=instant)


# --- places in the ledger ---------------------------------------------------------------------


def _after(text: str, record: Record) -> Moment:
    """Right after an entry: known up to it, in effect at the time at which it was recorded."""
    return Moment(text=text, instant=record.recorded_at, size=record.index + 1)


def _at_index(text: str, rest: str, reader: Reader) -> Moment:
    if not _DECIMAL.fullmatch(rest):
        raise MalformedError(
            f"{text!r}: an index is a decimal number counted from 0, as in index:1234"
        )
    index, size = int(rest), reader.size()
    if index >= size:
        raise NotFoundError(
            f"{text}: the ledger holds {size} entries, so its last index is {size - 1}"
        )
    return _after(text, reader.entry(index))


def _at_event(text: str, rest: str, reader: Reader) -> Moment:
    if _DECIMAL.fullmatch(rest):
        return _at_index(text, rest, reader)
    stream, sign, version = rest.rpartition("#")
    if not (sign and stream and _DECIMAL.fullmatch(version) and version != "0"):
        raise MalformedError(
            f"{text!r}: an event is named by its index (event:1234) or by its stream and version "
            "(event:run/train-42#1)"
        )
    record = next(iter(reader.stream(stream, int(version) - 1)), None)
    if record is None or record.version != int(version):
        raise NotFoundError(f"{text}: stream {stream!r} has no version {version}")
    return _after(text, record)


def _at_tag(text: str, rest: str, reader: Reader) -> Moment:
    """The entry that the tag names; else (a tag on a state) the moment at which the tag was set."""
    record = _last(reader, f"tag/{rest}")
    if record is None:
        raise NotFoundError(
            f"{text}: no tag {rest!r} in this ledger; 'asof log --type tag.set*' lists them"
        )
    named = (record.data or {}).get("index")
    if isinstance(named, int) and 0 <= named < reader.size():
        return _after(text, reader.entry(named))
    return _after(text, record)


def _at_run(text: str, rest: str, reader: Reader) -> Moment:
    """When the run started, as known right after its start was recorded."""
    for record in reader.stream(f"run/{rest}"):
        if record.type.startswith("run.started/"):
            return Moment(text=text, instant=record.effective_at, size=record.index + 1)
    raise NotFoundError(
        f"{text}: no run {rest!r} started in this ledger; 'asof log --type run.*' lists them"
    )


def _last(reader: Reader, stream: str) -> Record | None:
    version = reader.stream_version(stream)
    return next(iter(reader.stream(stream, version - 1)), None) if version else None


_SCHEMES: Final[dict[str, Callable[[str, str, Reader], Moment]]] = {
    "index": _at_index,
    "event": _at_event,
    "tag": _at_tag,
    "run": _at_run,
}
