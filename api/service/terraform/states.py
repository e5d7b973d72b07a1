"""The file of the states: sealed versions, who holds which lock, what the ledger is to be told.

::

    states = States(folder / "terraform.db", keep=100)
    refused = states.put("ledger.example.com/acme", "prod", version, lock_id="0290…")
    for fact in states.untold("ledger.example.com/acme", limit=100): …
    states.told(fact.id)

One SQLite file of the service, WAL with synchronous=FULL. A change and the fact that tells of it
are one transaction. What happens if we die: before the commit nothing was changed and Terraform got
no answer; after it the fact waits until the ledger's spool has it, which knows it when it comes
twice. Ledgers are known by their origin, as the name in a configuration may change.

`keep` versions of each state stay; older ones are overwritten with zeros. Locks are rows, so they
outlive the process.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson

from api.service.terraform.database import OwnDatabase
from api.service.terraform.reading import Lock, StateTold
from ledger.canonical import format_time

__all__ = ["Fact", "Held", "NewVersion", "Sealed", "States"]

_SCHEMA: Final = (Path(__file__).with_name("states.sql")).read_text(encoding="utf-8")


class Sealed(NamedTuple):
    """A kept version, as it lies."""

    version: str
    digest: str
    key_id: str
    sealed: bytes


class Held(NamedTuple):
    """A lock, and who holds it."""

    lock: Lock
    actor: str
    versions: int


class Fact(NamedTuple):
    """What the ledger has to be told; `body` is JSON for `connectors.terraform_state`."""

    id: int
    actor: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A state that was sent: what is told of it, and the sealed bytes."""

    told: StateTold
    key_id: str
    sealed: bytes


