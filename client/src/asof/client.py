"""The client: settings, spool, sender, and what training code calls.

::

    client = Client(server="https://ledger.example.com", ledger="acme", pipeline="p")
    client.record("note.added/1", {"text": "go"}, stream="note/release")

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
import time
import weakref
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from asof.answers import Entries, State
from asof.appending import append_line
from asof.errors import AsofError, NotSentError, UnverifiedError, VerificationError
from asof.events import event, instant
from asof.html import table
from asof.pins import keep_pin, read_pin
from asof.receipts import Receipt, Verified, verify
from asof.segments import Group
from asof.sender import Sender
from asof.spool import Spool
from asof.transport import Transport

__all__ = ["Client", "Recorded"]

log = logging.getLogger("asof")

SPOOL_BYTES = 1 << 30
EXIT_SECONDS = 5.0
COMPLAINT_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0
RECEIPTS_FILE = "receipts.jsonl"

if TYPE_CHECKING:
    _Waiting = weakref.WeakValueDictionary[tuple[str, int], "Recorded"]
else:
    _Waiting = weakref.WeakValueDictionary


class Recorded:
    """What a call recorded: where it stands in the spool, and later in the ledger."""

    __slots__ = ("__weakref__", "_client", "error", "index", "receipt", "type")

    def __init__(self, client: Client, type_name: str) -> None:
        self._client = client
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
        spool: Union[str, os.PathLike[str], None] = None,
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
        self._waiting = _Waiting()
        self._registering = threading.Lock()
        self._transport: Optional[Transport] = None
        self._questions: Optional[Transport] = None
        self._sender = self._new_sender()
        self._said: dict[str, float] = {}
        self._other_key: Optional[VerificationError] = None
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
            with self._registering:  # before the sender can have an answer for it
                self._waiting[self._spool.write(told)] = found
            self._sender.wake()
        except Exception as error:
            found.error = _ours(error)
            self.trouble(found.error)
            return found
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
        """Wait until everything was acknowledged or refused; whether it was. False at once where
        no server is configured."""
        if not self._is_configured():
            return not self._spool.left()
        return self._sender.flush(timeout)

    def close(self, timeout: float = 0.0) -> bool:
        """Send what can be sent in that time, and give up the spool: another client, or another
        process, sends what is left. Whether nothing is. Recording begins anew afterwards."""
        return self._sender.close(timeout if self._is_configured() else 0.0)

    def follow(self, before: Client) -> None:
        """Take the place of another: what it has not sent yet is sent from here, also what this
        process recorded before it had a server. One that sends to somewhere else goes on. Files
        that cannot be moved stay, and that is said."""
        if before._is_configured() and before.folder != self.folder:
            return
        before.close()
        waits = before._spool.left()
        if before.folder != self.folder:
            for path in waits:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    path.rename(self.folder / path.name)
                except OSError as error:
                    log.warning("asof: %s is not sent from here: %s", path, error.strerror)
        if waits:
            self._sender.wake()

    def trouble(self, error: Exception) -> None:
        """Raise it where `strict`, else say it: each kind once a minute."""
        if self.strict:
            raise _ours(error)
        kind = f"{type(error).__name__} {type(error.__cause__).__name__}"
        now = time.monotonic()
        if now - self._said.get(kind, -COMPLAINT_SECONDS) >= COMPLAINT_SECONDS:
            self._said[kind] = now
            log.warning("asof: not recorded: %s (asof.configure(strict=True) raises)", error)

    # --- asking ------------------------------------------------------------------------------

    def state(
        self,
        pipeline: Optional[str] = None,
        stage: Optional[str] = None,
        *,
        at: Union[str, datetime, None] = None,
        known_at: Union[str, datetime, None] = None,
        basis: Optional[int] = None,
    ) -> State:
        """What was bound, running and served. What this process recorded is sent first. Raises
        ProblemError, NotSentError."""
        asked = {"at": instant(at), "known_at": instant(known_at), "basis": basis}
        self.flush(self.timeout)
        named = _segment(pipeline or self._pipeline())
        path = f"/pipelines/{named}/stages/{_segment(stage or self.stage)}/state"
        return State(self._ask().get(path, **asked))

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
            if what.receipt is None:
                raise UnverifiedError(f"{what.type}: not acknowledged, so there is no receipt")
            what = what.receipt
        return verify(
            self.receipts if what is None else what, vkey=self.vkey() if vkey is None else vkey
        )

    def vkey(self) -> str:
        """The ledger's key as it was seen first, kept in `ledger.vkey`; asks the server only where
        it was never seen. Raises VerificationError where the server has shown another one since;
        NotSentError, ProblemError where it cannot be asked.
        """
        if self._other_key is not None:
            raise self._other_key
        pinned = read_pin(self.folder)
        return pinned if pinned is not None else self._compared(self._ask())

    def _compared(self, transport: Transport) -> str:
        """The key that the server shows, kept if it is the first. Raises VerificationError for
        another one; what `Transport.get` raises."""
        shown = str(transport.get("")["vkey"])
        try:
            if keep_pin(self.folder, shown):
                log.warning("asof: first seen key of this ledger, to be compared: %s", shown)
        except VerificationError as error:
            self._other_key = error
            raise
        self._other_key = None
        return shown

    # --- inside ------------------------------------------------------------------------------

    def _pipeline(self) -> str:
        if not self.pipeline:
            raise AsofError("which pipeline? asof.configure(pipeline=…) or ASOF_PIPELINE")
        return self.pipeline

    def _is_configured(self) -> bool:
        return bool(self.server and self.ledger)

    def _ask(self) -> Transport:
        if self._questions is None:
            self._questions = self._connected()
        if self._questions is None:
            raise NotSentError("no server is configured: asof.configure(server=…) or ASOF_SERVER")
        return self._questions

    def _connect(self) -> Optional[Transport]:
        """The sender's own connection; nothing is sent to a server that shows another key. Raises
        VerificationError, ProblemError, NotSentError."""
        if self._transport is None:
            found = self._connected()
            if found is not None:
                try:
                    self._compared(found)
                except AsofError:
                    found.close()
                    raise
            self._transport = found
        return self._transport

    def _connected(self) -> Optional[Transport]:
        if not self.server or not self.ledger:
            return None
        return Transport(self.server, self.token, self.ledger, timeout=self.timeout)

    def _new_sender(self) -> Sender:
        return Sender(self._spool, self._connect, self._answered, self._refused, self._ended)

    def _ended(self) -> None:
        """The sender has ended: its locks and its connection are given back."""
        self._spool.close()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

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
        if receipts:
            text = "".join(receipt.line() + "\n" for receipt in receipts)
            append_line(self.receipts, text.encode())
        first = answer["first_index"]
        for number, found in enumerate(self._told(group)):
            if found is not None:
                found.receipt = receipts[number] if receipts else None
                found.index = first + number

    def _refused(self, group: Group, error: AsofError) -> None:
        for found in self._told(group):
            if found is not None:
                found.error = error

    def _told(self, group: Group) -> list[Optional[Recorded]]:
        """Who waits for each record of the group, where somebody does."""
        with self._registering:
            return [self._waiting.pop((group.segment.name, end), None) for end in group.ends]

    def _at_exit(self) -> None:
        self.close(EXIT_SECONDS)
        if self._spool.left():
            log.warning(
                "asof: not everything was acknowledged; the rest is kept in %s", self.folder
            )

    def _after_fork(self) -> None:
        """In the child: a spool segment, a sender and connections of its own."""
        self._spool.forget()
        self._waiting = _Waiting()
        self._registering = threading.Lock()
        self._transport = self._questions = None
        self._sender = self._new_sender()


def _ours(error: Exception) -> AsofError:
    """The error as one of this library's, so that callers need to know one family."""
    if isinstance(error, AsofError):
        return error
    made = AsofError(f"{type(error).__name__}: {error}")
    made.__cause__ = error
    return made


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
