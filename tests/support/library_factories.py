"""Factories that eventsourcing can make by itself, from strings, on ledgers that a test opens.

::

    with ledgers_named("sqlite", open_one) as env:
        Application(env={**env, "PERSISTENCE_MODULE": LIBRARY})

`ConstructedFactory` is ours with another beginning: where its ledger comes from. `LibraryFactory`
is made for the library's own applications, whose aggregates are Python classes: over our recorders
it has the library's mapper, no vocabulary, and a place for snapshots beside the ledger, which takes
none. Each factory has a ledger of its own, as the library's have tables of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventsourcing.persistence import (
    AggregateRecorder,
    InfrastructureFactory,
    Mapper,
    StoredEvent,
    Tracking,
    Transcoder,
)
from eventsourcing.popo import POPOAggregateRecorder
from eventsourcing.utils import Environment, get_topic

from ledger.lifecycle.application import LedgerFactory
from ledger.recorder import Door, LedgerProcessRecorder, check_vocabulary
from tests.support.empty_ledgers import Opened
from tests.support.shipped_cases import projection

OpenOne = Callable[[], Opened]
_OPENING: dict[str, OpenOne] = {}


def anything(_event: StoredEvent) -> None:
    """The door for the library's own topics and states."""


@contextmanager
def ledgers_named(name: str, open_one: OpenOne) -> Iterator[dict[str, str]]:
    """Factories that are made with this environment open their ledgers so."""
    _OPENING[name] = open_one
    try:
        yield {"LEDGERS": name}
    finally:
        del _OPENING[name]


class ConstructedFactory(LedgerFactory):
    """Ours, made from an environment alone."""

    door: Door = staticmethod(check_vocabulary)

    def __init__(self, env: Environment) -> None:
        ledger = _OPENING[env["LEDGERS"]]()
        super().__init__(
            ledger.writer,
            ledger.reader,
            actor="service:test",
            clock=ledger.clock,
            door=self.door,
            env=env,
        )


class LibraryFactory(ConstructedFactory):
    """Our recorders beneath the library's own applications."""

    door = staticmethod(anything)

    def transcoder(self) -> Transcoder:
        return InfrastructureFactory.transcoder(self)

    def mapper(self, transcoder: Any = None, mapper_class: Any = None) -> Mapper[Any]:
        return InfrastructureFactory.mapper(self, transcoder, mapper_class)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose == "snapshots":
            return POPOAggregateRecorder()
        return super().aggregate_recorder(purpose)


class CountersInStreams(LedgerProcessRecorder, projection.EventCountersView):
    """A view whose counters are streams: an increment and its position are one transaction."""

    def get_created_event_counter(self) -> int:
        return self._reader.stream_version("note/created")

    def get_subsequent_event_counter(self) -> int:
        return self._reader.stream_version("note/subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._increment("note/created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._increment("note/subsequent", tracking)

    def _increment(self, stream: str, tracking: Tracking) -> None:
        version = self._reader.stream_version(stream) + 1
        event = StoredEvent(stream, version, "note.added/1", b'{"text":"one more"}')
        self.insert_events([event], tracking=tracking)


CONSTRUCTED = get_topic(ConstructedFactory)
LIBRARY = get_topic(LibraryFactory)
