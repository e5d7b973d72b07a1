"""Ingest: webhooks of systems, CloudEvents, OpenLineage. Answered with 2xx when it is durable."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Path, Query, Request
from starlette.responses import Response

from api.service.bodies import media_type_of, read_body
from api.service.describing import JSON_OBJECT, PROBLEM, described, described_body, page_of
from api.service.permissions import PUBLIC, needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.requests import answer, new_router, now_micros, served
from ledger.canonical import format_json, format_time, parse_json
from ledger.errors import AsofError, MalformedError, RefusedError

if TYPE_CHECKING:
    from api.service.ingest.recording import Ingest
    from api.service.ledgers import Served

__all__ = ["Source", "router"]

router = new_router()

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
MOST_BATCH: Final = 1_000
KEPT_HEADERS: Final = ("x-mlflow-", "webhook-id", "x-github-event", "ce-", "content-type")


@dataclass(frozen=True, slots=True)
class Source:
    """A configured sender of webhooks: its system's hook, its secrets, the ledger it may reach."""

    system: str
    hook: Any
    secrets: Sequence[str]
    ledger: str | None = None


@router.post(
    "/v1/ledgers/{ledger}/ingest/cloudevents",
    status_code=202,
    summary="CloudEvents 1.0: structured, binary, or a batch",
    openapi_extra=needs("ingest")
    | {
        "requestBody": {
            "required": True,
            "content": {
                STRUCTURED: {
                    "schema": JSON_OBJECT,
                    "example": {
                        "specversion": "1.0",
                        "id": "7",
                        "source": "/ci/build",
                        "type": "asof.note.added/1",
                        "subject": "note/release",
                        "data": {"text": "go"},
                    },
                },
                BATCH: {"schema": {"type": "array", "items": JSON_OBJECT}},
            },
        }
    },
    responses=described(JSON_OBJECT, status=202) | PROBLEM,
)
async def cloudevents(request: Request) -> Response:
    """Types that begin with `asof.` are events of the vocabulary; the others are observations."""
    from api.main import cloudevent_of_headers

    here, caller = served(request), caller_of(request)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, request.app.state.body_limits)
    if media in (STRUCTURED, BATCH):
        found = _json(body)
        events = found if media == BATCH else [found]
    else:
        media_type_of(request, "application/json", STRUCTURED, BATCH)
        events = [cloudevent_of_headers(dict(request.headers), _json(body))]
    if not isinstance(events, list) or len(events) > MOST_BATCH:
        raise MalformedError(f"a batch is a list of at most {MOST_BATCH} events")
    new = 0
    for place, event in enumerate(events):
        where = f"/{place}" if media == BATCH else ""
        if not isinstance(event, dict):
            raise MalformedError("an event is an object", where=where or "/")
        new += await _take(request, here, "cloudevents", event, caller.id, where)
    return answer(request, {"received": len(events), "new": new}, status=202)


