"""Which fields of an event are marked: personal data, or open text that may hold it.

::

    >>> marked_fields(BindingChanged)
    {'/reason': FreeText, '/source/claimed_actor': Personal, …}

Paths are JSON pointers in which `*` stands for every index or key. They are what a vault goes by:
it takes these places out of a payload and leaves the schema as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from ledger.events.event import Event
from ledger.events.markers import Marker

__all__ = ["marked_fields"]


@cache
def marked_fields(event_class: type[Event]) -> dict[str, Marker]:
    """Path to mark, for every marked place of the event, in the order of its fields."""
    return dict(_marks_of_model(event_class, ""))


def _marks_of_model(model: type[BaseModel], path: str) -> Iterator[tuple[str, Marker]]:
    for name, field in model.model_fields.items():
        place = f"{path}/{field.alias or name}"
        yield from _marks_in(field.metadata, place)
        yield from _marks_of_type(field.annotation, place)


def _marks_of_type(kind: Any, path: str) -> Iterator[tuple[str, Marker]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _marks_of_model(kind, path)
    elif get_origin(kind) is Annotated:
        inner, *metadata = get_args(kind)
        yield from _marks_in(metadata, path)
        yield from _marks_of_type(inner, path)
    elif get_origin(kind) is dict:
        yield from _marks_of_type(get_args(kind)[1], f"{path}/*")
    elif get_origin(kind) is tuple:
        yield from _marks_of_type(get_args(kind)[0], f"{path}/*")
    else:
        for choice in get_args(kind):
            yield from _marks_of_type(choice, path)


def _marks_in(metadata: Any, path: str) -> Iterator[tuple[str, Marker]]:
    yield from ((path, mark) for mark in metadata if isinstance(mark, Marker))
