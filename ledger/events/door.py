"""The door: what comes in as data leaves as a draft, or not at all.

::

    draft(("note.added/1", {"text": "go"}), stream="note/release", actor="user:7", now=now)
    Draft(type="note.added/1", stream="note/release", actor="user:7", payload=b'{"text":"go"}')

In this order (docs/spec/payload.md has the same numbers):

1. the type is known;
2. the data fits its schema;
3. the payload is made, once: the fields that were given, not the defaults;
4. it is not longer than 1 MiB;
5. it holds no secret;
6. the actor is an id;
7. the stream is the event's;
8. `effective_at` is not in the future;
9. the expected version is a version.

Nothing is written here, and nothing that is refused leaves a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from ledger.canonical import MAX_SAFE_INTEGER, format_json, format_time, parse_rfc3339
from ledger.draft import Draft, as_draft
from ledger.errors import MalformedError
from ledger.events.event import Event, UnknownEvent
from ledger.events.explaining import explain
from ledger.events.fields import check_actor
from ledger.events.registry import REGISTRY, Registry, Shape
from ledger.events.upcasting import upcast_data
from ledger.secrets import may_hold_secrets, refuse_secrets

__all__ = [
    "MAX_AHEAD",
    "MAX_PAYLOAD_BYTES",
    "draft",
    "event_class",
    "finished_draft",
    "parse_event",
    "read_event",
    "stream_of",
    "upcast",
]

MAX_PAYLOAD_BYTES: Final = 1 << 20
MAX_AHEAD: Final = 5 * 60 * 1_000_000
"""How far `effective_at` may lie after the ledger's clock, in microseconds: five minutes."""


def event_class(type_name: str, *, registry: Registry = REGISTRY) -> type[Event]:
    """The class of a type. Raises UnknownEventError, which names the nearest known types."""
    return registry[type_name].event_class


def parse_event(type_name: str, data: Mapping[str, Any], *, registry: Registry = REGISTRY) -> Event:
    """The event that `data` says. Raises MalformedError with a JSON pointer into `data`."""
    shape = registry[type_name]
    try:
        return shape.validate(_as_dict(data))
    except ValidationError as error:
        raise explain(error, shape.event_class) from None


def stream_of(event: Event, *, registry: Registry = REGISTRY) -> str | None:
    """The stream that the event itself names; None where the caller must (`note/<topic>`)."""
    return registry[event.TYPE].stream.derive(vars(event))


def draft(
    event: Event | tuple[str, Mapping[str, Any]],
    *,
    stream: str | None = None,
    actor: str,
    expected_version: int | None = None,
    now: int,
    registry: Registry = REGISTRY,
) -> Draft:
    """The draft of an event, or of a type with its data. Raises MalformedError; nothing is written.

    `stream` may be left out where the data names it. `now` is the ledger's clock in microseconds.
    About 6 µs for an event of 400 bytes.
    """
    if isinstance(event, tuple):
        type_name, given = event
        shape = registry[type_name]
        data = given if type(given) is dict else _as_dict(given)
        try:
            shape.validate(data)
        except ValidationError as error:
            raise explain(error, shape.event_class) from None
    else:
        type_name, data = event.TYPE, _data_of(event)
        shape = registry[type_name]
    payload = format_json(data)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedError(
            f"{len(payload)} bytes of payload, at most {MAX_PAYLOAD_BYTES} (1 MiB) are accepted:"
            " store the content elsewhere and record its digest and location"
        )
    if may_hold_secrets(payload):
        refuse_secrets(data)
    return finished_draft(shape, type_name, stream, actor, data, payload, expected_version, now)


def finished_draft(
    shape: Shape,
    type_name: str,
    stream: str | None,
    actor: str,
    data: Mapping[str, Any],
    payload: bytes,
    expected_version: int | None,
    now: int,
) -> Draft:
    """The draft of data whose payload is made and has been looked at: what stands beside it, steps
    6 to 9. Raises MalformedError.
    """
    _check_actor(actor)
    stream = shape.stream.resolve(stream, data)
    effective_at = data.get("effective_at")
    if effective_at is not None:
        _check_effective_at(effective_at, now)
    if expected_version is not None:
        _check_expected_version(expected_version)
    return as_draft((type_name, stream, actor, payload, expected_version))


def upcast(
    type_name: str, data: Mapping[str, Any], *, registry: Registry = REGISTRY
) -> tuple[str, Mapping[str, Any]]:
    """The newest type and the data in its form; unknown types come back as they are."""
    return upcast_data(type_name, data, registry.upcasts)


def read_event(
    type_name: str, data: Mapping[str, Any], *, registry: Registry = REGISTRY
) -> Event | UnknownEvent:
    """What a stored entry says, in the newest schema. Never raises for what a ledger may hold.

    An entry that this program cannot read comes back as UnknownEvent, its data untouched.
    """
    try:
        newest, current = upcast(type_name, data, registry=registry)
        return parse_event(newest, current, registry=registry)
    except MalformedError as error:
        return UnknownEvent(type_name, data, str(error))


def _as_dict(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data as a dict, which is what pydantic takes for an object; what is none stays."""
    return dict(data) if isinstance(data, Mapping) else data


def _data_of(event: Event) -> dict[str, Any]:
    """The fields that were given, as JSON has them. The event is valid: it cannot be otherwise."""
    data: dict[str, Any] = event.__pydantic_serializer__.to_python(
        event, by_alias=True, exclude_unset=True
    )
    return data


@lru_cache(maxsize=4096)
def _check_actor(actor: str) -> None:
    try:
        check_actor(actor)
    except ValueError as error:
        raise MalformedError(str(error), where="actor") from None


def _check_effective_at(text: str, now: int) -> None:
    if text[10] == "T" and text[-1] == "Z" and text[:19] < _latest(now):
        return  # both are UTC in the same spelling: their order is that of their letters
    if parse_rfc3339(text) > now + MAX_AHEAD:
        raise MalformedError(
            f"{text} is more than five minutes in the future (the ledger's clock says"
            f" {format_time(now)}): mend the source's clock, or record it when it has happened",
            where="/effective_at",
        )


@lru_cache(maxsize=64)
def _latest(now: int) -> str:
    return format_time(now + MAX_AHEAD)[:19]


def _check_expected_version(version: object) -> None:
    if type(version) is not int or not 0 <= version <= MAX_SAFE_INTEGER:
        raise MalformedError(
            "must be the stream's version before this event: an integer, 0 for a new stream",
            where="expected_version",
        )
