"""What an aggregate is here: rules over the events of one stream, which are the vocabulary's own.

An aggregate decides (a command checks a rule and records an event) and remembers (each event is
applied, when it is recorded and again when the stream is replayed)::

    class Hold(Aggregate):
        def place(self, why: str, actor: str) -> None:
            if self.placed:
                raise RefusedError("the hold is already placed")
            self.record(HoldPlaced(...), actor)

        @applies(HoldPlaced)
        def _placed(self, event: HoldPlaced, actor: str) -> None:
            self.placed = True

eventsourcing knows such objects by its protocols (an aggregate has `id` and `version` and collects
its events; an event mutates). Its own base classes are not used: they read the clock, keep a second
set of fields beside the vocabulary's, and resolve the aggregate's class from a topic inside the
event, which is what a row says. Here the class follows from a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from ledger.errors import RefusedError
from ledger.events import EVENT_TYPES, Event

__all__ = ["Aggregate", "Decision", "applies", "given", "topic_table"]

Method = TypeVar("Method", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Decision:
    """One event with its place in a stream and who is behind it: the library's "domain event"."""

    originator_id: str
    originator_version: int
    event: Event
    actor: str
    aggregate_class: type[Aggregate] | None = None

    def mutate(self, aggregate: Aggregate | None) -> Aggregate | None:
        """Applies the event; the first one of a stream makes the aggregate that the table names.

        Raises:
            AssertionError: the event belongs to no aggregate.
        """
        if aggregate is None:
            if self.aggregate_class is None:
                raise AssertionError(f"{self.event.TYPE} belongs to no aggregate")
            aggregate = self.aggregate_class(self.originator_id)
        aggregate.apply(self)
        return aggregate


def applies(*event_classes: type[Event]) -> Callable[[Method], Method]:
    """Marks the method that applies these events: `method(self, event, actor)`."""

    def mark(method: Method) -> Method:
        method.applies = event_classes  # type: ignore[attr-defined]
        return method

    return mark


class Aggregate:
    """The base: counts versions, keeps what is decided and not yet saved, knows what it applies.

    `id` is the name of the stream: `PREFIX` and the id within its kind. `status` is the state that
    its events brought it to. A new aggregate has version 0 and no event.
    """

    APPLIES: ClassVar[Mapping[str, str]] = MappingProxyType({})
    PREFIX: ClassVar[str] = ""
    status: str = "new"

    def __init_subclass__(cls) -> None:
        marked = {
            event_class.TYPE: name
            for name, method in vars(cls).items()
            for event_class in getattr(method, "applies", ())
        }
        cls.APPLIES = MappingProxyType({**cls.APPLIES, **marked})

    def __init__(self, stream: str) -> None:
        self._id = stream
        self._version = 0
        self._pending: list[Decision] = []

    @property
    def id(self) -> str:
        """The stream's name."""
        return self._id

    @property
    def version(self) -> int:
        """The stream version of the last event, decided or replayed; 0 for none."""
        return self._version

    @property
    def pending(self) -> Sequence[Decision]:
        """What is decided and not yet saved."""
        return tuple(self._pending)

    def record(self, event: Event, actor: str) -> None:
        """Takes the decision: applies the event now and keeps it for the next save."""
        decision = Decision(self._id, self._version + 1, event, actor, type(self))
        self.apply(decision)
        self._pending.append(decision)

    def apply(self, decision: Decision) -> None:
        """Remembers an event. Replaying is unconditional: what is recorded has happened."""
        if (decision.originator_id, decision.originator_version) != (self._id, self._version + 1):
            raise AssertionError(
                f"{decision.originator_id}#{decision.originator_version} does not follow "
                f"{self._id}#{self._version}"
            )
        name = self.APPLIES.get(decision.event.TYPE)
        if name is not None:
            getattr(self, name)(decision.event, decision.actor)
        self._version = decision.originator_version

    def refusal(self, tried: str, instead: str) -> RefusedError:
        """The words of a refusal: where this stands, what was tried, and what to do."""
        return RefusedError(f"{self.id} is {self.status}: {tried}; {instead}")

    def collect_events(self) -> list[Decision]:
        """Hands over what is pending, and forgets it."""
        collected, self._pending = self._pending, []
        return collected


def given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: what is not given stays absent in the payload."""
    return {name: value for name, value in fields.items() if value not in (None, ())}


def topic_table(*aggregates: type[Aggregate]) -> Mapping[str, type[Aggregate]]:
    """Event type to aggregate class, for the types of the vocabulary that these aggregates apply.

    Raises:
        AssertionError: two aggregates claim a type, or a type is not in the vocabulary.
    """
    table: dict[str, type[Aggregate]] = {}
    for aggregate in aggregates:
        for topic in aggregate.APPLIES:
            if topic in table or topic not in EVENT_TYPES:
                raise AssertionError(f"{aggregate.__name__} may not claim {topic}")
            table[topic] = aggregate
    return MappingProxyType(table)
