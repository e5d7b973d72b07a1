"""An event that has passed the door and waits to be written.

The door (`ledger.events`) makes drafts; the writer gives them an index, a time and a link::

    Draft(type="note.added/1", stream="note/release", actor="user:7", payload=b'{"text":"go"}')

It has a file of its own so that the writer and the stores need not import pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Draft", "make_draft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One validated event: `payload` holds the bytes that are hashed and kept, never made again.

    `expected_version` is the version of the stream before this event: 0 for a new stream, None for
    "wherever it stands". Inside one batch the drafts of a stream count on from each other.
    """

    type: str
    stream: str
    actor: str
    payload: bytes
    expected_version: int | None = None


_SETTERS: Final[tuple[Any, ...]] = tuple(
    vars(Draft)[name].__set__ for name in ("type", "stream", "actor", "payload", "expected_version")
)
_set_type, _set_stream, _set_actor, _set_payload, _set_expected_version = _SETTERS


def make_draft(
    type_name: str, stream: str, actor: str, payload: bytes, expected_version: int | None
) -> Draft:
    """As `Draft(…)`, in a third of the time: a frozen dataclass sets its slots the long way."""
    made = object.__new__(Draft)
    _set_type(made, type_name)
    _set_stream(made, stream)
    _set_actor(made, actor)
    _set_payload(made, payload)
    _set_expected_version(made, expected_version)
    return made
