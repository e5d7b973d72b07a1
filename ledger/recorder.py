"""eventsourcing's recorders on our ledger: aggregates live in the same chain as every other entry.

::

    recorder = LedgerApplicationRecorder(writer, reader, actor="service:asof")
    recorder.insert_events([StoredEvent("note/release", 1, "note.added/1", b'{"text":"go"}')])
    with recorder.subscribe(gt=0) as notifications:
        first = next(notifications)            # id 1 is entry 0

What is what (docs/spec/recorder.md):

=========================  =====================================================================
eventsourcing              ledger
=========================  =====================================================================
`StoredEvent.topic`        the entry's type, a stable name; never a Python path, never imported
`StoredEvent.state`        the payload's bytes, as hashed and kept
`originator_id` (`str`)    the stream's name itself
`originator_id` (`UUID`)   the stream `aggregate/<uuid>`
`originator_version`       the stream version (`first_version=0` for sequences that begin at 0)
`Notification.id`          index + 1
`Tracking`                 the position of a follower, kept beside the entries: `Tracked`
=========================  =====================================================================

The library's own recorders are not used: nothing but the writer writes. This file and
`ledger.lifecycle` are the only ones that import eventsourcing.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    Notification,
    NotSupportedError,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from ledger.canonical import parse_json_object
from ledger.draft import Draft
from ledger.errors import ConflictError, MalformedError, RefusedError, StoreError
from ledger.events import parse_event
from ledger.store import Tracked

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.store import Row
    from ledger.writer import Appended, Writer

__all__ = [
    "ActedEvent",
    "Door",
    "LedgerAggregateRecorder",
    "LedgerApplicationRecorder",
    "LedgerProcessRecorder",
    "LedgerSubscription",
    "LedgerTrackingRecorder",
    "check_vocabulary",
    "originator_of",
    "stream_name",
]

UUID_PREFIX = "aggregate/"
ERASED_STATE = b""
"""The state of an event whose payload was withheld or erased; no payload is empty."""

Door = Callable[[StoredEvent], None]


class ActedEvent(StoredEvent):
    """A stored event that says who acted; equal to any stored event with the same four fields."""

    actor: str

    def __init__(
        self,
        originator_id: UUID | str,
        originator_version: int,
        topic: str,
        state: bytes,
        actor: str,
    ) -> None:
        super().__init__(originator_id, originator_version, topic, state)
        object.__setattr__(self, "actor", actor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredEvent) and _fields(self) == _fields(other)

    def __hash__(self) -> int:
        return hash(_fields(self))


def _fields(event: StoredEvent) -> tuple[UUID | str, int, str, bytes]:
    return event.originator_id, event.originator_version, event.topic, event.state


def check_vocabulary(event: StoredEvent) -> None:
    """The door: the topic is a known type and the state is valid for it.

    Raises:
        MalformedError: with a pointer to the place; `UnknownEventError` for an unknown topic.
    """
    parse_event(event.topic, parse_json_object(event.state))


def stream_name(originator_id: UUID | str) -> str:
    """The stream of an originator: a name stands for itself, a UUID for `aggregate/<uuid>`.

    Raises:
        NotSupportedError: for a name that a UUID would have; reading could not tell them apart.
    """
    if isinstance(originator_id, UUID):
        return f"{UUID_PREFIX}{originator_id}"
    if isinstance(originator_of(originator_id), UUID):
        raise NotSupportedError(f"{originator_id!r} is the stream of a UUID: pass the UUID")
    return originator_id


def originator_of(stream: str) -> UUID | str:
    """The originator of a stream: the exact inverse of `stream_name`."""
    if stream.startswith(UUID_PREFIX):
        with contextlib.suppress(ValueError):
            found = UUID(stream.removeprefix(UUID_PREFIX))
            if f"{UUID_PREFIX}{found}" == stream:
                return found
    return stream


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Our errors as the library's. A TamperError stays one: evidence is no database error."""
    try:
        yield
    except ConflictError as error:
        raise IntegrityError(str(error)) from error
    except (MalformedError, RefusedError) as error:
        raise DataError(str(error)) from error
    except StoreError as error:
        raise OperationalError(str(error)) from error


