"""The quick way through the door, for what comes as JSON: the same draft, or None.

::

    quick_draft(b'{"type":"note.added/1","stream":"note/x","data":{"text":"go"}}', actor, now)

It accepts only what it can prove with a few compiled looks at the bytes. None sends the caller the
plain way (`lines`, `door`), which decides everything else and is the one that explains. What is
accepted here is accepted there, as the same draft; a test tells both the same stories. What is
proved, and by what:

1. *No equal keys.* Each member of an object has one colon outside strings. Where no colon is
   escaped, the text has those of all its members and strings, and what was read and is written
   again has those of what was kept. Equal counts: nothing was dropped.
2. *No integer that lost digits.* Within 64 bits `OPT_STRICT_INTEGER` refuses it. One beyond became
   a number that is written with an exponent, and no look sees that fit. Nor does one see what is
   nested deeper than readers accept.
3. *The data fit their schema*: `one_look`.

The size, secrets, actor, stream and times are the door's own checks.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ledger.draft import Draft
from ledger.events.door import MAX_PAYLOAD_BYTES, finished_draft
from ledger.events.registry import REGISTRY, Registry
from ledger.secrets import may_hold_secrets, refuse_secrets

__all__ = ["quick_draft", "quick_draft_of"]

_MAX_TEXT: Final = 4 * MAX_PAYLOAD_BYTES
_WRITE: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_INTO_DATA: Final = ("effective_at", "source")
_BACKSLASH: Final = 0x5C


def quick_draft(
    text: bytes, actor: str, now: int, *, registry: Registry = REGISTRY
) -> Draft | None:
    """The draft of one line, or None where it is not proved.

    About 7 µs for a line of 500 bytes.
    """
    if len(text) > _MAX_TEXT or (_BACKSLASH in text and b"\\u003" in text):
        return None
    try:
        return _drafted(orjson.loads(text), text, actor, now, registry)
    except (KeyError, TypeError, ValueError):
        return None


def quick_draft_of(
    envelope: dict[str, Any], actor: str, now: int, *, registry: Registry = REGISTRY
) -> Draft | None:
    """As `quick_draft`, for what `parse_json` has read; what stands beside `data` is taken in."""
    try:
        return _drafted(envelope, None, actor, now, registry)
    except (KeyError, TypeError, ValueError):
        return None


def _drafted(
    envelope: dict[str, Any], text: bytes | None, actor: str, now: int, registry: Registry
) -> Draft | None:
    """Whatever it raises says: not proved. `text` is what the envelope was read from, where equal
    keys have not been looked for yet.
    """
    type_name, data = envelope["type"], envelope["data"]
    shape = registry.shapes[type_name]
    stream = version = None
    outside = len(envelope) + type_name.count(":")
    if len(envelope) > 2:
        stream, version = envelope.get("stream"), envelope.get("expected_version")
        taken = _taken_in(envelope, data)
        if len(envelope) != 2 + ("stream" in envelope) + ("expected_version" in envelope) + taken:
            return None
        if stream is not None:
            outside += stream.count(":") if isinstance(stream, str) else 0
        outside -= taken
    payload = orjson.dumps(data, option=_WRITE)
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    if text is not None and text.count(b":") != outside + payload.count(b":"):
        return None
    written = payload.decode()
    if not shape.fits(written, data):
        return None
    if may_hold_secrets(written):
        refuse_secrets(data)
    return finished_draft(shape, type_name, stream, actor, data, payload, version, now)


def _taken_in(envelope: dict[str, Any], data: dict[str, Any]) -> int:
    """How many members stood beside the data and are now among them. Raises KeyError for one that
    says nothing, or is there already: the plain way compares.
    """
    taken = 0
    for name in _INTO_DATA:
        if name in envelope:
            if envelope[name] is None or name in data:
                raise KeyError(name)
            data[name] = envelope[name]
            taken += 1
    return taken
