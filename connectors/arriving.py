"""What arrives from outside, in our words: recordings, each to be appended under its own key.

A translator is pure: bytes and headers in, recordings out. It knows neither the ledger's state nor
a clock, so what depends on what is there already is left to the keys: a recording whose key was
used before, for whatever body, is there already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.canonical import format_time, parse_rfc3339
from ledger.errors import MalformedError

__all__ = ["Envelope", "Recording", "instant", "name_text", "version_text"]

Envelope = dict[str, Any]
"""An event as `asof record` takes it: type, stream, data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Events that belong together, and the key under which they are recorded once."""

    key: str
    events: Sequence[Envelope]


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
MOST_NAME: Final = 400


def name_text(text: object, default: str = "unnamed") -> str:
    """A name that a stream may hold: bounded, without control characters and spaces at its ends."""
    told = _CONTROL.sub(" ", text).strip()[:MOST_NAME].strip() if isinstance(text, str) else ""
    return told or default


def version_text(text: object, default: str = "unversioned") -> str:
    """A version, or the last part of a place: `@` would end it."""
    return name_text(text, default).replace("@", "_")


def instant(text: object, where: str) -> str:
    """A time with its offset, in UTC. Raises MalformedError."""
    if not isinstance(text, str):
        raise MalformedError("must be a time with its offset", where=where)
    try:
        return format_time(parse_rfc3339(text))
    except MalformedError:
        raise MalformedError(f"{text[:40]!r} is no time with an offset", where=where) from None


def member(value: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """A member that is an object; an empty one where it is absent. Raises MalformedError."""
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise MalformedError("must be an object", where=f"{where}/{name}")
    return found
