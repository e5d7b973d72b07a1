"""The client: settings, spool, sender, and what training code calls.

::

    client = Client(server="https://ledger.example.com", ledger="acme", pipeline="p",
    stage="production") client.record("note.added/1", {"text": "go"}, stream="note/release")

The module `asof` holds one of these, made from the environment and changed by `asof.configure`. A
call writes one record to the spool and returns; nothing in it waits for a network, and nothing in
it raises unless `strict`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from asof.answers import Entries, State
from asof.errors import AsofError, NotSentError
from asof.events import event
from asof.html import table
from asof.receipts import Receipt, Verified, verify
from asof.sender import Sender
from asof.spool import Group, Spool
from asof.transport import Transport

__all__ = ["Client", "Recorded"]

log = logging.getLogger("asof")

SPOOL_BYTES = 1 << 30
EXIT_SECONDS = 5.0
TIMEOUT_SECONDS = 30.0
PIN_FILE = "ledger.vkey"
RECEIPTS_FILE = "receipts.jsonl"


class Recorded:
    """What a call recorded: where it stands in the spool, and later in the ledger."""

    __slots__ = ("_client", "_done", "error", "index", "receipt", "type")

    def __init__(self, client: Client, type_name: str) -> None:
        self._client = client
        self._done: Optional[threading.Event] = None
        self.type = type_name
        self.index: Optional[int] = None
        self.receipt: Optional[Receipt] = None
        self.error: Optional[AsofError] = None

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until the ledger has acknowledged or refused it; whether it is acknowledged."""
        if self.index is None and self.error is None:
            self._client.flush(timeout)
        return self.index is not None

    def _repr_html_(self) -> str:
        where = "in the spool, not acknowledged" if self.index is None else f"entry {self.index}"
        return table("Recorded", {"type": self.type, "where": where, "problem": self.error})


