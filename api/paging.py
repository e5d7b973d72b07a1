"""Questions whose answers are lists, a page at a time: the log, history, runs, rollbacks.

::

    found = page(rooms, "type:binding.* after:7d", cursor=None, limit=100, order="desc", now=now)
    found.records, found.cursor, found.basis

A cursor is a position, opaque to who holds it: what is appended meanwhile neither shifts a page nor
repeats one. It stands for the basis of its first page too where the order is not the ledger's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ledger.canonical import format_time
from ledger.errors import MalformedError

if TYPE_CHECKING:
    from api.main import Rooms
    from ledger.reader import Basis
    from ledger.record import Record
    from projections.log import Filter

__all__ = [
    "Listed",
    "entries_since",
    "history_page",
    "page",
    "query",
    "rollbacks_page",
    "runs_page",
]

SCANNED: Final = 20_000
"""Entries that a stream looks at before it lets others have their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page; without a cursor it is the last."""

    records: Sequence[Any]
    cursor: str | None
    basis: Basis


def query(rooms: Rooms, text: str, *, now: int) -> Filter:
    """What was typed after `q=`. Raises MalformedError."""
    from projections.search import parse_query

    return parse_query(text, reader=rooms.reader, now=now)


def page(
    rooms: Rooms,
    text: str,
    *,
    cursor: str | None,
    limit: int,
    order: str,
    now: int,
    actor: str | None = None,
) -> Listed:
    """Entries that pass, oldest (asc) or newest (desc) first. With `actor`, only that actor's,
    whatever the query says. A page may be short where little passes; a cursor says that there may
    be more.
    """
    from projections.pages import page as paged

    wanted = query(rooms, text, now=now)
    if actor is not None:
        if wanted.actor not in (None, actor):
            raise MalformedError("your role reads only what you have recorded yourself", where="q")
        wanted = replace(wanted, actor=actor)
    after = None if cursor is None else _numbers(cursor, 1)[0]
    basis = rooms.reader.basis()
    found = paged(rooms.reader, wanted, after=after, limit=limit, newest_first=order == "desc")
    following = None if found.next is None else str(found.next)
    return Listed(records=found.records, cursor=following, basis=basis)


def entries_since(
    rooms: Rooms, text: str, *, start: int, limit: int, now: int
) -> tuple[list[Record], int]:
    """Entries from `start` on that pass, and where to go on: the end where all was looked at."""
    from projections.pages import page as paged

    size = min(rooms.reader.size(), start + SCANNED)
    if size <= start:
        return [], start
    wanted = query(rooms, text, now=now)
    found = paged(rooms.reader, wanted, after=start - 1, limit=limit, newest_first=False, stop=size)
    return list(found.records), size if found.next is None else found.next + 1


def history_page(
    rooms: Rooms,
    pipeline: str,
    stage: str,
    *,
    slot: str | None,
    at: str | None,
    known_at: str | None,
    basis: int | None,
    cursor: str | None,
    limit: int,
    now: int,
) -> Listed:
    """Changes in effect, oldest first."""
    from api.asking import history

    after = None
    if cursor is not None:
        basis, effective_at, index = _numbers(cursor, 3)
        after = (effective_at, index)
    stand = rooms.reader.basis(basis)
    found = history(
        rooms,
        pipeline,
        stage,
        slot=slot,
        at=at,
        known_at=known_at,
        basis=stand.tree_size,
        after=after,
        now=now,
    )
    changes = list(islice(found, limit + 1))
    following = None
    if len(changes) > limit:
        last = changes[limit - 1]
        following = f"{stand.tree_size}.{last.effective_at}.{last.index}"
    shown = [change.as_json() for change in changes[:limit]]
    return Listed(records=shown, cursor=following, basis=stand)


def runs_page(
    rooms: Rooms,
    *,
    pipeline: str | None,
    stage: str | None,
    cursor: str | None,
    limit: int,
    now: int,
) -> Listed:
    """Runs, the one that was recorded last first, with their end where one is recorded."""
    from projections.log import Filter
    from projections.pages import page as paged

    wanted = Filter(pipeline=pipeline, stage=stage, type="run.started")
    after = None if cursor is None else _numbers(cursor, 1)[0]
    basis = rooms.reader.basis()
    found = paged(rooms.reader, wanted, after=after, limit=limit, newest_first=True)
    following = None if found.next is None else str(found.next)
    records = [_run(rooms, record) for record in found.records]
    return Listed(records=records, cursor=following, basis=basis)


def rollbacks_page(rooms: Rooms, *, cursor: str | None, limit: int, actor: str) -> Listed:
    """Rollbacks in the order of their ids; the cursor is the last id."""
    from api.rollback_json import rollback_json

    rollbacks = rooms.rollbacks(actor)
    basis = rooms.reader.basis()
    ids = (name for name in rollbacks.ids() if cursor is None or name > cursor)
    names = list(islice(ids, limit + 1))
    shown = [rollback_json(rollbacks.get(name)) for name in names[:limit]]
    following = names[limit - 1] if len(names) > limit else None
    return Listed(records=shown, cursor=following, basis=basis)


def _run(rooms: Rooms, started: Record) -> dict[str, Any]:
    data = started.data or {}
    ended = next(
        (
            record
            for record in rooms.reader.stream(started.stream, started.version)
            if record.type.startswith("run.finished/")
        ),
        None,
    )
    end = {} if ended is None else ended.data or {}
    return {
        "run": started.stream.removeprefix("run/"),
        "kind": data.get("kind"),
        "pipeline": data.get("pipeline"),
        "stage": data.get("stage"),
        "status": "running" if ended is None else end.get("status"),
        "started_at": format_time(started.effective_at),
        "finished_at": None if ended is None else format_time(ended.effective_at),
        "by": started.actor,
        "state_digest": data.get("state_digest"),
        "inputs": data.get("inputs", []),
        "outputs": end.get("outputs", []),
        "metrics": end.get("metrics", {}),
        "started": started.index,
        "finished": None if ended is None else ended.index,
    }


_NUMBER: Final = re.compile(r"-?\d{1,19}", re.ASCII)


def _numbers(cursor: str, count: int) -> list[int]:
    parts = cursor.split(".")
    if len(parts) != count or not all(_NUMBER.fullmatch(part) for part in parts):
        raise MalformedError("this is no cursor of this list: take it from `next`", where="cursor")
    numbers = [int(part) for part in parts]
    if any(abs(number) >= 1 << 62 for number in numbers):
        raise MalformedError("this is no cursor of this list: take it from `next`", where="cursor")
    return numbers
