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

What waits is bounded in bytes. What is dead is kept for as long as the file is; the bodies of the
dead have a bound of their own, beyond which only the reason and the digest are kept: senders of
what can never be recorded must not keep others out.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from api.service.own_files import own_file
from ledger.errors import ConflictError, StoreError

__all__ = ["Spool", "Waiting"]

KEPT: Final = 7 * 86_400
MOST_BYTES: Final = 1 << 30
MOST_DEAD_BYTES: Final = 64 << 20
PRUNE_SECONDS: Final = 60.0
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
        self._limit = limit
        self._mutex = threading.Lock()
        self._pruned = 0.0
        try:
            own_file(path)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._connection.executescript(_SCHEMA)
            self._held = {state: self._bytes_of(state) for state in ("waiting", "dead")}
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: the spool cannot be opened: {error}") from None
        self._path = path

    def take(
        self,
        ledger: str,
        system: str,
        *,
        delivery: str,
        actor: str,
        headers: Mapping[str, str],
        body: bytes,
        dead: str | None = None,
    ) -> bool:
        """Keep a delivery; durable when it returns. False where it is known already. With `dead`,
        the reason why it can never be recorded, it does not wait. Raises StoreError where the spool
        is full, or cannot be written.
        """
        state = "waiting" if dead is None else "dead"
        with self._mutex, self._translated():
            if dead is not None:
                body, dead = self._within(body, dead)
            elif self._held[state] + len(body) > self._limit:
                raise StoreError("the spool of deliveries is full: the ledger has not taken them")
            done = self._connection.execute(
                "INSERT INTO delivery"
                " (ledger, system, delivery, actor, headers, body, taken_at, state, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    ledger,
                    system,
                    delivery,
                    actor,
                    orjson.dumps(dict(headers)).decode(),
                    body,
                    int(time.time()),
                    state,
                    dead,
                ),
            )
            new = done.rowcount == 1
            self._held[state] += len(body) if new else 0
            return new

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
        with self._mutex, self._translated():
            size = self._size_of(delivery)
            self._connection.execute(
                "UPDATE delivery SET state = 'done', body = x'', reason = NULL WHERE id = ?",
                (delivery,),
            )
            self._held["waiting"] -= size
            self._prune()

    def dead(self, delivery: int, why: str) -> None:
        """It can never be recorded as it is: kept, with the reason, for somebody to look at."""
        with self._mutex, self._translated():
            (body,) = self._connection.execute(
                "SELECT body FROM delivery WHERE id = ?", (delivery,)
            ).fetchone()
            kept, why = self._within(body, why)
            self._connection.execute(
                "UPDATE delivery SET state = 'dead', body = ?, reason = ? WHERE id = ?",
                (kept, why, delivery),
            )
            self._held["waiting"] -= len(body)
            self._held["dead"] += len(kept)

    def later(self, delivery: int, seconds: float, why: str) -> None:
        """It could not be recorded now: its next turn is after so many seconds."""
        with self._mutex, self._translated():
            self._connection.execute(
                "UPDATE delivery SET attempts = attempts + 1, not_before = ?, reason = ?"
                " WHERE id = ?",
                (math.ceil(time.time() + seconds), why, delivery),
            )

    def retry(self, ledger: str, delivery: int) -> bool:
        """Let what is dead wait again, because what was in its way is mended; whether there is such
        a one. Raises ConflictError where its body was not kept.
        """
        with self._mutex, self._translated():
            found = self._connection.execute(
                "SELECT length(body) FROM delivery WHERE id = ? AND ledger = ? AND state = 'dead'",
                (delivery, ledger),
            ).fetchone()
            if found is None:
                return False
            if found[0] == 0:
                raise ConflictError(f"the body of delivery {delivery} was not kept: send it again")
            self._connection.execute(
                "UPDATE delivery SET state = 'waiting', attempts = 0, not_before = 0 WHERE id = ?",
                (delivery,),
            )
            self._held["dead"] -= found[0]
            self._held["waiting"] += found[0]
            return True

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

    def _within(self, body: bytes, why: str) -> tuple[bytes, str]:
        """The body of a dead delivery while there is room for it, and the reason."""
        if self._held["dead"] + len(body) <= MOST_DEAD_BYTES:
            return body, why
        digest = hashlib.sha256(body).hexdigest()
        return b"", f"{why} (not kept: {len(body)} bytes, sha256:{digest})"

    def _prune(self) -> None:
        """Forget what was recorded more than a week ago; looked at once a minute."""
        if time.monotonic() - self._pruned < PRUNE_SECONDS:
            return
        self._pruned = time.monotonic()
        self._connection.execute(
            "DELETE FROM delivery WHERE state = 'done' AND taken_at < ?", (int(time.time()) - KEPT,)
        )

    def _size_of(self, delivery: int) -> int:
        row = self._connection.execute(
            "SELECT length(body) FROM delivery WHERE id = ?", (delivery,)
        ).fetchone()
        return int(row[0])

    def _bytes_of(self, state: str) -> int:
        row = self._connection.execute(
            "SELECT coalesce(sum(length(body)), 0) FROM delivery WHERE state = ?", (state,)
        ).fetchone()
        return int(row[0])

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
