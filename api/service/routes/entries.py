"""Appending, and the log: POST and GET of `entries`, one entry, its proof and its receipt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from fastapi import Path, Query, Request
from starlette.responses import Response

from api.service.bodies import read_body, read_events
from api.service.describing import (
    APPEND_BODY,
    APPENDED,
    ENTRY,
    JSON_OBJECT,
    PAGE,
    PROBLEM,
    described,
    described_as,
    described_list,
)
from api.service.forms import listed_page
from api.service.permissions import check_recordable, needs
from api.service.principal import caller_of
from api.service.problems import ProblemError
from api.service.requests import answer, idempotency_key, new_router, now_micros, served
from ledger.canonical import format_base64, format_time
from ledger.errors import ConflictError, KeyReusedError
from ledger.proof import format_proof
from ledger.receipt import Receipt, format_receipt, spelled

if TYPE_CHECKING:
    from api.main import Rooms
    from ledger.draft import Draft
    from ledger.group import Appended

__all__ = ["router"]

router = new_router()

IndexPath = Annotated[int, Path(ge=0, le=2**53 - 1, description="the entry's place, from 0")]
MANY: Final = 1_000
ENTRY_COLUMNS = (
    "index",
    "recorded_at",
    "effective_at",
    "type",
    "stream",
    "version",
    "actor",
    "data",
)


@router.post(
    "/v1/ledgers/{ledger}/entries",
    status_code=201,
    summary="Append a batch: all of it or nothing",
    openapi_extra=needs("entries:append") | APPEND_BODY,
    responses=described(APPENDED, status=201) | described(APPENDED) | PROBLEM,
)
async def append(request: Request) -> Response:
    """Answers when the entries are durable, with a receipt for each; 200 and the first answer where
    the key was used for the same batch before.
    """
    here, caller = served(request), caller_of(request)
    key = idempotency_key(request, caller.id)
    body = await read_body(request, request.app.state.body_limits)
    drafts = _expecting(request, read_events(request, body, caller.id, now_micros()))
    for place, one in enumerate(drafts):
        check_recordable(one.type, f"/events/{place}: ")
    try:
        done = await here.append(drafts, key=key)
    except ConflictError as error:
        if "if-match" not in request.headers or isinstance(error, KeyReusedError):
            raise
        raise ProblemError("precondition-failed", str(error)) from None
    request.scope["state"]["index"] = done.first_index
    minimal = _prefers_minimal(request)
    if done.repeated or done.count > MANY:  # receipts out of the store, or many: not in the loop
        return await asyncio.to_thread(_appended, done, minimal=minimal)
    return _appended(done, minimal=minimal)


@router.get(
    "/v1/ledgers/{ledger}/entries",
    summary="The log, by pages",
    openapi_extra=needs("entries:read", "entries:read-own"),
    responses=described_list(PAGE) | PROBLEM,
)
async def entries(
    request: Request,
    q: Annotated[str, Query(max_length=2_000, description="actor: type: stage: before: …")] = "",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "asc",
    format: Annotated[str | None, Query(pattern="^(json|jsonl|csv)$")] = None,
) -> Response:
    """Entries that pass `q`, oldest (asc) or newest (desc) first."""
    here, caller = served(request), caller_of(request)
    own = None if caller.may("entries:read") else caller.id
    now = now_micros()

    def question(rooms: Rooms) -> Any:
        from api.paging import page

        return page(rooms, q, cursor=cursor, limit=limit, order=order, actor=own, now=now)

    found = await here.asked(question)
    await _note_read(request, len(found.records))
    return listed_page(request, found, columns=ENTRY_COLUMNS, name="entries", form=format)


@router.get(
    "/v1/ledgers/{ledger}/entries/{index}",
    summary="One entry",
    openapi_extra=needs("entries:read", "entries:read-own"),
    responses=described(ENTRY) | PROBLEM,
)
async def entry(request: Request, index: IndexPath) -> Response:
    """What it says, who recorded it, and its place in the chain."""
    here, caller = served(request), caller_of(request)
    record = await here.asked(lambda rooms: rooms.reader.entry(index))
    if not caller.may("entries:read") and record.actor != caller.id:
        raise ProblemError("not-found", f"there is no entry {index} for you")
    await _note_read(request, 1)
    return answer(request, record.as_json(), headers={"Cache-Control": "private, max-age=60"})


@router.get(
    "/v1/ledgers/{ledger}/entries/{index}/proof",
    summary="The proof that an entry is in the ledger (.tlog-proof)",
    openapi_extra=needs("proof:read"),
    responses=described_as("text/plain") | PROBLEM,
)
async def proof(request: Request, index: IndexPath) -> Response:
    """c2sp.org/tlog-proof, on the newest checkpoint."""
    found = await served(request).asked(lambda rooms: format_proof(rooms.reader.inclusion(index)))
    return Response(found, media_type="text/plain", headers={"Cache-Control": "no-store"})


@router.get(
    "/v1/ledgers/{ledger}/entries/{index}/receipt",
    summary="A receipt, on the newest checkpoint",
    openapi_extra=needs("proof:read"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def receipt(request: Request, index: IndexPath) -> Response:
    """docs/spec/receipt.md: canonical, so keep the bytes as they are."""

    def question(rooms: Rooms) -> bytes:
        reader = rooms.reader
        shown = reader.inclusion(index)
        return format_receipt(
            Receipt(
                index=index,
                leaf_hash=reader.leaf_hash(index),
                entry=reader.entry_bytes(index),
                checkpoint=shown.checkpoint,
                hashes=tuple(shown.hashes),
            )
        )

    found = await served(request).asked(question)
    return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get(
    "/v1/ledgers/{ledger}/consistency",
    summary="The proof that one tree is the beginning of another",
    openapi_extra=needs("proof:read"),
    responses=described(JSON_OBJECT) | PROBLEM,
)
async def consistency(
    request: Request,
    start: Annotated[int, Query(alias="from", ge=1, le=2**53 - 1)],
    to: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None,
) -> Response:
    """Between the trees of `from` and `to` entries; `to` is the newest by default."""

    def question(rooms: Rooms) -> dict[str, Any]:
        reader = rooms.reader
        size = reader.size() if to is None else to
        return {
            "from": start,
            "to": size,
            "from_root": reader.root(start).hex(),
            "to_root": reader.root(size).hex(),
            "proof": [format_base64(node) for node in reader.consistency(start, size)],
        }

    return answer(request, await served(request).asked(question))


def _expecting(request: Request, drafts: list[Draft]) -> list[Draft]:
    """`If-Match: "<version>"` is the expected version of the one event of a batch."""
    given = request.headers.get("if-match")
    if given is None:
        return drafts
    version = given.strip().strip('"')
    if not version.isdecimal() or len(version) > 16:
        raise ProblemError("malformed", 'If-Match must be the stream\'s version, such as "3"')
    if len(drafts) != 1 or drafts[0].expected_version not in (None, int(version)):
        raise ProblemError(
            "malformed", "If-Match goes with one event, which names no other expected_version"
        )
    return [drafts[0]._replace(expected_version=int(version))]


def _prefers_minimal(request: Request) -> bool:
    words = request.headers.get("prefer", "").replace(" ", "").lower().split(",")
    return "return=minimal" in words


def _appended(done: Appended, *, minimal: bool) -> Response:
    body: dict[str, Any] = {
        "first_index": done.first_index,
        "count": done.count,
        "recorded_at": format_time(done.recorded_at),
        "tree_size": done.tree_size,
        "repeated": done.repeated,
        "checkpoint": done.checkpoint.decode(),
    }
    if not minimal:
        body["receipts"] = [
            {
                "index": one.index,
                "leaf_hash": one.leaf_hash,
                "entry": one.entry,
                "proof": orjson.Fragment(one.proof),
            }
            for one in spelled(done.receipts)
        ]
    headers = {"Cache-Control": "no-store"}
    if done.repeated:
        headers["Idempotent-Replayed"] = "true"
    if minimal:
        headers["Preference-Applied"] = "return=minimal"
    return Response(
        orjson.dumps(body),
        status_code=200 if done.repeated else 201,
        media_type="application/json",
        headers=headers,
    )


async def _note_read(request: Request, count: int) -> None:
    """Reads of what entries say are themselves entries (docs/access.md)."""
    note = getattr(request.app.state, "note_read", None)
    if note is not None:
        await note(request, "read", count)