class LedgerAggregateRecorder(AggregateRecorder):
    """Aggregate sequences as streams of one ledger. Thread-safe; durable when an insert returns.

    `actor` signs for events that name no actor themselves. `door` checks each event before it is
    written; the default is the vocabulary. `first_version` is the number that the library gives the
    first event of a sequence: 1 for its aggregates.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        *,
        actor: str,
        door: Door = check_vocabulary,
        first_version: int = 1,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._actor = actor
        self._door = door
        self._shift = first_version - 1

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Appends the events as one batch: all or none.

        Keywords: `actor`, for this batch; `idempotency_key`. A tracking record is refused here: a
        process recorder takes it.

        Raises:
            IntegrityError: a version is taken, or would leave a gap. Nothing is written.
            DataError: the door refused an event. Nothing is written.
            OperationalError: the store failed; whether it was written is said in the message.
        """
        self._append(stored_events, **kwargs)
        return None

    def _append(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        actor: str | None = None,
        idempotency_key: str | None = None,
        tracking: Tracking | None = None,
    ) -> Appended | None:
        tracked = self._tracked(tracking)
        if not stored_events and tracked is None:
            return None
        with _translated():
            if tracked is not None and not stored_events:
                self._writer.track(tracked)
                return None
            drafts = [self._draft(event, actor or self._actor) for event in stored_events]
            return self._writer.append(drafts, idempotency_key=idempotency_key, tracked=tracked)

    def _tracked(self, tracking: Tracking | None) -> Tracked | None:
        """What is written beside the batch: nothing here, the position for a process recorder."""
        if tracking is not None:
            raise NotSupportedError(
                f"this recorder keeps no position of {tracking.application_name!r}: "
                "a process recorder does"
            )
        return None

    def _draft(self, event: StoredEvent, actor: str) -> Draft:
        self._door(event)
        expected = event.originator_version - self._shift - 1
        if expected < 0:
            raise ConflictError(
                f"{event.originator_id}: version {event.originator_version} is before the first, "
                f"{self._shift + 1}"
            )
        return Draft(
            type=event.topic,
            stream=stream_name(event.originator_id),
            actor=event.actor if isinstance(event, ActedEvent) else actor,
            payload=event.state,
            expected_version=expected,
        )

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one originator with gt < version <= lte; `desc` begins with the last.

        Costs what it returns: the last event of a long stream is one row.
        """
        with _translated():
            stream = stream_name(originator_id)
            first, last = self._bounds(stream, gt, lte, desc, limit)
            found = self._reader.stream(stream, after_version=first, limit=last - first)
            events = [self._stored(record.row) for record in found]
        return events[::-1] if desc else events

    def _bounds(
        self, stream: str, gt: int | None, lte: int | None, desc: bool, limit: int | None
    ) -> tuple[int, int]:
        """Stream versions (first, last]: what is asked for, cut at the end that `limit` cuts."""
        first = max(0, gt - self._shift) if gt is not None else 0
        last = self._reader.stream_version(stream)
        if lte is not None:
            last = min(last, lte - self._shift)
        last = max(first, last)
        if limit is not None:
            first, last = (
                (max(first, last - limit), last) if desc else (first, min(last, first + limit))
            )
        return first, last

    def _stored(self, row: Row) -> ActedEvent:
        return ActedEvent(
            originator_of(row.stream),
            row.version + self._shift,
            row.type,
            ERASED_STATE if row.payload is None else row.payload,
            row.actor,
        )


class LedgerApplicationRecorder(LedgerAggregateRecorder, ApplicationRecorder):
    """The whole ledger as an application sequence: every entry is a notification, in order."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        *,
        actor: str,
        door: Door = check_vocabulary,
        first_version: int = 1,
    ) -> None:
        super().__init__(writer, reader, actor=actor, door=door, first_version=first_version)
        self._listeners: set[threading.Event] = set()
        self._listeners_lock = threading.Lock()

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """As for aggregates; returns the notification ids. Wakes subscriptions of this recorder."""
        appended = self._append(stored_events, **kwargs)
        if appended is None:
            return []
        self._wake()
        first = appended.first_index + 1
        return list(range(first, first + appended.count))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """At most `limit` notifications from `start` (an id) to `stop`, both included."""
        after = 0 if start is None else max(0, start - 1 if inclusive_of_start else start)
        with _translated():
            wanted = (
                notification
                for notification in self.notifications(after, stop)
                if not topics or notification.topic in topics
            )
            return list(islice(wanted, limit))

    def notifications(self, after: int, stop: int | None = None) -> Iterator[Notification]:
        """Streams the notifications with after < id <= stop that there are now; memory is flat."""
        size = self._reader.size()
        for row in self._reader.rows(after, size if stop is None else min(stop, size)):
            yield Notification(
                originator_id=originator_of(row.stream),
                originator_version=row.version + self._shift,
                topic=row.type,
                state=ERASED_STATE if row.payload is None else row.payload,
                id=row.index + 1,
            )

    def max_notification_id(self) -> int | None:
        """The number of entries, or None for an empty ledger."""
        with _translated():
            return self._reader.size() or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> LedgerSubscription:
        """All notifications after `gt`, then each new one as it is recorded, by whomever."""
        return LedgerSubscription(self, gt=gt, topics=topics)

    def listen(self, woken: threading.Event) -> None:
        """Sets `woken` after each append through this recorder, until `unlisten`."""
        with self._listeners_lock:
            self._listeners.add(woken)

    def unlisten(self, woken: threading.Event) -> None:
        """Ends `listen`; harmless if it was not listening."""
        with self._listeners_lock:
            self._listeners.discard(woken)

    def _wake(self) -> None:
        with self._listeners_lock:
            for woken in self._listeners:
                woken.set()


