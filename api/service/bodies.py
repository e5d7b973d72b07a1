"""A request's body: bounded while it arrives, unpacked within bounds, strict when it is read.

::

    body = await read_body(request, limits)            # bytes, as they were meant
    given = await read_object(request)                 # strict: docs/spec/canonical.md
    drafts = read_events(request, body, actor, now)    # one event, {"events": […]}, or JSON lines

What does not fit is refused before it is kept: 413 for its size, 408 for its time, 415 for its
form. docs/spec/http.md, rules 6 and 7.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request

from api.service.problems import ProblemError
from ledger.canonical import MAX_DEPTH, parse_json, parse_json_object
from ledger.errors import MalformedError
from ledger.events.lines import draft_of, parse_drafts

if TYPE_CHECKING:
    from ledger.draft import Draft

__all__ = ["BodyLimits", "media_type_of", "read_body", "read_events", "read_object"]

JSON: Final = "application/json"
JSON_LINES: Final = ("application/x-ndjson", "application/jsonl")
MOST_EVENTS: Final = 50_000
MOST_RATIO: Final = 100
SMALL: Final = 64 << 10
GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How much is taken in, packed or not, and how long it may take to arrive."""

    max_bytes: int = 8 << 20
    seconds: float = 30.0


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The body, unpacked. Raises ProblemError: `too-large`, `timeout`, `unsupported-media-type`,
    `malformed` for a gzip that is none.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            packed = await _received(request, limits)
    except TimeoutError:
        raise ProblemError(
            "timeout",
            f"the body did not arrive within {limits.seconds:g} seconds",
            headers={"Connection": "close"},
        ) from None
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return packed
    if encoding != "gzip":
        raise ProblemError(
            "unsupported-media-type", "a body is packed with gzip, or not at all: Content-Encoding"
        )
    return _unpacked(packed, limits)


def media_type_of(request: Request, *allowed: str) -> str:
    """The body's media type. Raises ProblemError `unsupported-media-type` unless it is one of
    these, in UTF-8.
    """
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    media = media.strip().lower()
    if media not in allowed:
        raise ProblemError(
            "unsupported-media-type",
            f"Content-Type must be {' or '.join(allowed)}",
            headers={"Accept": ", ".join(allowed)},
        )
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('"').lower() not in ("utf-8", "utf8"):
            raise ProblemError("unsupported-media-type", "the charset must be UTF-8")
    return media


async def read_object(request: Request) -> dict[str, Any]:
    """The object that the body is, application/json. Raises what `read_body` and `media_type_of`
    do, and MalformedError with the place.
    """
    media_type_of(request, JSON)
    body = await read_body(request, request.app.state.body_limits)
    return parse_json_object(body, max_bytes=len(body))


def read_events(request: Request, body: bytes, actor: str, now: int) -> list[Draft]:
    """The drafts of all events in the body, who acts being the caller.

    Raises ProblemError: `malformed` for text that is no strict JSON, `unfit-event` for an event
    that its type does not take, with a pointer to it; `too-large` for too many.
    """
    media = media_type_of(request, JSON, *JSON_LINES)
    try:
        drafts = _of_json(body, actor, now) if media == JSON else _of_lines(body, actor, now)
    except UnfitError as unfit:
        raise ProblemError("unfit-event", str(unfit.error), pointer=unfit.pointer) from None
    except MalformedError as error:
        pointer = error.where if error.where.startswith("/") else ""
        raise ProblemError("malformed", str(error), pointer=pointer) from None
    if len(drafts) > MOST_EVENTS:
        raise ProblemError("too-large", f"a batch has at most {MOST_EVENTS} events")
    return drafts


class UnfitError(Exception):
    """An event that was read and does not fit; `pointer` leads to the place in the whole body."""

    def __init__(self, error: MalformedError, pointer: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.pointer = pointer


def _of_json(body: bytes, actor: str, now: int) -> list[Draft]:
    value = parse_json(body, max_bytes=len(body), max_depth=MAX_DEPTH + 2)
    if isinstance(value, dict) and "events" in value:
        events = value["events"]
        if len(value) != 1 or not isinstance(events, list) or not events:
            raise MalformedError('a batch is {"events": [event, …]} and nothing beside it')
        return [_draft(event, f"/events/{at}", actor, now) for at, event in enumerate(events)]
    return [_draft(value, "", actor, now)]


def _draft(event: Any, place: str, actor: str, now: int) -> Draft:
    if not isinstance(event, dict):
        raise UnfitError(MalformedError("an event is an object", where=place), place)
    try:
        return draft_of(event, actor, now, read=True)
    except MalformedError as error:
        where = error.where if error.where.startswith("/") else ""
        raise UnfitError(error, place + where) from None


def _of_lines(body: bytes, actor: str, now: int) -> list[Draft]:
    try:
        return parse_drafts(body, actor, now)
    except MalformedError as error:
        _, _, pointer = error.where.partition(" ")
        raise UnfitError(error, pointer if pointer.startswith("/") else "") from None


async def _received(request: Request, limits: BodyLimits) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ProblemError("malformed", "the connection was closed within the body")
        part = message.get("body", b"")
        size += len(part)
        if size > limits.max_bytes:
            raise _too_large(limits)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacked(packed: bytes, limits: BodyLimits) -> bytes:
    """One gzip member, whole, within the limit and not blown up beyond the ratio."""
    most = min(limits.max_bytes, max(SMALL, MOST_RATIO * len(packed)))
    stream = zlib.decompressobj(GZIP)
    try:
        data = stream.decompress(packed, most + 1)
    except zlib.error:
        raise ProblemError("malformed", "the body is not in the gzip that it says it is") from None
    if len(data) > most:
        raise _too_large(limits)
    if not stream.eof or stream.unused_data:
        raise ProblemError("malformed", "the gzip of the body ends too early, or goes on after it")
    return data


def _too_large(limits: BodyLimits) -> ProblemError:
    return ProblemError(
        "too-large",
        f"a body has at most {limits.max_bytes} bytes, packed or not, and unpacks to at most "
        f"{MOST_RATIO} times its size",
        headers={"Connection": "close"},
    )
