"""Subscriptions and the log of deliveries: one SQLite file of the service, for its owner only.

The secret of a subscription is in it, as deliveries have to be signed with it; it is shown once,
to whoever made the subscription. `position` is the first entry that was not delivered: what
happens if we die between a delivery and its place here is that the entry is delivered again, under
the same id.
"""

from __future__ import annotations

import base64
import secrets
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api.service.own_files import own_file
from ledger.errors import StoreError

__all__ = ["Subscription", "Subscriptions"]

KEPT: Final = 1_000
_SCHEMA: Final = (Path(__file__).with_name("deliveries.sql")).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where entries that pass `query` are sent, from `position` on."""

    id: str
    ledger: str
    url: str
    query: str
    secret: str
    made_by: str
    made_at: int
    position: int
    failing_since: int | None
    not_before: int
    failures: int
    state: str

    def __repr__(self) -> str:
        return f"Subscription({self.id}, {self.ledger}, {self.state})"


class Subscriptions:
    """Thread-safe. Raises StoreError where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._mutex = threading.Lock()
        try:
            own_file(path)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from None

    def make(self, ledger: str, url: str, query: str, *, by: str, position: int) -> Subscription:
        """A new one, with its secret."""
        made_id = f"wh_{secrets.token_hex(8)}"
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self._run(
            "INSERT INTO subscription (id, ledger, url, query, secret, made_by, made_at, position)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (made_id, ledger, url, query, secret, by, int(time.time()), position),
        )
        found = self.get(ledger, made_id)
        if found is None:
            raise StoreError("a subscription that was just made is not there")
        return found

    def every(self, ledger: str | None = None) -> list[Subscription]:
        """All of a ledger, or all."""
        rows = self._run(
            "SELECT * FROM subscription WHERE ? IS NULL OR ledger = ? ORDER BY made_at, id",
            (ledger, ledger),
        )
        return [Subscription(*row) for row in rows]

    def get(self, ledger: str, wanted: str) -> Subscription | None:
        """The one of that id in that ledger."""
        return next((one for one in self.every(ledger) if one.id == wanted), None)

    def remove(self, wanted: str) -> None:
        """End it; its log goes with it."""
        self._run("DELETE FROM subscription WHERE id = ?", (wanted,))
        self._run("DELETE FROM delivery WHERE subscription = ?", (wanted,))

    def moved(self, wanted: str, position: int) -> None:
        """What is before `position` is delivered, or of no interest."""
        self._run(
            "UPDATE subscription SET position = ?, failing_since = NULL, failures = 0 WHERE id = ?",
            (position, wanted),
        )

    def failed(self, wanted: str, *, again_in: float, disable: bool) -> None:
        """It was not taken: again after so many seconds, or no more."""
        now = int(time.time())
        self._run(
            "UPDATE subscription SET failures = failures + 1, not_before = ?, state = ?,"
            " failing_since = coalesce(failing_since, ?) WHERE id = ?",
            (now + int(again_in), "disabled" if disable else "live", now, wanted),
        )

    def resume(self, wanted: str) -> None:
        """Deliver again, at once, from where it stands: its receiver has been mended."""
        self._run(
            "UPDATE subscription SET state = 'live', failures = 0, failing_since = NULL,"
            " not_before = 0 WHERE id = ?",
            (wanted,),
        )

    def note(self, wanted: str, entry: int, *, status: int | None, problem: str | None) -> None:
        """A line of the log; the newest thousand are kept."""
        self._run(
            "INSERT INTO delivery (subscription, entry, at, status, problem)"
            " VALUES (?, ?, ?, ?, ?)",
            (wanted, entry, int(time.time()), status, problem),
        )
        self._run(
            "DELETE FROM delivery WHERE subscription = ? AND number <="
            " (SELECT max(number) FROM delivery WHERE subscription = ?) - ?",
            (wanted, wanted, KEPT),
        )

    def deliveries(self, wanted: str, *, limit: int) -> list[dict[str, Any]]:
        """The log, newest first."""
        rows = self._run(
            "SELECT number, entry, at, status, problem FROM delivery WHERE subscription = ?"
            " ORDER BY number DESC LIMIT ?",
            (wanted, limit),
        )
        names = ("number", "entry", "at", "status", "problem")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._mutex:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"the subscriptions cannot be read or written: {error}") from None
