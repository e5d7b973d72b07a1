"""Events as the ledger has them (docs/events.md), made from what Python code has at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Optional

from asof.errors import AsofError

__all__ = ["event", "instant", "now", "plain", "reference"]

MOST_TEXT = 2_000
MOST_ITEMS = 200
MOST_DEPTH = 8


def event(type_name: str, data: Mapping[str, Any], stream: Optional[str] = None) -> dict[str, Any]:
    """An event with the time at which it happened, as the server takes it."""
    made: dict[str, Any] = {"type": type_name, "data": {**data}}
    if stream is not None:
        made["stream"] = stream
    made["data"].setdefault("effective_at", now())
    return made


def now() -> str:
    """This instant, in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def instant(at: Any) -> Optional[str]:
    """A time as the server takes it: a text as it is, a datetime with its offset. Raises AsofError
    for a datetime without one, which could mean any of a day's hours."""
    if not isinstance(at, datetime):
        return None if at is None else str(at)
    if at.tzinfo is None:
        raise AsofError(f"{at}: a time needs an offset, such as datetime.now(timezone.utc)")
    return at.isoformat()


def reference(kind: str, name: str, version: str) -> str:
    """`<kind>/<name>@<version>`."""
    return f"{kind}/{name}@{version}"


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it, bounded: what is no plain value becomes a short text of it."""
    if value is None or isinstance(value, (bool, str)):
        return value[:MOST_TEXT] if isinstance(value, str) else value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= MOST_DEPTH:
        return _short(value)
    if isinstance(value, Mapping):
        items = list(value.items())[:MOST_ITEMS]
        return {str(name)[:200]: plain(item, depth + 1) for name, item in items}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item, depth + 1) for item in value[:MOST_ITEMS]]
    number = getattr(value, "item", None)  # a NumPy scalar, or a tensor of one element
    if callable(number):
        try:
            return plain(number(), depth + 1)
        except Exception:
            return _short(value)
    return _short(value)


def _short(value: Any) -> str:
    """The type, and for small things what they look like."""
    try:
        shown = repr(value)
    except Exception:
        shown = ""
    return (
        shown if 0 < len(shown) <= 200 else f"<{type(value).__module__}.{type(value).__qualname__}>"
    )
