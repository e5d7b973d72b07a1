"""Which stream an event lies in: the `STREAM` template of its class.

::

    template = StreamTemplate.of(BindingChanged)                     pipeline/{pipeline}@{stage}
    template.derive({"pipeline": "p", "stage": "production", …})     "pipeline/p@production"
    template.derive({"text": "…"})    for note/{topic}               None: the caller must name it

A place in braces that is a field of the event takes its value. Where the event has no such field,
or leaves it out, the stream's name carries what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from ledger.canonical import check_name
from ledger.errors import MalformedError
from ledger.events.event import Event

__all__ = ["StreamTemplate"]

_PLACE = re.compile(r"\{(\w+)\}")
_PLACE_PATTERNS = {
    "kind": "[a-z][a-z0-9_.-]{0,63}"
}  # the last place takes the rest, others end at /


@dataclass(frozen=True, slots=True)
class StreamTemplate:
    """A template, ready for use."""

    text: str
    places: tuple[str, ...]
    pattern: re.Pattern[str]
    derive: Callable[[Mapping[str, Any]], str | None]
    """The stream's name out of the event's data, or None where the data does not say it all."""

    @classmethod
    def of(cls, event_class: type[Event]) -> StreamTemplate:
        """The template of a class of events."""
        text = event_class.STREAM
        places = tuple(_PLACE.findall(text))
        known = all(place in event_class.model_fields for place in places)
        return cls(
            text=text,
            places=places,
            pattern=_pattern_of(text, places),
            derive=_derivation(text, places) if known else _derives_nothing,
        )

    def resolve(self, given: str | None, data: Mapping[str, Any]) -> str:
        """The event's stream: derived from its data, or as `given`. Raises MalformedError."""
        derived = self.derive(data)
        if derived is None:
            stream = self._match(given, data)
        elif given is None or given == derived:
            stream = derived
        else:
            raise MalformedError(
                f"this event belongs to the stream {derived!r}, not to {given!r}; mend its data, or"
                " leave the stream out",
                where="stream",
            )
        _check_stream_name(stream)
        return stream

    def _match(self, given: str | None, data: Mapping[str, Any]) -> str:
        if given is None:
            raise MalformedError(f"the stream is missing: name it {self._spelled}", where="stream")
        if not isinstance(given, str):
            raise MalformedError("the stream must be a string", where="stream")
        match = self.pattern.fullmatch(given)
        if not match:
            raise MalformedError(
                f"{given[:120]!r} is not a stream for this event: name it {self._spelled}",
                where="stream",
            )
        for place, part in match.groupdict().items():
            if data.get(place) not in (None, part):
                raise MalformedError(
                    f"the stream says {place} {part!r}, the data {data[place]!r}", where="stream"
                )
        return given

    @property
    def _spelled(self) -> str:
        return _PLACE.sub(r"<\1>", self.text)


def _pattern_of(text: str, places: tuple[str, ...]) -> re.Pattern[str]:
    def group(place: re.Match[str]) -> str:
        name = place[1]
        usual = r"\S(?:.*\S)?" if name == places[-1] else "[^/]+"
        return f"(?P<{name}>{_PLACE_PATTERNS.get(name, usual)})"

    return re.compile(_PLACE.sub(group, text), re.DOTALL)


def _derivation(text: str, places: tuple[str, ...]) -> Callable[[Mapping[str, Any]], str | None]:
    if not places:
        return lambda data: text
    pick = itemgetter(*places)
    spelled = _PLACE.sub("%s", text)
    alone = len(places) == 1

    def derive(data: Mapping[str, Any]) -> str | None:
        try:
            parts = pick(data)
        except KeyError:
            return None
        if parts is None if alone else None in parts:
            return None
        stream: str = spelled % parts
        return stream

    return derive


def _derives_nothing(data: Mapping[str, Any]) -> None:
    return None


@lru_cache(maxsize=4096)
def _check_stream_name(stream: str) -> None:
    check_name(stream, "stream")
