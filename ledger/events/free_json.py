"""Open JSON inside an event: metadata, parameters, details. Anything, as long as it is JSON.

::

    metadata: JsonObject = Field(default_factory=dict)

What passes is written by orjson and read back equal: no NaN, no integer beyond ±(2^53-1), no lone
surrogate, no Python object that only looks like JSON when it is written.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

from pydantic import PlainValidator

from ledger.canonical import MAX_SAFE_INTEGER
from ledger.events.explaining import misfit
from ledger.events.markers import FreeText, Words

__all__ = ["MAX_JSON_NESTING", "Json", "JsonObject", "is_free_json", "is_free_object"]

MAX_JSON_NESTING: Final = 60
"""How deep free JSON may nest, so that no payload is deeper than the 64 that readers accept."""


def _is_json(members: Any, depth_left: int) -> bool:
    """Whether all members of a dict, list or tuple are JSON. The quick answer; see _fault_in."""
    if type(members) is dict:
        for key in members:
            if type(key) is not str or not (key.isascii() or _is_text(key)):
                return False
        members = members.values()
    for member in members:
        kind = type(member)
        if kind is str:
            if member.isascii() or _is_text(member):
                continue
        elif kind is bool or member is None:
            continue
        elif kind is int:
            if -MAX_SAFE_INTEGER <= member <= MAX_SAFE_INTEGER:
                continue
        elif kind is float:
            if math.isfinite(member):
                continue
        elif (
            (kind is dict or kind is list or kind is tuple)
            and depth_left
            and _is_json(member, depth_left - 1)
        ):
            continue
        return False
    return True


def _is_text(text: str) -> bool:
    """Whether the string is Unicode text: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault_in(value: Any, depth_left: int) -> tuple[tuple[Any, ...], str] | None:
    """The steps to the first thing in `value` that is not JSON, and what is wrong with it."""
    kind = type(value)
    if kind is int and not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return (), "an integer beyond ±(2^53-1); send it as a string"
    if kind is float and not math.isfinite(value):
        return (), f"{value} is not JSON"
    if kind is str and not _is_text(value):
        return (), "holds a lone surrogate, which is not text"
    if kind in (str, bool, int, float, type(None)):
        return None
    if kind not in (dict, list, tuple):
        return (), f"a Python {kind.__name__} is not JSON"
    if depth_left < 0:
        return (), f"nested deeper than {MAX_JSON_NESTING}"
    for step, member in value.items() if kind is dict else enumerate(value):
        if kind is dict and (type(step) is not str or not _is_text(step)):
            return (), f"the key {step!r} is not text"
        fault = _fault_in(member, depth_left - 1)
        if fault:
            return (step, *fault[0]), fault[1]
    return None


def _admit_json(value: Any) -> Any:
    if not _is_json((value,), MAX_JSON_NESTING):
        steps, why = _fault_in(value, MAX_JSON_NESTING - 1) or ((), "is not JSON")
        raise misfit(why, *steps)
    return value


def _admit_json_object(value: Any) -> Any:
    if type(value) is not dict:
        raise misfit("must be a JSON object")
    return dict(_admit_json(value))


def is_free_json(validator: object) -> bool:
    """Whether this function of a schema is the one of `Json`: any JSON, and nothing else, fits."""
    return validator is _admit_json


def is_free_object(validator: object) -> bool:
    """Whether this function of a schema is the one of `JsonObject`."""
    return validator is _admit_json_object


JsonObject = Annotated[
    dict[str, Any], PlainValidator(_admit_json_object), Words("JSON object"), FreeText
]
Json = Annotated[Any, PlainValidator(_admit_json), Words("any JSON"), FreeText]
