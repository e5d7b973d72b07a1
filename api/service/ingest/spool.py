"""The spool of deliveries: durable before the sender is answered, recorded afterwards, once.

::

    spool = Spool(folder / "spool.db")
    spool.take("acme", "openlineage", delivery="…", actor="service:airflow", headers={}, body=b"…")
    for waiting in spool.waiting(limit=100): …
    spool.done(waiting.id)          # or spool.dead(waiting.id, "why")

One SQLite file of the service, WAL with synchronous=FULL, as durable as a ledger's. A delivery
that comes again under its id within `KEPT` is known and not taken twice. What happens if we die:
before `take` returned the sender got no 2xx and sends again; after it the row waits, and each of
its recordings has a key of its own in the ledger, so recording twice is recording once.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from ledger.errors import StoreError

__all__ = ["Spool", "Waiting"]

KEPT: Final = 7 * 86_400
MOST_BYTES: Final = 1 << 30
_SCHEMA: Final = (Path(__file__).with_name("spool.sql")).read_text(encoding="utf-8")


class Waiting(NamedTuple):
    """A delivery that is not recorded yet."""

    id: int
    ledger: str
    system: str
    delivery: str
    actor: str
    headers: dict[str, str]
    body: bytes
    attempts: int


class Spool:
    """Thread-safe; one process at a time owns the file."""

    def __init__(self, path: Path, *, limit: int = MOST_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._limit = limit
        self._mutex = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: the spool cannot be opened: {error}") from None
        self._path = path
        path.chmod(0o600)

    def take(
        self,
        ledger: str,
        system: str,
        *,
        delivery: str,
        actor: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> bool:
        """Keep a delivery; durable when it returns. False where it is known already. Raises
        StoreError where the spool is full, or cannot be written.
        """
        with self._mutex, self._translated():
            (held,) = self._connection.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM delivery WHERE state = 'waiting'"
            ).fetchone()
            if held + len(body) > self._limit:
                raise StoreError("the spool of deliveries is full: the ledger has not taken them")
            done = self._connection.execute(
                "INSERT INTO delivery (ledger, system, delivery, actor, headers, body, taken_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    ledger,
                    system,
                    delivery,
                    actor,
                    orjson.dumps(dict(headers)).decode(),
                    body,
                    int(time.time()),
                ),
            )
            return done.rowcount == 1

    def waiting(self, *, limit: int) -> list[Waiting]:
        """The oldest that wait and whose turn it is."""
        with self._mutex, self._translated():
            rows = self._connection.execute(
                "SELECT id, ledger, system, delivery, actor, headers, body, attempts FROM delivery"
                " WHERE state = 'waiting' AND not_before <= ? ORDER BY id LIMIT ?",
                (int(time.time()), limit),
            ).fetchall()
        return [Waiting._make((*row[:5], orjson.loads(row[5]), *row[6:])) for row in rows]

    def done(self, delivery: int) -> None:
        """It is recorded. Its id is kept for a week, its body is not."""
        self._set(delivery, "UPDATE delivery SET state = 'done', body = x'' WHERE id = ?")
        with self._mutex, self._translated():
            self._connection.execute(
                "DELETE FROM delivery WHERE state = 'done' AND taken_at < ?",
                (int(time.time()) - KEPT,),
            )

    def dead(self, delivery: int, why: str) -> None:
        """It can never be recorded as it is: kept, with the reason, for somebody to look at."""
        with self._mutex, self._translated():
            self._connection.execute(
                "UPDATE delivery SET state = 'dead', reason = ? WHERE id = ?", (why, delivery)
            )

    def later(self, delivery: int, seconds: float, why: str) -> None:
        """It could not be recorded now: its next turn is after so many seconds."""
        with self._mutex, self._translated():
            self._connection.execute(
                "UPDATE delivery SET attempts = attempts + 1, not_before = ?, reason = ?"
                " WHERE id = ?",
                (int(time.time() + seconds), why, delivery),
            )

    def listed(self, ledger: str, *, state: str, after: int, limit: int) -> list[dict[str, Any]]:
        """What waits, or is dead, without bodies; in the order of arrival."""
        with self._mutex, self._translated():
            rows = self._connection.execute(
                "SELECT id, system, delivery, actor, state, attempts, reason, taken_at"
                " FROM delivery WHERE ledger = ? AND state = ? AND id > ? ORDER BY id LIMIT ?",
                (ledger, state, after, limit),
            ).fetchall()
        names = ("id", "system", "delivery", "actor", "state", "attempts", "reason", "taken_at")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many wait and how many are dead."""
        with self._mutex, self._translated():
            rows = self._connection.execute("SELECT state, count(*) FROM delivery GROUP BY state")
            return {"waiting": 0, "dead": 0} | dict(rows.fetchall())

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _set(self, delivery: int, statement: str) -> None:
        with self._mutex, self._translated():
            self._connection.execute(statement, (delivery,))

    def _translated(self) -> _Translated:
        return _Translated(self._path)


class _Translated:
    """SQLite's errors in our words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self._path}: {error}") from None