class Client:
    """One server, ledger and spool. Thread-safe, and safe to fork."""

    def __init__(
        self,
        *,
        server: Optional[str] = None,
        token: Optional[str] = None,
        ledger: Optional[str] = None,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
        spool: Union[str, Path, None] = None,
        spool_bytes: int = SPOOL_BYTES,
        durable: bool = False,
        strict: bool = False,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.server = server
        self.token = token
        self.ledger = ledger
        self.pipeline = pipeline
        self.stage = stage or "development"
        self.strict = strict
        self.timeout = timeout
        self.folder = Path(spool) if spool else _default_folder(server, ledger)
        self._spool = Spool(self.folder, limit=spool_bytes, durable=durable)
        self._waiting: dict[tuple[str, int], Recorded] = {}
        self._transport: Optional[Transport] = None
        self._questions: Optional[Transport] = None
        self._sender = self._new_sender()
        self._warned: set[str] = set()
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    # --- recording ---------------------------------------------------------------------------

    def record(
        self, type_name: str, data: Mapping[str, Any], *, stream: Optional[str] = None
    ) -> Recorded:
        """Record an event of the ledger's vocabulary (docs/events.md). Returns at once."""
        found = Recorded(self, type_name)
        try:
            told = json.dumps(
                event(type_name, data, stream), separators=(",", ":"), allow_nan=False
            ).encode()
            place = self._spool.write(told)
        except Exception as error:
            self.trouble(error)
            found.error = error if isinstance(error, AsofError) else AsofError(str(error))
            return found
        self._waiting[place] = found
        self._sender.wake()
        if self.strict and not found.wait(self.timeout):
            raise (
                found.error
                or self._sender.trouble
                or NotSentError(
                    f"not acknowledged within {self.timeout:g} s; it stays in {self.folder}"
                )
            )
        return found

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Wait until everything was acknowledged; whether it was."""
        return self._sender.flush(timeout)

    def trouble(self, error: Exception) -> None:
        """Raise it where `strict`, else say it once for each kind."""
        if self.strict:
            raise error
        kind = type(error).__name__
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("asof: %s (said once; asof.configure(strict=True) raises)", error)

    # --- asking ------------------------------------------------------------------------------

    def state(
        self,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
        *,
        at: Optional[str] = None,
        known_at: Optional[str] = None,
        basis: Optional[int] = None,
    ) -> State:
        """What was bound, running and served. What this process recorded is sent first. Raises
        ProblemError, NotSentError."""
        self.flush(self.timeout)
        named = _segment(pipeline or self._pipeline())
        path = f"/pipelines/{named}/stages/{_segment(stage or self.stage)}/state"
        return State(self._ask().get(path, at=at, known_at=known_at, basis=basis))

    def log(self, query: str = "", *, limit: int = 100, order: str = "desc") -> Entries:
        """Entries that pass a query such as `type:binding.* after:7d`. Raises ProblemError."""
        self.flush(self.timeout)
        return Entries(self._ask().get("/entries", q=query, limit=limit, order=order))

    # --- receipts ----------------------------------------------------------------------------

    @property
    def receipts(self) -> Path:
        """The file in which the receipts of this spool are kept, one a line."""
        return self.folder / RECEIPTS_FILE

    def verify(
        self, what: Union[Receipt, Recorded, str, Path, None] = None, *, vkey: Optional[str] = None
    ) -> Verified:
        """Check receipts offline: one, those in a file, or all that this spool keeps.

        Without `vkey` the key that was seen first is used (`ledger.vkey` beside the receipts); a
        server that shows another one later is an error. Raises VerificationError, UnverifiedError.
        """
        if isinstance(what, Recorded):
            what.wait(self.timeout)
            what = what.receipt or self.receipts
        return verify(self.receipts if what is None else what, vkey=vkey or self.vkey())

    def vkey(self) -> str:
        """The ledger's key as it was seen first. Raises VerificationError where the server shows
        another one now; NotSentError, ProblemError where it was never seen.
        """
        from asof.errors import VerificationError

        path = self.folder / PIN_FILE
        if path.exists():
            pinned = path.read_text(encoding="ascii").strip()
            if self._transport is None and self._questions is None:
                return pinned
            shown = self._shown_key()
            if shown is not None and shown != pinned:
                raise VerificationError(
                    f"the server shows the key {shown}, and {path} holds {pinned}: another "
                    "ledger, or a key that was changed. Ask its operator before you trust it"
                )
            return pinned
        shown = self._ask().get("")["vkey"]
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(shown + "\n", encoding="ascii")
        log.warning("asof: first seen key of this ledger, to be compared: %s", shown)
        return str(shown)

    def _shown_key(self) -> Optional[str]:
        try:
            return str(self._ask().get("")["vkey"])
        except AsofError:
            return None

    # --- inside ------------------------------------------------------------------------------

    def _pipeline(self) -> str:
        if not self.pipeline:
            raise AsofError("which pipeline? asof.configure(pipeline=…) or ASOF_PIPELINE")
        return self.pipeline

    def _ask(self) -> Transport:
        if self._questions is None:
            self._questions = self._connected()
        if self._questions is None:
            raise NotSentError("no server is configured: asof.configure(server=…) or ASOF_SERVER")
        return self._questions

    def _connect(self) -> Optional[Transport]:
        """The sender's own connection."""
        if self._transport is None:
            self._transport = self._connected()
        return self._transport

    def _connected(self) -> Optional[Transport]:
        if not self.server or not self.ledger:
            return None
        return Transport(self.server, self.token, self.ledger, timeout=self.timeout)

    def _new_sender(self) -> Sender:
        return Sender(self._spool, self._connect, self._answered, self._refused)

    def _answered(self, group: Group, answer: dict[str, Any]) -> None:
        """Keep the receipts; tell whoever waits. In the sender's thread."""
        receipts = [
            Receipt(
                told["index"],
                told["leaf_hash"],
                told["entry"],
                answer["checkpoint"],
                tuple(told["proof"]),
            )
            for told in answer.get("receipts", ())
        ]
        with self.receipts.open("a", encoding="utf-8") as file:
            file.writelines(receipt.line() + "\n" for receipt in receipts)
        first = answer["first_index"]
        for number, place in enumerate(_places(group)):
            found = self._waiting.pop(place, None)
            if found is not None:
                found.receipt = receipts[number] if receipts else None
                found.index = first + number

    def _refused(self, group: Group, error: AsofError) -> None:
        for place in _places(group):
            found = self._waiting.pop(place, None)
            if found is not None:
                found.error = error

    def _at_exit(self) -> None:
        if not self._sender.close(EXIT_SECONDS):
            log.warning(
                "asof: not everything was acknowledged; the rest is kept in %s", self.folder
            )

    def _after_fork(self) -> None:
        """In the child: a spool segment, a sender and connections of its own."""
        self._spool.forget()
        self._waiting = {}
        self._transport = self._questions = None
        self._sender = self._new_sender()


def _places(group: Group) -> list[tuple[str, int]]:
    """Where each record of a group ends in its segment: what `Spool.write` returned for it."""
    return [(group.segment.name, end) for end in group.segment.ends(group)]


def _segment(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _default_folder(server: Optional[str], ledger: Optional[str]) -> Path:
    """One for each server and ledger, so that nothing goes to another than it was recorded for."""
    from hashlib import sha256

    home = os.path.join(os.path.expanduser("~"), ".local", "state")
    root = os.environ.get("XDG_STATE_HOME") or home
    mark = sha256(f"{server}\n{ledger}".encode()).hexdigest()[:16]
    return Path(root) / "asof" / mark
