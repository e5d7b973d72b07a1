"""What `asof record` and `asof import` read: one event, or JSON lines.

::

    {"type": "note.added/1", "stream": "note/release", "data": {"text": "go"}}

`expected_version`, `effective_at` and `source` may stand beside `data`; the latter two become part
of it. Blank lines do not count. For `parse_drafts` one event may be spread over many lines.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any, Final

from ledger.canonical import parse_json_object
from ledger.draft import Draft
from ledger.errors import MalformedError
from ledger.events.door import MAX_PAYLOAD_BYTES, draft
from ledger.events.event import COMMON_FIELDS
from ledger.events.quick import quick_draft, quick_draft_of
from ledger.events.registry import REGISTRY, Registry

__all__ = ["MAX_LINE_BYTES", "draft_of", "parse_drafts", "parse_line"]

MAX_LINE_BYTES: Final = 4 * MAX_PAYLOAD_BYTES
"""Escapes and spaces may make a text longer than its payload."""

_INTO_DATA: Final = ("effective_at", "source")
_MEMBERS: Final = frozenset({"type", "stream", "expected_version", "data", *_INTO_DATA})


def parse_drafts(
    lines: bytes, actor: str, now: int, *, registry: Registry = REGISTRY
) -> list[Draft]:
    """The drafts of all events, or MalformedError that names the line and the place in it.

    About 8 µs for a line of 500 bytes.
    """
    texts = [(n, text) for n, text in enumerate(lines.split(b"\n"), 1) if text.strip()]
    if not texts:
        raise MalformedError('no event: expected {"type": …, "stream": …, "data": {…}}')
    if len(texts) == 1 or _is_one_value(texts[0][1], lines):
        return [_parse_draft(lines, actor, now, registry)]
    drafts = []
    for number, text in texts:
        try:
            drafts.append(_parse_draft(text, actor, now, registry))
        except MalformedError as error:
            place = error.where.removeprefix("line 1 ")
            raise _moved(error, f"line {number} {place}".rstrip()) from None
    return drafts


def parse_line(text: bytes, actor: str, now: int, *, registry: Registry = REGISTRY) -> Draft:
    """The draft of one line, or MalformedError with the place in it.

    About 8 µs for a line of 500 bytes.
    """
    try:
        return _parse_draft(text, actor, now, registry)
    except MalformedError as error:
        if not error.where.startswith("line 1 "):
            raise
        raise _moved(error, error.where.removeprefix("line 1 ")) from None


def draft_of(
    envelope: dict[str, Any],
    actor: str,
    now: int,
    *,
    read: bool = False,
    registry: Registry = REGISTRY,
) -> Draft:
    """The draft of what a line says, or MalformedError with a pointer into `envelope`.

    For readers of other forms. `envelope["data"]` takes in what stands beside it. `read` promises
    that `parse_json` has read all of it, or that it is text: then there is a quicker way.
    """
    if read and (made := quick_draft_of(envelope, actor, now, registry=registry)) is not None:
        return made
    if not _MEMBERS.issuperset(envelope):
        raise _unknown_member(envelope)
    data = _data_of(envelope)
    try:
        return draft(
            (envelope.get("type", ""), data),
            stream=envelope.get("stream"),
            actor=actor,
            expected_version=envelope.get("expected_version"),
            now=now,
            registry=registry,
        )
    except MalformedError as error:
        raise _moved(error, _in_envelope(error.where, envelope)) from None


def _is_one_value(first_line: bytes, lines: bytes) -> bool:
    """Whether these lines, more than one, are a single JSON text that is spread out."""
    return not _is_json(first_line) and _is_json(lines)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_draft(text: bytes, actor: str, now: int, registry: Registry) -> Draft:
    made = quick_draft(text, actor, now, registry=registry)
    if made is not None:
        return made
    envelope: dict[str, Any] = parse_json_object(text, max_bytes=MAX_LINE_BYTES)
    return draft_of(envelope, actor, now, registry=registry)


def _data_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """The event's data, with what stands beside it taken in."""
    if "type" not in envelope:
        raise MalformedError('the member "type" is missing: such as "note.added/1"')
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise MalformedError('the event\'s fields must be an object: "data": {…}', where="/data")
    for name in _INTO_DATA:
        value = envelope.get(name)
        if value is not None and data.setdefault(name, value) != value:
            raise MalformedError('differs from the one in "data": give one', where=f"/{name}")
    return data


def _unknown_member(envelope: dict[str, Any]) -> MalformedError:
    name = min(envelope.keys() - _MEMBERS)
    near = get_close_matches(name, _MEMBERS, n=1)
    if name in COMMON_FIELDS:
        hint = 'it belongs into "data"'
    elif near:
        hint = f'did you mean "{near[0]}"?'
    else:
        hint = 'the event\'s own fields belong into "data"'
    return MalformedError(f'unknown member "{name[:100]}"; {hint}', where="/" + name[:100])


def _in_envelope(where: str, envelope: dict[str, Any]) -> str:
    """The pointer into the whole text, for one into the data or the name of a member."""
    beside = where[1:].partition("/")[0]
    if beside in _INTO_DATA and envelope.get(beside) is not None:
        return where
    if where == "actor":
        return where
    return f"/data{where}" if where.startswith("/") or not where else f"/{where}"


def _moved(error: MalformedError, where: str) -> MalformedError:
    """The same error with another place."""
    message = str(error)
    if error.where:
        message = message.removeprefix(f"{error.where}: ")
    return type(error)(message, where=where)
