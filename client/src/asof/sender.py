"""The background thread that sends what lies in the spool, in order, until it is acknowledged.

One request at a time, so that what was recorded first stands first in the ledger. A server that is
away, overloaded or unsure is asked again, with growing pauses and the same key; a record that the
server refuses for what it says is put aside (`refused.jsonl`) with the reason, and the rest goes
on.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from asof.errors import AsofError, NotSentError, ProblemError
from asof.spool import Group, Segment, Spool

if TYPE_CHECKING:
    from asof.transport import Transport

__all__ = ["Sender"]

log = logging.getLogger("asof")

FIRST_PAUSE = 0.2
MOST_PAUSE = 60.0
GROWTH = 1.6
IDLE_SECONDS = 30.0
PUT_ASIDE = {400, 409, 413, 415, 422}
"""Refusals that the same request will meet again; everything else is tried again."""
WAITS = {"idempotency-key-missing", "not-allowed", "unauthenticated", "not-found"}
"""Refusals that are not about the record: somebody mends the token, the role or the server's
name.
"""


class Sender:
    """Owns the thread. Started with the first record; `close` waits a bounded time."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Optional[Transport]],
        answered: Callable[[Group, dict[str, Any]], None],
        refused: Callable[[Group, AsofError], None],
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._answered = answered
        self._refused = refused
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._thread: Optional[threading.Thread] = None
        self._mutex = threading.Lock()
        self._said = 0.0
        self.trouble: Optional[AsofError] = None

    def wake(self) -> None:
        """There is something to send. Costs the caller two flags."""
        self._idle.clear()
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None:
            self._start()

    def flush(self, timeout: Optional[float]) -> bool:
        """Wait until everything was acknowledged; whether it was."""
        self.wake()
        return self._idle.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Send what can be sent in that time, and end. What is left stays in the spool."""
        done = self._idle.is_set() or self._idle.wait(timeout)
        self._closing = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(1.0)
        return done

    def _start(self) -> None:
        with self._mutex:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="asof-sender", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing:
            self._wanted.wait(IDLE_SECONDS)
            self._wanted.clear()
            try:
                self._send_all()
            except AsofError as error:
                self._complain(error)
                wait = getattr(error, "retry_after", None) or _about(pause)
                pause = min(MOST_PAUSE, pause * GROWTH)
                self._pause(wait)
                self._wanted.set()
            except Exception:
                log.exception("asof: the sender met an error of its own; it goes on")
                self._pause(MOST_PAUSE)
                self._wanted.set()
            else:
                pause, self.trouble = FIRST_PAUSE, None

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and time.monotonic() < until:
            time.sleep(min(0.05, seconds))

    def _send_all(self) -> None:
        while not self._closing:
            segments = self._spool.segments()
            if not any([self._send_segment(segment) for segment in segments]):
                break
        if not self._wanted.is_set():
            self._idle.set()
            if self._wanted.is_set():  # something came between the two looks
                self._idle.clear()

    def _send_segment(self, segment: Segment) -> bool:
        """Send what is in it; whether there was something."""
        found = False
        while not self._closing and (group := segment.next_group()) is not None:
            found = True
            self._send(group)
        if not self._closing:
            self._spool.end(segment)
        return found

    def _send(self, group: Group) -> None:
        transport = self._connect()
        if transport is None:
            raise NotSentError("no server is configured: asof.configure(server=…) or ASOF_SERVER")
        group.segment.begin(group)
        try:
            answer = transport.append(group.records, group.key)
        except ProblemError as error:
            if not _is_about_the_record(error):
                raise
            self._one_by_one(transport, group, error)
        else:
            self._answered(group, answer)
        group.segment.finish(group)

    def _one_by_one(self, transport: Transport, group: Group, error: ProblemError) -> None:
        """Nothing of the group was written: send each record for itself, put aside what is
        refused.
        """
        if len(group.records) == 1:
            self._put_aside(group, error)
            return
        for one in group.segment.split(group):
            try:
                answer = transport.append(one.records, one.key)
            except ProblemError as refusal:
                if not _is_about_the_record(refusal):
                    raise
                self._put_aside(one, refusal)
            else:
                self._answered(one, answer)

    def _put_aside(self, group: Group, error: ProblemError) -> None:
        path: Path = self._spool.folder / "refused.jsonl"
        with path.open("a", encoding="utf-8") as file:
            for record in group.records:
                file.write(json.dumps({"why": str(error), "event": record}) + "\n")
        log.error("asof: the server refused a record (%s); it was put aside in %s", error, path)
        self._refused(group, error)

    def _complain(self, error: AsofError) -> None:
        """Once a minute: the training goes on, and somebody should know."""
        self.trouble = error
        if time.monotonic() - self._said > 60 or self._said == 0.0:
            self._said = time.monotonic()
            log.warning("asof: not sent yet (%s); kept in %s", error, self._spool.folder)


def _about(seconds: float) -> float:
    """So that many clients do not come back at the same moment."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311


def _is_about_the_record(error: ProblemError) -> bool:
    refused = error.status in PUT_ASIDE or error.slug == "refused"
    return refused and error.slug not in WAITS
