"""Random data for any event class, made from its schema: what the door must take.

::

    @given(event_data(BindingChanged))
    def test_…(data): draft((BindingChanged.TYPE, data), …)

A type's `Words` name its strategy; classes whose rules go over several fields have a repair.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from ledger.canonical import parse_rfc3339
from ledger.events.annotations import TagSet
from ledger.events.bindings import BindingRemoved
from ledger.events.evaluations import Metric
from ledger.events.event import Event
from ledger.events.fields import Words
from ledger.events.incidents import IncidentUpdated
from ledger.events.monitoring import Window
from ledger.events.pipelines import PipelineDefined
from ledger.events.releases import ReleaseProposed
from ledger.events.rollbacks import RollbackPlanned
from ledger.events.traffic import TrafficChanged

INTEGERS = st.integers(0, (1 << 53) - 1)
NUMBERS = st.one_of(
    st.integers(-(1 << 53) + 1, (1 << 53) - 1), st.floats(allow_nan=False, allow_infinity=False)
)
_SIGNS = "abzKZ09 _-./:+~äöüÄßéñ京都مرحبا🎉👍🏽<script>&'\"\\"


def _is_name(text: str) -> bool:
    return bool(text) and text == text.strip() and len(text.encode()) <= 60


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


NAMES = st.one_of(
    st.text(_SIGNS, min_size=1, max_size=12).map(_nfc).filter(_is_name),
    st.from_regex(r"\A[a-z][a-z0-9_/.-]{0,10}[a-z0-9]\Z"),
)
KINDS = st.from_regex(r"\A[a-z][a-z0-9_.-]{0,8}\Z")
WORDS = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.+-]{0,8}\Z")
PROSE = st.text(_SIGNS + "\n\t", min_size=1, max_size=40).filter(lambda text: bool(text.strip()))
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, PROSE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
_OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
PAST = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the strategy adds the zones
    max_value=datetime(2026, 1, 1),  # noqa: DTZ001
    timezones=_OFFSETS,
)
TIMES = PAST.map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
HEX = "0123456789abcdef"
DIGESTS = st.one_of(
    st.text(HEX, min_size=64, max_size=64).map("sha256:{}".format),
    st.text(HEX, min_size=40, max_size=40).map("sha1:{}".format),
    st.text(HEX, min_size=64, max_size=64).map("blake3:{}".format),
)

BY_WORDS: dict[str, st.SearchStrategy[Any]] = {
    "name": NAMES,
    "name without @": NAMES,
    "kind": KINDS,
    "word": WORDS,
    "asset version": st.builds("{}/{}@{}".format, KINDS, NAMES, NAMES),
    "actor id": st.from_regex(r"\A(user|service|agent):[a-z0-9]{1,9}\Z"),
    "digest": DIGESTS,
    "time": TIMES,
    "verifier key": st.from_regex(r"\A[a-z.]{1,9}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{4,44}\Z"),
    "true or false": st.booleans(),
    "number": NUMBERS,
    "percent, 0 to 100": st.one_of(st.integers(0, 100), st.floats(0, 100)),
    "integer, 0 or more": INTEGERS,
    "integer, 1 or more": INTEGERS.filter(bool),
    "entry index": INTEGERS,
    "text": PROSE,
    "URI or path": PROSE,
    "JSON object": st.dictionaries(NAMES, _JSON, max_size=3),
    "any JSON": _JSON,
}


@cache
def event_data(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid data of the event (or part), with any of the fields that may be absent."""
    needed, optional = {}, {}
    for name, field in model.model_fields.items():
        target = needed if field.is_required() else optional
        target[field.alias or name] = _of_type(field.annotation, field.metadata)
    made = st.fixed_dictionaries(needed, optional=optional)
    repair = REPAIRS.get(model)
    return made if repair is None else made.map(repair)


def _of_type(kind: Any, metadata: Any = ()) -> st.SearchStrategy[Any]:
    words = [mark.text for mark in metadata if isinstance(mark, Words)]
    origin, choices = get_origin(kind), get_args(kind)
    least = max((getattr(mark, "min_length", None) or 0 for mark in metadata), default=0)
    floor = max((getattr(mark, "ge", None) or 0 for mark in metadata), default=0)
    if words:
        return BY_WORDS[words[-1]].filter(lambda value: floor == 0 or value >= floor)
    if origin is Annotated:
        return _of_type(choices[0], choices[1:])
    if origin is Literal:
        return st.sampled_from(choices)
    if origin is tuple and choices[-1] is ...:
        return st.lists(_of_type(choices[0]), min_size=least, max_size=3)
    if origin is tuple:
        return st.tuples(*map(_of_type, choices)).map(list)
    if origin is dict:
        return st.dictionaries(_of_type(choices[0]), _of_type(choices[1]), max_size=3)
    if choices:
        return st.one_of(*map(_of_type, choices))
    if kind is type(None):
        return st.none()
    return event_data(kind)


def _whole_shares(data: dict[str, Any]) -> dict[str, Any]:
    if data["mode"] != "shadow" and data["shares"]:
        first, *others = data["shares"]
        data["shares"] = {first: 100, **dict.fromkeys(others, 0)}
    return data


def _ordered_slots(data: dict[str, Any]) -> dict[str, Any]:
    slots: dict[str, Any] = {}
    for slot in data["slots"]:
        if "depends_on" in slot:
            slot["depends_on"] = list(slots)[:2]
        slots.setdefault(slot["slot"], slot)
    return {**data, "slots": list(slots.values())}


def _window(data: dict[str, Any]) -> dict[str, Any]:
    first, last = sorted(data.values(), key=parse_rfc3339)
    return {"from": first, "to": last if first != last else "2026-11-01T00:00:00+01:00"}


def _interval(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("interval"):
        data["interval"] = sorted(data["interval"])
    return data


def _distinct_steps(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "steps": list({step["id"]: step for step in data["steps"]}.values())}


def _distinct_changes(data: dict[str, Any]) -> dict[str, Any]:
    changes = {change["slot"]: change for change in data["changes"]}
    return {**data, "changes": list(changes.values())}


def _update_of_something(data: dict[str, Any]) -> dict[str, Any]:
    said = any(data.get(name) for name in ("action", "severity", "reported_to"))
    return data if said else {**data, "action": "looked into it"}


def _tag_of_something(data: dict[str, Any]) -> dict[str, Any]:
    named = data.get("index") is not None or data.get("state_digest") is not None
    return data if named else {**data, "index": 7}


def _one_leaves(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("previous") and data.get("asset_version"):
        data["previous"] = data["asset_version"]
    return data


REPAIRS: dict[type[BaseModel], Callable[[dict[str, Any]], dict[str, Any]]] = {
    TrafficChanged: _whole_shares,
    PipelineDefined: _ordered_slots,
    Window: _window,
    Metric: _interval,
    RollbackPlanned: _distinct_steps,
    ReleaseProposed: _distinct_changes,
    IncidentUpdated: _update_of_something,
    TagSet: _tag_of_something,
    BindingRemoved: _one_leaves,
}


def stream_for(event_class: type[Event], data: dict[str, Any]) -> str:
    """A stream that fits the data, free places filled in as the example does."""
    example = event_class.EXAMPLE_STREAM
    if event_class.TYPE.startswith("asset.version.withdrawn"):
        return f"asset/{data.get('kind') or 'model'}/{data.get('name') or 'm'}"
    if event_class.TYPE.startswith("run."):
        return f"run/{data.get('run') or '7'}"
    fields = {place: data[place] for place in data if isinstance(data[place], str)}
    try:
        return event_class.STREAM.format(**fields)
    except KeyError:
        return example
