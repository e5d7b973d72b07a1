"""Members of a small JSON body, taken out one by one, each of the type that it must have.

::

    given = await read_object(request)
    pipeline, reason = text(given, "pipeline"), optional_text(given, "reason")
    whole(given, ("pipeline", "reason"))           # nothing else may be there

Raises MalformedError with a pointer; a member that nobody knows is refused, not passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ledger.errors import MalformedError

__all__ = ["optional_flag", "optional_number", "optional_text", "optional_texts", "text", "whole"]

MOST_TEXT: Final = 4_000
MOST_ITEMS: Final = 1_000


def text(given: Mapping[str, Any], name: str) -> str:
    """A text that is there and not blank."""
    value = optional_text(given, name)
    if value is None or not value.strip():
        raise MalformedError("must be a text that is not blank", where=f"/{name}")
    return value


def optional_text(given: Mapping[str, Any], name: str) -> str | None:
    """A text, or None."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MOST_TEXT or "\0" in value:
        raise MalformedError(f"must be a text of at most {MOST_TEXT} characters", where=f"/{name}")
    return value


def optional_texts(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts; empty where it is not there."""
    value = given.get(name, [])
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise MalformedError(f"must be a list of at most {MOST_ITEMS} texts", where=f"/{name}")
    for place, item in enumerate(value):
        if not isinstance(item, str) or not item.strip() or len(item) > MOST_TEXT:
            raise MalformedError("must be a text that is not blank", where=f"/{name}/{place}")
    return tuple(value)


def optional_flag(given: Mapping[str, Any], name: str) -> bool:
    """true or false; false where it is not there."""
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise MalformedError("must be true or false", where=f"/{name}")
    return value


def optional_number(given: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    """An integer within bounds, or None."""
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise MalformedError(f"must be an integer from {least} to {most}", where=f"/{name}")
    return value


def whole(given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse members beyond the known ones."""
    beyond = sorted(given.keys() - set(known))
    if beyond:
        raise MalformedError(
            f"there is no member {beyond[0][:100]!r}; known are: {', '.join(sorted(known))}",
            where=f"/{beyond[0][:100]}",
        )