@router.options(
    "/v1/ledgers/{ledger}/ingest/cloudevents",
    summary="The handshake of CloudEvents' webhooks",
    openapi_extra=needs(PUBLIC),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def handshake(request: Request) -> Response:
    """Senders that are configured (`[ingest] origins`) may deliver; a token is needed all the
    same."""
    origin = request.headers.get("webhook-request-origin", "")
    allowed: Sequence[str] = request.app.state.ingest_origins
    if not origin or origin not in allowed:
        raise ProblemError("refused", "this sender is not among the origins that may deliver")
    headers = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*", "Allow": "POST"}
    return Response(status_code=200, headers=headers)


@router.post(
    "/openlineage/api/v1/lineage",
    status_code=201,
    summary="An OpenLineage event; the ledger is that of the token",
    openapi_extra=needs("ingest") | described_body(JSON_OBJECT, {"eventType": "START"}),
    responses=described(JSON_OBJECT, status=201) | PROBLEM,
)
async def lineage(request: Request) -> Response:
    """Run, dataset or job event; unknown facets are kept."""
    here, caller = _ledger_of(request), caller_of(request)
    media_type_of(request, "application/json")
    event = _object(await read_body(request, request.app.state.body_limits))
    new = await _take(request, here, "openlineage", event, caller.id, "")
    return answer(request, {"received": 1, "new": new}, status=201)


@router.post(
    "/openlineage/api/v1/lineage/batch",
    summary="OpenLineage events, each for itself",
    openapi_extra=needs("ingest")
    | described_body({"type": "array", "items": JSON_OBJECT}, [{"eventType": "START"}]),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def lineage_batch(request: Request) -> Response:
    """What is wrong with one keeps none of the others out."""
    here, caller = _ledger_of(request), caller_of(request)
    media_type_of(request, "application/json")
    events = _json(await read_body(request, request.app.state.body_limits))
    if not isinstance(events, list) or len(events) > MOST_BATCH:
        raise MalformedError(f"a batch is a list of at most {MOST_BATCH} events")
    failed: list[dict[str, Any]] = []
    for place, event in enumerate(events):
        try:
            if not isinstance(event, dict):
                raise MalformedError("an event is an object", where="/")
            await _take(request, here, "openlineage", event, caller.id, "")
        except (AsofError, ProblemError) as error:
            failed.append({"index": place, "reason": str(error), "retriable": _may_retry(error)})
    retry = sum(1 for one in failed if one["retriable"])
    told = {
        "status": "partial_success" if failed else "success",
        "summary": {
            "received": len(events),
            "successful": len(events) - len(failed),
            "failed": len(failed),
            "retriable": retry,
            "non_retriable": len(failed) - retry,
        },
        "failed_events": failed,
    }
    return answer(request, told)


@router.post(
    "/v1/ledgers/{ledger}/ingest/{source}",
    status_code=202,
    summary="A webhook of a system, which proves itself by its signature",
    openapi_extra=needs(PUBLIC) | described_body(JSON_OBJECT, {"ref": "refs/heads/main"}),
    responses=described(JSON_OBJECT, status=202) | PROBLEM,
)
async def webhook(
    request: Request, source: Annotated[str, Path(min_length=1, max_length=100)]
) -> Response:
    """`source` is configured (`[ingest.NAME]`) with its system and secret. What proves nothing is a
    401, whether or not there is such a source or ledger. What proves itself and cannot be recorded
    is dead, with the reason (`…/ingest/spool`): its sender would not send it again.
    """
    sources: Mapping[str, Source] = request.app.state.sources
    found, name = sources.get(source), request.path_params["ledger"]
    body = await read_body(request, request.app.state.body_limits)
    here = request.app.state.ledgers.get(name)
    headers = dict(request.headers)
    if found is None or here is None or found.ledger not in (None, name):
        hmac.new(b"nobody", body, "sha256").digest()  # the time tells nothing
        raise _unproved()
    try:
        delivery = found.hook.verify(headers, body, found.secrets, now_micros())
    except RefusedError:
        raise _unproved() from None
    greeting = found.hook.greet(headers, body)
    if greeting is not None:
        return answer(request, greeting)
    ingest: Ingest = request.app.state.ingest
    kept = {header: value for header, value in headers.items() if header.startswith(KEPT_HEADERS)}
    new = await ingest.take(
        here,
        found.system,
        delivery=f"{source}/{delivery.id[:200]}",
        actor=f"service:{source}",
        headers=kept,
        body=body,
        happened=True,
    )
    return answer(request, {"received": 1, "new": int(new)}, status=202)


@router.get(
    "/v1/ledgers/{ledger}/ingest/spool",
    summary="What was taken in and is not recorded: waiting, or dead with the reason",
    openapi_extra=needs("ingest:read"),
    responses=described(page_of("deliveries", JSON_OBJECT)) | PROBLEM,
)
async def spool(
    request: Request,
    state: Annotated[str, Query(pattern="^(waiting|dead)$")] = "dead",
    cursor: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """In the order of arrival, without bodies."""
    import asyncio

    ingest: Ingest = request.app.state.ingest
    found = await asyncio.to_thread(
        ingest.spool.listed, served(request).name, state=state, after=cursor, limit=limit
    )
    for one in found:
        one["taken_at"] = format_time(one["taken_at"] * 1_000_000)
    following = str(found[-1]["id"]) if len(found) == limit else None
    return answer(request, {"deliveries": found, "next": following, "basis": None})


@router.post(
    "/v1/ledgers/{ledger}/ingest/spool/{delivery}/retry",
    status_code=202,
    summary="Try a dead delivery again",
    openapi_extra=needs("webhooks:manage"),
    responses=described(JSON_OBJECT, status=202) | PROBLEM,
)
async def retry(request: Request, delivery: Annotated[int, Path(ge=1, le=2**53 - 1)]) -> Response:
    """Once what was in its way is mended. Its recordings keep their keys: none is made twice."""
    ingest: Ingest = request.app.state.ingest
    if not await ingest.retry(served(request).name, delivery):
        raise ProblemError("not-found", f"there is no dead delivery {delivery}")
    return answer(request, {"delivery": delivery, "state": "waiting"}, status=202)


async def _take(
    request: Request,
    here: Served,
    system: str,
    event: dict[str, Any],
    actor: str,
    where: str,
) -> int:
    """Take one event of a system whose senders have tokens. Its delivery is its content."""
    ingest: Ingest = request.app.state.ingest
    body = format_json(event)
    mark = hashlib.sha256(actor.encode() + b"\n" + body).hexdigest()
    try:
        return int(
            await ingest.take(here, system, delivery=mark, actor=actor, headers={}, body=body)
        )
    except MalformedError as error:
        place = error.where if error.where.startswith("/") else ""
        raise ProblemError("unfit-event", str(error), pointer=where + place) from None


def _may_retry(error: AsofError | ProblemError) -> bool:
    if isinstance(error, ProblemError):
        return error.problem.status == 503
    return not isinstance(error, (MalformedError, RefusedError))


def _ledger_of(request: Request) -> Served:
    """The one ledger in which the caller may ingest. Raises ProblemError where there are
    several.
    """
    name = caller_of(request).ledger
    if name is None:
        raise ProblemError("malformed", "this token reaches several ledgers: use one for each")
    found: Served = request.app.state.ledgers[name]
    return found


def _json(body: bytes) -> Any:
    return parse_json(body, max_bytes=max(1, len(body)))


def _object(body: bytes) -> dict[str, Any]:
    found = _json(body)
    if not isinstance(found, dict):
        raise MalformedError("an event is an object", where="/")
    return found


def _unproved() -> ProblemError:
    return ProblemError(
        "unauthenticated", "the delivery does not prove that it comes from a known source"
    )
