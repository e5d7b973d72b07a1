"""Entries as they come: server-sent events whose id is the entry's index.

::

    curl -N -H "Authorization: Bearer $ASOF_TOKEN" \\
      'https://ledger.example.com/v1/ledgers/acme/stream?q=type:binding.*' -H 'Last-Event-ID: 1203'

A client that comes back with `Last-Event-ID` goes on behind that entry: nothing is left out and
nothing comes twice. A comment each `BEAT_SECONDS` tells both sides that the line is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from api.service.describing import PROBLEM, described_as
from api.service.ledgers import Served
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.requests import new_router, now_micros, served

if TYPE_CHECKING:
    from api.main import Rooms

__all__ = ["router"]

router = new_router()

BEAT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.25
PAGE: Final = 200
MOST_STREAMS: Final = 200


@router.get(
    "/v1/ledgers/{ledger}/stream",
    summary="Entries as they are recorded (server-sent events)",
    openapi_extra=needs("entries:read")
    | {
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "integer", "minimum": 0},
            }
        ]
    },
    responses=described_as("text/event-stream") | PROBLEM,
)
async def stream(
    request: Request,
    q: Annotated[str, Query(max_length=2_000, description="actor: type: stage: …")] = "",
    after: Annotated[
        int | None, Query(ge=-1, le=2**53 - 1, description="as Last-Event-ID; -1: from the first")
    ] = None,
) -> Response:
    """From behind `Last-Event-ID` (or `after`), or from now on."""
    here = served(request)
    size = await here.asked(lambda rooms: rooms.reader.size())
    last = _last_seen(request, after)
    if last is not None and last >= size:
        raise ProblemError(
            "malformed", f"Last-Event-ID {last}: the ledger has {size} entries, counted from 0"
        )
    _check_query(await here.asked(lambda rooms: _parsed(rooms, q)))
    streams: set[object] = request.app.state.streams
    if len(streams) >= MOST_STREAMS:
        raise ProblemError(
            "unavailable", "the server has as many streams open as it takes", headers=_RETRY
        )
    note = getattr(request.app.state, "note_read", None)
    if note is not None:
        await note(request, "stream", 1)
    caller = caller_of(request)
    events = _events(request, here, q, size if last is None else last + 1, streams, caller.id)
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


_RETRY: Final = {"Retry-After": "5"}


def _last_seen(request: Request, after: int | None) -> int | None:
    given = request.headers.get("last-event-id")
    if given is None:
        return after
    if not given.isdecimal() or len(given) > 16:
        raise ProblemError("malformed", "Last-Event-ID must be the index of an entry")
    return int(given)


def _parsed(rooms: Rooms, q: str) -> Any:
    from api.paging import query

    return query(rooms, q, now=now_micros())


def _check_query(wanted: Any) -> None:
    """A stream has no end: `before:` would be a promise that it cannot keep."""
    if wanted.end is not None:
        raise ProblemError("malformed", "before: has no meaning in a stream, which has no end")


async def _events(
    request: Request, here: Served, q: str, start: int, streams: set[object], who: str
) -> AsyncIterator[bytes]:
    """Pages of what is there, then whatever comes, looked for at intervals; ends with the
    connection or with the server.
    """
    token = object()
    streams.add(token)
    at, quiet = start, 0.0
    stopping: asyncio.Event = request.app.state.stopping
    allowed = request.app.state.still_allowed
    try:
        yield b": open\nretry: 2000\n\n"
        while not stopping.is_set() and allowed(request):
            here_now = at

            def question(rooms: Rooms, since: int = here_now) -> tuple[list[Any], int]:
                from api.paging import entries_since

                return entries_since(rooms, q, start=since, limit=PAGE, now=now_micros())

            records, at = await here.asked(question)
            for record in records:
                yield _event(record.as_json())
            if records:
                quiet = 0.0
            if at == here_now:
                await _pause(stopping)
                quiet += LOOK_SECONDS
            if quiet >= BEAT_SECONDS:
                quiet = 0.0
                yield b": still here\n\n"
    finally:
        streams.discard(token)


def _event(record: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: entry\ndata: %s\n\n" % (record["index"], orjson.dumps(record))


async def _pause(stopping: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await stopping.wait()
    except TimeoutError:
        pass
