"""What people type to find entries: one grammar for the command line and for `?q=`.

::

    actor:service:ci type:binding.* stage:production after:7d before:tag:release-7
    pipeline:"demand forecast" stream:run/train-42

Words are joined by "and". A qualifier comes once; what holds a space is quoted. `after:` and
`before:` take what `--from` and `--to` take, and a bare duration counts back from now (`after:7d`).
What is no qualifier is refused: a word that is passed over would show more than was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from ledger.errors import MalformedError
from projections.at import parse_at
from projections.log import Filter

if TYPE_CHECKING:
    from ledger.reader import Reader
    from projections.at import Moment

__all__ = ["QUALIFIERS", "format_query", "joined", "parse_query"]

QUALIFIERS: Final = ("actor", "type", "stage", "pipeline", "stream", "before", "after")
_MOMENTS: Final = {"after": "start", "before": "end"}
_WORD = re.compile(r'\s*(?:([A-Za-z_]+):("(?:[^"\\]|\\.)*"|[^\s"]+)|(\S+))(?=\s|$)')
_ESCAPED = re.compile(r"\\(.)")
_DURATION = re.compile(r"(?:\d{1,9}[a-z]+)+", re.ASCII)


def parse_query(text: str, *, reader: Reader, now: int) -> Filter:
    """The filter that a query means; an empty one lets everything pass.

    Raises MalformedError naming the word that is none, and the nearest qualifier; and what
    `parse_at` raises for a time.
    """
    given: dict[str, Any] = {}
    for name, value in _words(text):
        field = _MOMENTS.get(name, name)
        if field in given:
            raise MalformedError(f"{name}: is given twice", where="q")
        given[field] = _moment(name, value, reader, now) if name in _MOMENTS else value
    return Filter(**given)


def format_query(words: Mapping[str, str | None]) -> str:
    """The query of qualifiers and values; `parse_query` reads the same from it."""
    return " ".join(
        f"{name}:{_quoted(value)}" for name, value in words.items() if value is not None
    )


def joined(*queries: str) -> str:
    """Queries that must all hold, as one."""
    return " ".join(query for query in (one.strip() for one in queries) if query)


def _quoted(value: str) -> str:
    if value and not any(letter.isspace() or letter in '"\\' for letter in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _words(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        word = _WORD.match(text, at)
        if word is None:
            raise MalformedError(f"a quotation mark has no other: {text[at:].strip()!r}", where="q")
        name, value, other = word.groups()
        if name is None or name.lower() not in QUALIFIERS:
            raise _unknown(other or f"{name}:{value}", name)
        found.append((name.lower(), _unquoted(value)))
        at = word.end()
    return found


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    inside = _ESCAPED.sub(r"\1", value[1:-1])
    if not inside:
        raise MalformedError("an empty value matches nothing", where="q")
    return inside


def _unknown(word: str, name: str | None) -> MalformedError:
    near = get_close_matches((name or word).lower(), QUALIFIERS, n=1)
    hint = f"did you mean {near[0]}:?" if near else f"known are {': '.join(QUALIFIERS)}:"
    return MalformedError(f"{word[:100]!r} is no qualifier with a value; {hint}", where="q")


def _moment(name: str, value: str, reader: Reader, now: int) -> Moment:
    text = f"{value} ago" if _DURATION.fullmatch(value) else value
    try:
        return parse_at(text, reader=reader, now=now)
    except MalformedError as error:
        raise MalformedError(str(error), where=f"q {name}:") from None
