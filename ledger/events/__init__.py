"""The vocabulary: what can be said in a ledger, and the door through which it comes in.

::

    events = parse_drafts(b'{"type": "note.added/1", "stream": "note/x", "data": {"text": "go"}}',
                          "user:7", now)

Each event is a pydantic model with a stable name and a schema version (docs/events.md lists them
all with their fields). Models are for the door only: inside, a draft carries the bytes that are
kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.asset_ref import AssetRefParts, format_asset_ref, split_asset_ref
from ledger.draft import Draft
from ledger.events.door import (
    MAX_AHEAD,
    MAX_PAYLOAD_BYTES,
    draft,
    event_class,
    parse_event,
    read_event,
    stream_of,
    upcast,
)
from ledger.events.event import COMMON_FIELDS, Event, Part, Source, UnknownEvent
from ledger.events.lines import MAX_LINE_BYTES, draft_of, parse_drafts, parse_line
from ledger.events.markers import FreeText, Marker, Personal
from ledger.events.marks import marked_fields
from ledger.events.registry import REGISTRY, Registry
from ledger.events.upcasting import Upcast

__all__ = [
    "COMMON_FIELDS",
    "EVENT_TYPES",
    "MAX_AHEAD",
    "MAX_LINE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "REGISTRY",
    "AssetRefParts",
    "Draft",
    "Event",
    "FreeText",
    "Marker",
    "Part",
    "Personal",
    "Registry",
    "Source",
    "UnknownEvent",
    "Upcast",
    "draft",
    "draft_of",
    "event_class",
    "format_asset_ref",
    "marked_fields",
    "parse_drafts",
    "parse_event",
    "parse_line",
    "read_event",
    "split_asset_ref",
    "stream_of",
    "upcast",
]

EVENT_TYPES: Final[Mapping[str, type[Event]]] = REGISTRY.types
"""Type name to class, all of them."""