class States:
    """Thread-safe; `id` tells this file from every other. Raises StoreError where it cannot be read
    or written.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self._file = OwnDatabase(path, _SCHEMA)
        self._keep = keep
        with self._file.changing() as file:
            file.execute(
                "INSERT INTO keeper (number, id) VALUES (1, ?) ON CONFLICT DO NOTHING",
                (uuid4().hex,),
            )
        self.id: str = self._file.rows("SELECT id FROM keeper")[0][0]

    # --- what is kept --------------------------------------------------------------------------

    def holds_any(self, ledger: str) -> bool:
        """Whether any state of the ledger is kept: its key must not be made anew."""
        return bool(self._file.rows("SELECT 1 FROM state_version WHERE ledger = ? LIMIT 1", ledger))

    def newest(self, ledger: str, state: str) -> Sealed | None:
        """The version that holds now; None before the first."""
        found = self._file.rows(
            "SELECT version, digest, key_id, sealed FROM state_version"
            " WHERE ledger = ? AND state = ? ORDER BY id DESC LIMIT 1",
            ledger,
            state,
        )
        return Sealed._make(found[0]) if found else None

    def version(self, ledger: str, state: str, version: str) -> Sealed | None:
        """A version by its name; None where it is not kept (any more)."""
        found = self._file.rows(
            "SELECT version, digest, key_id, sealed FROM state_version"
            " WHERE ledger = ? AND state = ? AND version = ? ORDER BY id DESC LIMIT 1",
            ledger,
            state,
            version,
        )
        return Sealed._make(found[0]) if found else None

    def is_deleted(self, ledger: str, state: str) -> bool:
        """Whether it was deleted here, and nothing was kept since."""
        return bool(
            self._file.rows(
                "SELECT 1 FROM state_gone WHERE ledger = ? AND state = ?", ledger, state
            )
        )

    def versions(self, ledger: str, state: str) -> list[dict[str, Any]]:
        """The kept versions, newest first, without what they hold."""
        rows = self._file.rows(
            "SELECT version, digest, size, actor, taken_at FROM state_version"
            " WHERE ledger = ? AND state = ? ORDER BY id DESC",
            ledger,
            state,
        )
        return [
            {
                "version": version,
                "digest": f"sha256:{digest}",
                "size": size,
                "actor": actor,
                "taken_at": format_time(taken_at),
            }
            for version, digest, size, actor, taken_at in rows
        ]

    # --- changes: None where it was done, else the lock that stands in the way -----------------

    def put(
        self,
        ledger: str,
        state: str,
        new: NewVersion,
        *,
        lock_id: str | None,
        actor: str,
        now: int,
    ) -> Held | None:
        """Keep a version. One that holds already changes nothing: an answer was lost. Where
        somebody else holds the lock nothing is kept, and that it was sent is a fact.
        """
        with self._file.changing() as file:
            held = _held(file, ledger, state)
            told: dict[str, Any] = {
                "state": state,
                "version": new.told.version,
                "serial": new.told.serial,
                "lineage": new.told.lineage,
                "terraform_version": new.told.terraform_version,
                "resources": new.told.resources,
                "digest": f"sha256:{new.told.digest}",
                "size": new.told.size,
                "under_lock": held is not None and held.lock.id == lock_id,
            }
            if held is not None:
                told |= {"lock": held.lock.as_terraform()}
            if held is not None and held.lock.id != lock_id:
                _tell(file, ledger, actor, now, "refused", told)
                return held
            newest = file.execute(
                "SELECT digest FROM state_version WHERE ledger = ? AND state = ?"
                " ORDER BY id DESC LIMIT 1",
                (ledger, state),
            ).fetchone()
            if newest == (new.told.digest,):
                return None
            self._insert(file, ledger, state, new, actor, now)
            _tell(file, ledger, actor, now, "state", told)
        return None

    def lock(self, ledger: str, state: str, lock: Lock, *, actor: str, now: int) -> Held | None:
        """Take the lock. Whoever holds it under this id has it: an answer was lost."""
        with self._file.changing() as file:
            held = _held(file, ledger, state)
            if held is not None:
                return None if (held.lock.id, held.actor) == (lock.id, actor) else held
            file.execute(
                "INSERT INTO state_lock (ledger, state, id, members, actor, taken_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (ledger, state, lock.id, orjson.dumps(lock.members).decode(), actor, now),
            )
            _tell(file, ledger, actor, now, "lock", {"state": state, "lock": lock.as_terraform()})
        return None

    def unlock(
        self, ledger: str, state: str, lock_id: str | None, *, actor: str, now: int
    ) -> Held | None:
        """Give the lock back; without an id whoever holds it loses it (`force-unlock`). Where there
        is none, nothing happens.
        """
        with self._file.changing() as file:
            held = _held(file, ledger, state)
            if held is None:
                return None
            if lock_id is not None and held.lock.id != lock_id:
                return held
            file.execute("DELETE FROM state_lock WHERE ledger = ? AND state = ?", (ledger, state))
            told = {
                "state": state,
                "lock": held.lock.as_terraform(),
                "held_by": held.actor,
                "forced": lock_id is None or held.actor != actor,
                "versions": held.versions,
            }
            _tell(file, ledger, actor, now, "unlock", told)
        return None

    def delete(self, ledger: str, state: str, *, actor: str, now: int) -> Held | None:
        """Delete all versions of a state that nobody holds, and remember that it is so. Deleted
        again, nothing happens."""
        with self._file.changing() as file:
            held = _held(file, ledger, state)
            if held is not None:
                return held
            gone = file.execute(
                "DELETE FROM state_version WHERE ledger = ? AND state = ?", (ledger, state)
            ).rowcount
            marked = file.execute(
                "INSERT INTO state_gone (ledger, state) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (ledger, state),
            ).rowcount
            if marked:
                _tell(file, ledger, actor, now, "delete", {"state": state, "versions": gone})
        return None

    # --- what the ledger has to be told --------------------------------------------------------

    def untold(self, ledger: str, *, limit: int) -> list[Fact]:
        """The oldest facts that the ledger's spool does not have yet."""
        rows = self._file.rows(
            "SELECT id, actor, body FROM fact WHERE ledger = ? ORDER BY id LIMIT ?", ledger, limit
        )
        return [Fact(number, actor, body.encode()) for number, actor, body in rows]

    def told(self, fact: int) -> None:
        """The spool has it."""
        with self._file.changing() as file:
            file.execute("DELETE FROM fact WHERE id = ?", (fact,))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _insert(
        self,
        file: sqlite3.Connection,
        ledger: str,
        state: str,
        new: NewVersion,
        actor: str,
        now: int,
    ) -> None:
        told = new.told
        file.execute(
            "INSERT INTO state_version"
            " (ledger, state, version, digest, size, actor, taken_at, key_id, sealed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ledger,
                state,
                told.version,
                told.digest,
                told.size,
                actor,
                now,
                new.key_id,
                new.sealed,
            ),
        )
        file.execute("DELETE FROM state_gone WHERE ledger = ? AND state = ?", (ledger, state))
        file.execute(
            "DELETE FROM state_version WHERE ledger = ?1 AND state = ?2 AND id NOT IN"
            " (SELECT id FROM state_version WHERE ledger = ?1 AND state = ?2"
            " ORDER BY id DESC LIMIT ?3)",
            (ledger, state, self._keep),
        )
        file.execute(
            "UPDATE state_lock SET versions = versions + 1 WHERE ledger = ? AND state = ?",
            (ledger, state),
        )


def _held(file: sqlite3.Connection, ledger: str, state: str) -> Held | None:
    row = file.execute(
        "SELECT id, members, actor, versions FROM state_lock WHERE ledger = ? AND state = ?",
        (ledger, state),
    ).fetchone()
    return None if row is None else Held(Lock(row[0], orjson.loads(row[1])), *row[2:])


def _tell(
    file: sqlite3.Connection,
    ledger: str,
    actor: str,
    now: int,
    kind: str,
    told: dict[str, Any],
) -> None:
    fact = {"fact": kind, "mark": uuid4().hex, "at": format_time(now), **told}
    file.execute(
        "INSERT INTO fact (ledger, actor, body) VALUES (?, ?, ?)",
        (ledger, actor, orjson.dumps(fact).decode()),
    )
