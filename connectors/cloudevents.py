"""CloudEvents 1.0: structured, binary and batch, as observations, or as the events of ours they
name.

::

    translate({"specversion": "1.0", "id": "7", "source": "/ci", "type": "asof.note.added/1",
               "subject": "note/release", "data": {"text": "go"}})

A type that begins with `asof.` is an event of our vocabulary, its stream the subject. Anything
else is kept whole as an observation of its source. Source and id make the key, as the
specification has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from connectors.arriving import Envelope, Recording, instant, name_text, whole_or_digest
from ledger.errors import MalformedError

__all__ = ["of_headers", "translate"]

SYSTEM: Final = "cloudevents"
OURS: Final = "asof."
ATTRIBUTES: Final = ("id", "source", "type", "specversion")


def of_headers(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    """The event of a request in binary mode: attributes in `ce-` headers, data in the body."""
    found: dict[str, Any] = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    found["data"] = data
    return found


def translate(event: Mapping[str, Any]) -> Recording:
    """What an event says. Raises MalformedError with a pointer."""
    for name in ATTRIBUTES:
        value = event.get(name)
        if not isinstance(value, str) or not value.strip():
            raise MalformedError("must be a text that is not blank", where=f"/{name}")
    if event["specversion"] != "1.0":
        raise MalformedError("only version 1.0 is understood", where="/specversion")
    mark = hashlib.sha256(f"{event['source']}\n{event['id']}".encode()).hexdigest()[:40]
    told = _ours(event) if event["type"].startswith(OURS) else _observed(event)
    if event.get("time") is not None:
        told["data"].setdefault("effective_at", instant(event["time"], "/time"))
    return Recording(key=f"{SYSTEM}/{mark}", events=[told])


def _ours(event: Mapping[str, Any]) -> Envelope:
    data = event.get("data")
    if not isinstance(data, Mapping):
        raise MalformedError("must be the event's fields, an object", where="/data")
    told: Envelope = {"type": event["type"].removeprefix(OURS), "data": dict(data)}
    if isinstance(event.get("subject"), str):
        told["stream"] = event["subject"]
    return told


def _observed(event: Mapping[str, Any]) -> Envelope:
    target = name_text(event["source"])
    return {
        "type": "observation.recorded/1",
        "stream": f"observed/{SYSTEM}/{target}",
        "data": {
            "system": SYSTEM,
            "target": target,
            "observed": [{"details": whole_or_digest(event)}],
            "differs_from_declared": False,
            "source": {"system": SYSTEM, "ref": name_text(event["id"])},
        },
    }
