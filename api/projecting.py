"""The index as something to look after: how far it is, build it again, throw it away, follow.

::

    with Rooms(settings) as rooms:
        status(rooms, now=now)["lag"]["entries"]

What it answers is for the other commands; nothing here can change what a ledger says.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from api.tuning import tune_for_writing
from ledger.errors import ConflictError, TamperError
from projections.runner import Lag, Listening, Polling, follow, lag_of

if TYPE_CHECKING:
    from api.main import Rooms
    from projections.index import Index, OnUnfit

__all__ = ["drop", "follow_ledger", "rebuild", "status"]


def status(rooms: Rooms, *, now: int) -> dict[str, Any]:
    """How far the index is, what holds it up, what could not be indexed."""
    with closing(rooms.index_as_it_is()) as index:
        problem = _problem(index)
        letters = index.dead_letters()
        size = index.size()
        lag = Lag(rooms.reader.size(), 0.0) if problem else lag_of(rooms.reader, index, now=now)
        return {
            "index": index.name,
            "entries": size,
            "ledger_entries": rooms.reader.size(),
            "lag": {"entries": lag.entries, "seconds": lag.seconds},
            "paused_at": next((one.entry for one in letters if one.entry >= size), None),
            "dead_letters": [one._asdict() for one in letters],
            "builds": [
                {"build": one.number, "entries": one.size, "live": one.live}
                for one in index.builds()
            ],
            "newest_snapshot": index.snapshots().newest(),
            "problem": problem,
        }


def _problem(index: Index) -> str | None:
    """Why the index cannot be used as it is: it will be built again when it is asked."""
    try:
        index.check()
    except (ConflictError, TamperError) as error:
        return str(error)
    return None


def rebuild(rooms: Rooms) -> dict[str, Any]:
    """Build it again beside the live one, and switch. Raises at the first entry it cannot apply."""
    tune_for_writing()
    with closing(rooms.index_as_it_is()) as index, rooms.watch("Rebuilding") as tell:
        rebuilt = index.rebuild(tell)
        return {
            "index": index.name,
            "entries": rebuilt.size,
            "differing": None if rebuilt.differing is None else list(rebuilt.differing),
        }


def drop(rooms: Rooms) -> dict[str, Any]:
    """Drop this ledger's index. The next question builds it again."""
    with closing(rooms.index_as_it_is()) as index:
        size = index.size()
        index.drop()
        return {"index": index.name, "entries": size}


def follow_ledger(rooms: Rooms, *, on_unfit: OnUnfit, stop: threading.Event) -> dict[str, Any]:
    """Index what comes until `stop` is set; woken by PostgreSQL where the ledger lies there."""
    url = rooms.settings.store
    wake = Listening(url, stop) if rooms.in_database else Polling(stop)
    with closing(rooms.index_as_it_is(on_unfit)) as index, closing(wake):
        follow(index, wake)
        return {"index": index.name, "entries": index.size()}