class LedgerSubscription(Subscription[LedgerApplicationRecorder]):
    """An endless iterator: blocks after the last entry and goes on when there is another.

    Entries that this recorder wrote wake it at once; those of other recorders and other processes
    are seen at the next look, `poll_seconds` later at most. `stop` ends it from any thread. It has
    no thread of its own: nothing is read before somebody asks.
    """

    chunk = 500
    poll_seconds = 0.2

    def __init__(
        self,
        recorder: LedgerApplicationRecorder,
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._position = gt or 0
        self._waiting: deque[Notification] = deque()
        self._woken = threading.Event()
        recorder.listen(self._woken)

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if self._waiting:
                return self._waiting.popleft()
            self._woken.clear()
            if not self._look():
                self._woken.wait(self.poll_seconds)
        raise StopIteration

    def _look(self) -> bool:
        """Reads up to `chunk` entries after the position; says whether there were any at all."""
        before = self._position
        with _translated():
            for notification in self._recorder.notifications(before, before + self.chunk):
                self._position = notification.id
                if not self._topics or notification.topic in self._topics:
                    self._waiting.append(notification)
        return self._position > before

    def stop(self) -> None:
        """Ends the iteration, also of a thread that waits in it."""
        super().stop()
        self._recorder.unlisten(self._woken)
        self._woken.set()


class LedgerTrackingRecorder(TrackingRecorder):
    """How far a follower has come in the logs of applications: kept in the ledger's store, durable.

    A position is no entry: it is not signed, and it only grows. `follower` tells the positions of
    several followers in one store apart; two recorders of the same follower share theirs. `actor`
    is for subclasses that write entries.
    """

    def __init__(self, writer: Writer, reader: Reader, *, actor: str, follower: str = "") -> None:
        self._writer = writer
        self._reader = reader
        self._actor = actor
        self._follower = _checked_follower(follower)

    def insert_tracking(self, tracking: Tracking) -> None:
        """Sets the position.

        Raises:
            IntegrityError: it is not above the one that is held: the event was dealt with before.
        """
        with _translated():
            self._writer.track(self._position(tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The position in the log of that application, or None."""
        with _translated():
            return self._reader.tracked(f"{self._follower}/{application_name}")

    def _position(self, tracking: Tracking) -> Tracked:
        return Tracked(f"{self._follower}/{tracking.application_name}", tracking.notification_id)


class LedgerProcessRecorder(LedgerApplicationRecorder, LedgerTrackingRecorder, ProcessRecorder):
    """Appends what follows from an event and the position after it in one transaction.

    So a follower that dies and begins again after its position has neither lost an event nor
    answered one twice, and of two that run at once one is refused.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        *,
        actor: str,
        follower: str = "",
        door: Door = check_vocabulary,
        first_version: int = 1,
    ) -> None:
        super().__init__(writer, reader, actor=actor, door=door, first_version=first_version)
        self._follower = _checked_follower(follower)

    def _tracked(self, tracking: Tracking | None) -> Tracked | None:
        return None if tracking is None else self._position(tracking)


def _checked_follower(follower: str) -> str:
    """The name before the `/` of a position's name: it holds none itself, or two could meet."""
    if "/" in follower:
        raise DataError(f"the follower {follower!r} must not hold '/': choose another name")
    return follower
