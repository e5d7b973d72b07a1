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

from asof.appending import append_line
from asof.errors import AsofError, NotSentError, ProblemError
from asof.segments import Group, Segment
from asof.spool import Spool

if TYPE_CHECKING:
    from asof.transport import Transport

__all__ = ["Sender"]

log = logging.getLogger("asof")

FIRST_PAUSE = 0.2
MOST_PAUSE = 60.0
GROWTH = 1.6
IDLE_SECONDS = 30.0

# Never the module's own generator: a training that has seeded it must draw the same numbers with
# and without us.
_own_random = random.Random()  # noqa: S311
PUT_ASIDE = {400, 409, 413, 415, 422}
"""Refusals that the same request will meet again; everything else is tried again."""
WAITS = {"idempotency-key-missing", "not-allowed", "unauthenticated", "not-found"}
"""Refusals that are not about the record: somebody mends the token, the role or the server's
name.
"""


class Sender:
    """Owns the thread: started with the first record, ended by `close`, started again by a record
    after that."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Optional[Transport]],
        answered: Callable[[Group, dict[str, Any]], None],
        refused: Callable[[Group, AsofError], None],
        ended: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._answered = answered
        self._refused = refused
        self._ended = ended
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._hurry = threading.Event()
        self._closing = False
        self._again = False
        self._thread: Optional[threading.Thread] = None
        self._mutex = threading.Lock()
        self._said = 0.0
        self.trouble: Optional[AsofError] = None

    def wake(self) -> None:
        """There is something to send. Costs the caller two flags."""
        self._idle.clear()
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None or self._closing:
            self._start()

    def flush(self, timeout: Optional[float]) -> bool:
        """Wait until everything was acknowledged or put aside; whether it was. A pause that the
        server did not ask for ends now."""
        self.wake()
        self._hurry.set()
        return self._idle.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Send what can be sent in that time, and end; whether that was all. What is left stays in
        the spool, and its locks are given back as soon as the request under way has ended."""
        thread = self._thread
        if thread is None:
            self._ended()
            return True
        self._hurry.set()
        done = self._idle.wait(timeout)
        self._closing = True
        self._wanted.set()
        self._hurry.set()
        thread.join(1.0)
        return done

    def _start(self) -> None:
        with self._mutex:
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="asof-sender", daemon=True)
                self._thread.start()
            elif self._closing:
                self._again = True

    def _run(self) -> None:
        try:
            self._send_until_closed()
        finally:
            with self._mutex:
                self._ended()
                self._thread = None
                again, self._again = self._again, False
            if again:  # something was recorded while it ended
                self._start()

    def _send_until_closed(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing:
            self._wanted.wait(IDLE_SECONDS)
            self._wanted.clear()
            try:
                self._send_all()
            except AsofError as error:
                self._complain(error)
                self._pause(getattr(error, "retry_after", None), pause)
                pause = min(MOST_PAUSE, pause * GROWTH)
            except Exception:
                log.exception("asof: the sender met an error of its own; it goes on")
                self._pause(None, MOST_PAUSE)
            else:
                pause, self.trouble = FIRST_PAUSE, None
                self._hurry.clear()

    def _pause(self, demanded: Optional[float], usual: float) -> None:
        """As long as the server demands, whoever waits; else about as long as usual, or until
        somebody waits for it."""
        if demanded is None:
            self._hurry.wait(_about(usual))
            self._hurry.clear()
        else:
            until = time.monotonic() + demanded
            while not self._closing and (left := until - time.monotonic()) > 0:
                time.sleep(min(0.2, left))
        self._wanted.set()

    def _send_all(self) -> None:
        transport = self._connect()
        if transport is None:  # and nothing of other processes is adopted
            raise NotSentError("no server is configured: asof.configure(server=…) or ASOF_SERVER")
        while not self._closing:
            segments = self._spool.segments()
            if not any([self._send_segment(transport, segment) for segment in segments]):
                break
        if not self._closing and not self._wanted.is_set():
            self._idle.set()
            if self._wanted.is_set():  # something came between the two looks
                self._idle.clear()

    def _send_segment(self, transport: Transport, segment: Segment) -> bool:
        """Send what is in it; whether there was something."""
        found = False
        while not self._closing and (group := segment.next_group()) is not None:
            found = True
            self._send(transport, group)
        if not self._closing:
            self._spool.end(segment)
        return found

    def _send(self, transport: Transport, group: Group) -> None:
        """One request. Raises what is to be tried again."""
        group.segment.begin(group)
        try:
            answer = transport.append(group.records, group.key)
        except ProblemError as error:
            if not _is_about_the_record(error):
                raise
            if len(group.records) > 1:  # nothing of it was written: find out which it is about
                group.segment.part(group)
                return
            self._put_aside(group, error)
        else:
            self._answered(group, answer)
        group.segment.finish(group)

    def _put_aside(self, group: Group, error: ProblemError) -> None:
        path: Path = self._spool.folder / "refused.jsonl"
        for event in group.events():
            line = json.dumps({"why": str(error), "event": event}, ensure_ascii=False) + "\n"
            append_line(path, line.encode("utf-8", "surrogatepass"))
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
    return seconds * _own_random.uniform(0.5, 1.5)


def _is_about_the_record(error: ProblemError) -> bool:
    refused = error.status in PUT_ASIDE or error.slug == "refused"
    return refused and error.slug not in WAITS
