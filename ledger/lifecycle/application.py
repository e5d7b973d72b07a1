"""eventsourcing's `Application` on a ledger: mapper, factory and the application's base class.

::

    class Holds(LedgerApplication):
        aggregates = (Hold,)

    holds = Holds(writer, reader, actor="service:asof", clock=clock)
    holds.save(hold)                                     # one batch in the chain
    holds.repository.get("hold/7")                       # replayed from its stream

The mapper turns a `Decision` into a payload through the door of the vocabulary and back; nothing
that a row says is ever imported. Of the process's environment nothing is read: the library would
take classes for transcoders, ciphers and compressors from there, and a payload that is hashed must
be the payload that is kept. Snapshots are refused: the streams of aggregates are short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from eventsourcing.application import Application
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    InfrastructureFactory,
    Mapper,
    NotSupportedError,
    PersistenceError,
    StoredEvent,
    TrackingRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from ledger.canonical import format_json, parse_json_object
from ledger.errors import IncompleteError, UnknownEventError
from ledger.events import draft, parse_event, upcast
from ledger.lifecycle.aggregate import Aggregate, Decision, topic_table
from ledger.reader import Reader
from ledger.recorder import (
    ERASED_STATE,
    ActedEvent,
    Door,
    LedgerAggregateRecorder,
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerTrackingRecorder,
    check_vocabulary,
)
from ledger.writer import Writer

__all__ = [
    "LedgerApplication",
    "LedgerFactory",
    "LedgerMapper",
    "LedgerTranscoder",
    "in_our_words",
]

Clock = Callable[[], int]


@contextmanager
def in_our_words() -> Iterator[None]:
    """The library is given its own errors; their cause is ours, and what our callers know."""
    try:
        yield
    except PersistenceError as error:
        raise error.__cause__ or error from None


class LedgerTranscoder(Transcoder):
    """Event data as the payload's bytes, and strictly back."""

    def encode(self, obj: Any) -> bytes:
        """The bytes that are hashed and kept."""
        return format_json(obj)

    def decode(self, data: bytes) -> Any:
        """The object; refuses what a ledger must not read leniently."""
        return parse_json_object(data)


class LedgerMapper(Mapper[str]):
    """`Decision` to stored event and back, by the vocabulary's models and a table of topics."""

    def __init__(self, topics: Mapping[str, type[Aggregate]], clock: Clock) -> None:
        super().__init__(transcoder=LedgerTranscoder())
        self._topics = topics
        self._clock = clock

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """The decision as it is kept. Raises `MalformedError` where the door refuses it."""
        if not isinstance(domain_event, Decision):
            raise TypeError(f"a ledger keeps decisions, not {type(domain_event).__name__}")
        kept = draft(
            domain_event.event,
            stream=domain_event.originator_id,
            actor=domain_event.actor,
            now=self._clock(),
        )
        return ActedEvent(
            domain_event.originator_id,
            domain_event.originator_version,
            kept.type,
            kept.payload,
            kept.actor,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Decision:
        """The decision again, brought to its newest version.

        Raises:
            UnknownEventError: the topic is in no table; nothing is imported to find it.
            IncompleteError: the payload was withheld or erased.
        """
        place = f"{stored_event.originator_id}#{stored_event.originator_version}"
        if stored_event.state == ERASED_STATE:
            raise IncompleteError(
                f"{place}: the payload was erased, the aggregate cannot be replayed"
            )
        topic, data = upcast(stored_event.topic, self.transcoder.decode(stored_event.state))
        if topic not in self._topics:
            raise UnknownEventError(f"{place}: no aggregate here has events of the type {topic!r}")
        actor = stored_event.actor if isinstance(stored_event, ActedEvent) else ""
        return Decision(
            str(stored_event.originator_id),
            stored_event.originator_version,
            parse_event(topic, data),
            actor,
            self._topics[topic],
        )


class LedgerFactory(InfrastructureFactory[TrackingRecorder]):
    """Makes the library's parts on a ledger; no snapshots.

    Of `env`, which the caller gives, two things are read: its name, which tells the positions of
    followers in one ledger apart, and `TRACKING_RECORDER_TOPIC`, a class to make for a view.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        *,
        actor: str,
        clock: Clock,
        aggregates: tuple[type[Aggregate], ...] = (),
        door: Door = check_vocabulary,
        env: Environment | EnvType | None = None,
    ) -> None:
        super().__init__(env)
        self._writer = writer
        self._reader = reader
        self._actor = actor
        self._clock = clock
        self._door = door
        self._topics = topic_table(*aggregates)

    def transcoder(self) -> Transcoder:
        """Ours; the environment has no say."""
        return LedgerTranscoder()

    def mapper(self, transcoder: Any = None, mapper_class: Any = None) -> Mapper[Any]:
        """Ours; the environment has no say."""
        return LedgerMapper(self._topics, self._clock)

    def aggregate_recorder(self, purpose: str = "events") -> LedgerAggregateRecorder:
        """A recorder of aggregate sequences. Raises `NotSupportedError` for snapshots."""
        if purpose != "events":
            raise NotSupportedError(f"a ledger keeps events, no {purpose}: a stream has no gaps")
        return LedgerAggregateRecorder(
            self._writer, self._reader, actor=self._actor, door=self._door
        )

    def application_recorder(self) -> LedgerApplicationRecorder:
        """A recorder of the whole ledger."""
        return LedgerApplicationRecorder(
            self._writer, self._reader, actor=self._actor, door=self._door
        )

    def tracking_recorder(
        self, tracking_recorder_class: type[TrackingRecorder] | None = None
    ) -> LedgerTrackingRecorder:
        """A recorder of positions, or of positions and a view: of the class that is given, or that
        the environment of this factory names. Raises `NotSupportedError` for other classes."""
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        named: type[TrackingRecorder] = resolve_topic(topic) if topic else LedgerTrackingRecorder
        made = tracking_recorder_class or named
        if not issubclass(made, LedgerTrackingRecorder):
            raise NotSupportedError(f"{made.__name__} keeps its positions outside the ledger")
        return made(self._writer, self._reader, actor=self._actor, follower=self.env.name)

    def process_recorder(self) -> LedgerProcessRecorder:
        """A recorder of the whole ledger that keeps positions with what follows from them."""
        return LedgerProcessRecorder(
            self._writer,
            self._reader,
            actor=self._actor,
            follower=self.env.name,
            door=self._door,
        )


class LedgerApplication(Application[str]):
    """An application whose aggregates (of the classes in `aggregates`) are streams of a ledger."""

    aggregates: ClassVar[tuple[type[Aggregate], ...]] = ()

    def __init__(self, writer: Writer, reader: Reader, *, actor: str, clock: Clock) -> None:
        self.reader = reader
        self._parts = LedgerFactory(
            writer,
            reader,
            actor=actor,
            clock=clock,
            aggregates=self.aggregates,
            env=Environment(self.name),
        )
        super().__init__()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """An empty environment: one place reads the process's, and it is not this one."""
        return Environment(name, dict(env or {}))

    def construct_factory(self, env: Environment) -> LedgerFactory:
        """The factory of this ledger."""
        return self._parts
