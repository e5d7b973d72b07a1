"""What arrives from outside, in our words: recordings, each to be appended under its own key.

A translator is pure: bytes and headers in, recordings out. It knows neither the ledger's state nor
a clock, so what depends on what is there already is left to the keys: a recording whose key was
used before, for whatever body, is there already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.canonical import format_json, format_time, parse_rfc3339
from ledger.errors import MalformedError

__all__ = [
    "Envelope",
    "Recording",
    "instant",
    "mark_of",
    "member",
    "name_text",
    "version_text",
    "whole_or_digest",
]

Envelope = dict[str, Any]
"""An event as `asof record` takes it: type, stream, data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Events that belong together, and the key under which they are recorded once.

    With `of_sender` the key is one that the sender counts by: two senders who count alike do not
    meet in it. `otherwise` is recorded where the key stands for other events already, so that what
    arrives late or twice with something new in it is kept all the same.
    """

    key: str
    events: Sequence[Envelope]
    of_sender: bool = False
    otherwise: Recording | None = None


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
MOST_NAME: Final = 400
MOST_KEPT: Final = 512 << 10


def name_text(text: object, default: str = "unnamed") -> str:
    """A name that a stream may hold: at most 400 bytes, without control characters and spaces at
    its ends. A longer one ends in its mark, so that two with one beginning stay two.
    """
    told = _CONTROL.sub(" ", text).strip() if isinstance(text, str) else ""
    data = told.encode("utf-8", "replace")
    if len(data) > MOST_NAME:
        told = f"{data[: MOST_NAME - 50].decode('utf-8', 'ignore').strip()}~{mark_of(told)}"
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


def mark_of(*parts: object) -> str:
    """A short text that stands for these parts, whatever their length: for keys, which are bounded.
    A key that is cut off instead would let two deliveries pass for one.
    """
    return hashlib.sha256(format_json([str(part) for part in parts])).hexdigest()[:40]


def whole_or_digest(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a system said, whole; its digest and size where it is too large for an entry (512 KiB of
    canonical JSON): what it means is recorded all the same.
    """
    data = format_json(dict(told))
    if len(data) <= MOST_KEPT:
        return dict(told)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"left_out": "larger than an entry holds", "digest": digest, "bytes": len(data)}
