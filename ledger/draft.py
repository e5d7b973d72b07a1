"""An event that has passed the door and waits to be written.

The door (`ledger.events`) makes drafts; the writer gives them an index, a time and a link::

    Draft(type="note.added/1", stream="note/release", actor="user:7", payload=b'{"text":"go"}')

It has a file of its own so that the writer and the stores need not import pydantic.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple, Protocol, cast

__all__ = ["Draft", "as_draft"]


class Draft(NamedTuple):
    """One validated event: `payload` holds the bytes that are hashed and kept, never made again.

    `expected_version` is the version of the stream before this event: 0 for a new stream, None for
    "wherever it stands". Inside one batch the drafts of a stream count on from each other.

    A tuple, since an import makes a hundred thousand a second: a frozen dataclass takes thrice the
    time.
    """

    type: str
    stream: str
    actor: str
    payload: bytes
    expected_version: int | None = None


class _AsDraft(Protocol):
    def __call__(self, fields: tuple[str, str, str, bytes, int | None], /) -> Draft: ...


as_draft: Final = cast(_AsDraft, partial(tuple.__new__, Draft))
"""The draft of a tuple of its fields, in their order; without a Python call."""
