"""Webhooks that this server sends: subscriptions, the log of deliveries, replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from api.service.bodies import read_object
from api.service.describing import JSON_OBJECT, PROBLEM, described, described_body, page_of, shape
from api.service.outgoing.addresses import check_url
from api.service.permissions import needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.remembering import once
from api.service.requests import answer, new_router, now_micros, served
from api.service.texts import optional_text, text, whole
from ledger.canonical import format_time

if TYPE_CHECKING:
    from api.service.outgoing.sending import Sending
    from api.service.outgoing.subscriptions import Subscription

__all__ = ["router"]

router = new_router()

PATH: Final = "/v1/ledgers/{ledger}/webhooks"
BODY: Final = shape({"url": {"type": "string"}, "query": {"type": ["string", "null"]}})
BODY["required"] = ["url"]
EXAMPLE: Final = {"url": "https://hooks.example.com/asof", "query": "type:rollback.*"}
HookPath = Annotated[str, Path(min_length=1, max_length=40)]


@router.get(
    PATH,
    summary="The subscriptions, without their secrets",
    openapi_extra=needs("webhooks:manage"),
    responses=described(page_of("webhooks", JSON_OBJECT)) | PROBLEM,
)
async def every(request: Request) -> Response:
    """With where each stands and how it fares."""
    sending: Sending = request.app.state.sending
    found = await asyncio.to_thread(sending.kept.every, served(request).name)
    told = {"webhooks": [_told(one) for one in found], "next": None, "basis": None}
    return answer(request, told)


@router.post(
    PATH,
    status_code=201,
    summary="Subscribe; the secret is shown once",
    openapi_extra=needs("webhooks:manage") | described_body(BODY, EXAMPLE),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def subscribe(request: Request) -> Response:
    """Entries from now on that pass `query`. The host must be one that the configuration allows."""
    given = await read_object(request)
    return await once(request, given, lambda: _subscribed(request, given), shown_once="secret")


async def _subscribed(request: Request, given: dict[str, Any]) -> Response:
    from api.paging import query as parsed

    here, caller = served(request), caller_of(request)
    url, wanted = text(given, "url"), optional_text(given, "query") or ""
    whole(given, BODY["properties"])
    sending: Sending = request.app.state.sending
    check_url(url, sending.allowed)
    now = now_micros()

    def question(rooms: Any) -> int:
        parsed(rooms, wanted, now=now)
        size: int = rooms.reader.size()
        return size

    size = await here.asked(question)
    made = await asyncio.to_thread(
        sending.kept.make, here.name, url, wanted, by=caller.id, position=size
    )
    return answer(request, _told(made) | {"secret": made.secret}, status=201)


@router.delete(
    PATH + "/{webhook}",
    summary="End a subscription",
    openapi_extra=needs("webhooks:manage"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def end(request: Request, webhook: HookPath) -> Response:
    """Its log goes with it."""
    sending: Sending = request.app.state.sending
    found = await _found(request, webhook)
    await asyncio.to_thread(sending.kept.remove, found.id)
    return answer(request, {"webhook": found.id, "ended": True})


@router.post(
    PATH + "/{webhook}/resumption",
    summary="Go on with a subscription that was disabled, or that pauses",
    openapi_extra=needs("webhooks:manage"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def resume(request: Request, webhook: HookPath) -> Response:
    """From where it stands: nothing is left out."""
    return await once(request, {}, lambda: _resumed(request, webhook))


async def _resumed(request: Request, webhook: str) -> Response:
    sending: Sending = request.app.state.sending
    found = await _found(request, webhook)
    await asyncio.to_thread(sending.kept.resume, found.id)
    return answer(request, _told(await _found(request, webhook)))


@router.get(
    PATH + "/{webhook}/deliveries",
    summary="The log of deliveries, newest first",
    openapi_extra=needs("webhooks:manage"),
    responses=described(page_of("deliveries", JSON_OBJECT)) | PROBLEM,
)
async def deliveries(
    request: Request, webhook: HookPath, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> Response:
    """The newest thousand are kept."""
    sending: Sending = request.app.state.sending
    one = await _found(request, webhook)
    found = await asyncio.to_thread(sending.kept.deliveries, one.id, limit=limit)
    for line in found:
        line["at"] = format_time(line["at"] * 1_000_000)
    return answer(request, {"deliveries": found, "next": None, "basis": None})


@router.post(
    PATH + "/{webhook}/deliveries/{entry}/replay",
    summary="Deliver an entry once more",
    openapi_extra=needs("webhooks:manage"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def replay(
    request: Request, webhook: HookPath, entry: Annotated[int, Path(ge=0, le=2**53 - 1)]
) -> Response:
    """Under the same id, so that a receiver that has it knows."""
    return await once(request, {}, lambda: _replayed(request, webhook, entry))


async def _replayed(request: Request, webhook: str, entry: int) -> Response:
    sending: Sending = request.app.state.sending
    one = await _found(request, webhook)
    record = await served(request).asked(lambda rooms: rooms.reader.entry(entry))
    async with sending.client() as http:
        status, problem = await sending.send(http, one, record)
    await asyncio.to_thread(sending.kept.note, one.id, entry, status=status, problem=problem)
    return answer(request, {"entry": entry, "status": status, "problem": problem})


async def _found(request: Request, webhook: str) -> Subscription:
    sending: Sending = request.app.state.sending
    found = await asyncio.to_thread(sending.kept.get, served(request).name, webhook)
    if found is None:
        raise ProblemError("not-found", f"there is no webhook {webhook[:40]!r}")
    return found


def _told(one: Subscription) -> dict[str, Any]:
    failing = one.failing_since
    return {
        "id": one.id,
        "url": one.url,
        "query": one.query,
        "state": one.state,
        "made_by": one.made_by,
        "made_at": format_time(one.made_at * 1_000_000),
        "position": one.position,
        "failures": one.failures,
        "failing_since": None if failing is None else format_time(failing * 1_000_000),
    }
