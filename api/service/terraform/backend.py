"""The state backend: what Terraform asks of it, over the file and the keys.

::

    backend = Backend(states, {"ledger.example.com/acme": keys_folder})
    held = backend.lock(ledger, "prod", lock, actor="service:ci", now=…)
    told, held = backend.write(ledger, "prod", body, lock_id="0290…", actor="service:ci", now=…)

Everything here waits for a disk, and is called in threads. Each raises StoreError where another
server keeps the states of this ledger. A ledger's key is made with its first lock or state, and
never again while a state is kept that another key sealed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.service.terraform.keeping import claim
from api.service.terraform.reading import told_of
from api.service.terraform.sealing import Sealer, load_sealer
from api.service.terraform.states import Held, NewVersion, Sealed, States
from ledger.errors import StoreError

if TYPE_CHECKING:
    from api.service.terraform.reading import Lock, StateTold

__all__ = ["Backend"]


class Backend:
    """Thread-safe. `folders` are the key folders by the ledgers' origins."""

    def __init__(self, states: States, folders: Mapping[str, Path]) -> None:
        self.states = states
        self._folders = folders
        self._claimed: set[str] = set()
        self._sealers: dict[str, Sealer] = {}
        self._mutex = threading.Lock()

    def read(self, ledger: str, state: str, version: str | None = None) -> bytes | None:
        """The state, or a kept version of it; None where there is none.

        Raises TamperError where it is not what was sealed, StoreError without the key of it.
        """
        self._claim(ledger)
        if version is None:
            found = self.states.newest(ledger, state)
        else:
            found = self.states.version(ledger, state, version)
        return None if found is None else self._opened(ledger, state, found)

    def versions(self, ledger: str, state: str) -> list[dict[str, Any]]:
        """The kept versions, newest first, without what they hold."""
        self._claim(ledger)
        return self.states.versions(ledger, state)

    def write(
        self, ledger: str, state: str, body: bytes, *, lock_id: str | None, actor: str, now: int
    ) -> tuple[StateTold, Held | None]:
        """Keep a state; durable when it returns. What is told of it, and whoever holds the lock
        where that is somebody else: then it was not kept.

        Raises MalformedError for what is no JSON object, StoreError.
        """
        told = told_of(body)
        sealer = self._sealer(ledger)
        sealed = sealer.seal(body, (ledger, state, told.version))
        new = NewVersion(told=told, key_id=sealer.key_id, sealed=sealed)
        return told, self.states.put(ledger, state, new, lock_id=lock_id, actor=actor, now=now)

    def lock(self, ledger: str, state: str, lock: Lock, *, actor: str, now: int) -> Held | None:
        """Take the lock; whoever has it, where that is somebody else. Raises StoreError where a
        state could not be sealed: better now than when something has been built.
        """
        self._sealer(ledger)
        return self.states.lock(ledger, state, lock, actor=actor, now=now)

    def unlock(
        self, ledger: str, state: str, lock_id: str | None, *, actor: str, now: int
    ) -> Held | None:
        """Give the lock back; without an id take it away. Whoever has it under another id."""
        self._claim(ledger)
        return self.states.unlock(ledger, state, lock_id, actor=actor, now=now)

    def delete(self, ledger: str, state: str, *, actor: str, now: int) -> Held | None:
        """Delete a state; whoever holds its lock, and then it was not deleted. Needs no key."""
        self._claim(ledger)
        return self.states.delete(ledger, state, actor=actor, now=now)

    def _opened(self, ledger: str, state: str, found: Sealed) -> bytes:
        sealer = self._sealer(ledger)
        if found.key_id != sealer.key_id:
            raise StoreError(
                f"{state} {found.version} was sealed with the key {found.key_id}, and "
                f"terraform.key is {sealer.key_id}: bring that one back from the backup of the key "
                "folder"
            )
        return sealer.open(found.sealed, (ledger, state, found.version))

    def _claim(self, ledger: str) -> None:
        if ledger not in self._claimed:
            claim(self._folders[ledger], self.states.id)
            self._claimed.add(ledger)

    def _sealer(self, ledger: str) -> Sealer:
        self._claim(ledger)
        with self._mutex:
            found = self._sealers.get(ledger)
            if found is None:
                create = not self.states.holds_any(ledger)
                found = self._sealers[ledger] = load_sealer(self._folders[ledger], create=create)
            return found
