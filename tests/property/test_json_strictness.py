"""The quick JSON reader never accepts what the careful one refuses; both give the same value."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.canonical import (
    MAX_DEPTH,
    _is_proved_strict,
    _parse_carefully,
    format_canonical,
    format_json,
    parse_json,
)
from ledger.errors import MalformedError

INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
TEXTS = st.text(max_size=12)
SCALARS = (
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12
)

# Texts that are JSON, or nearly: fragments that matter, in any order.
FRAGMENTS = st.sampled_from(
    """{ } [ ] : , " \\ 0 1 -0 -1 1.0 1e999 1E400 -1e999 1e-999 NaN Infinity -Infinity true null
    9007199254740991 9007199254740992 -9007199254740992 18446744073709551616 -9223372036854775809
    123456789012345678901234567890 0.12345678901234567890123 "a" "b" "a":1 "a":1,"a":2
    "\\u0061":3 "\\u003a" "x:y" ":" "\\ud800" "\\ud83d\\ude00" "\\\\u003a" {"a":1} [[[[ ]]]]
    """.split()
) | st.sampled_from([" ", "\n", "\ufeff", "\x0b", "\u00e9", "\x00", '"\u2028"'])
NEARLY_JSON = st.lists(FRAGMENTS, max_size=14).map("".join)
PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", "\\u0061", "c:d", ""]), TEXTS), max_size=5)


def outcome(reader: Any, *arguments: Any) -> Any:
    """The value with its exact type and spelling, or the word 'refused'."""
    try:
        return spelled(reader(*arguments))
    except MalformedError:
        return "refused"


def spelled(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=True), repr(value)


def agree(raw: bytes) -> Any:
    """Both readers' common outcome for a text."""
    quick, careful = outcome(parse_json, raw), outcome(_parse_carefully, raw, MAX_DEPTH)
    assert quick == careful
    return quick


@given(NEARLY_JSON)
@example('{"a":1,"a":2}')
@example('{"a":":","b":1,"b":1}')
@example('{"a":"\\u003a\\u003a","a":1}')
@example('{"a":{"b":1,"b":2},"c":":"}')
@example('{"\\u0061":1,"a":2}')
@example('{"a":-0}')
@example("-0.0")
@example("18446744073709551616")
@example("-9223372036854775809")
@example("[" * 64 + "]" * 64)
@example("[" * 65 + "]" * 65)
@example("[" + "[]," * 80 + "[]]")
def test_both_readers_agree_on_text(text: str) -> None:
    agree(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=24))
def test_both_readers_agree_on_bytes(raw: bytes) -> None:
    agree(raw)


@given(PAIRS, st.booleans())
def test_equal_keys_are_never_accepted(pairs: list[tuple[str, str]], spaced: bool) -> None:
    colon = " : " if spaced else ":"
    members = (f'"{key}"{colon}{json.dumps(text)}' for key, text in pairs)
    raw = ("{" + ",".join(members) + "}").encode()
    keys = [key.replace("\\u0061", "a") for key, _ in pairs]
    assert (agree(raw) == "refused") == (len(set(keys)) < len(keys))


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_whatever_python_writes_is_read(value: Any, ascii_only: bool, indent: int | None) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert agree(raw) == spelled(value)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    data = format_json(value)
    assert parse_json(data) == value
    assert format_json(parse_json(data)) == data
    assert parse_json(data.decode()) == value


@given(VALUES)
def test_canonical_form_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    turned = json.loads(json.dumps(value), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert format_canonical(turned) == format_canonical(value)


@given(st.dictionaries(st.text("abcxyz_", max_size=6), INTEGERS | TEXTS))
def test_for_plain_objects_both_writers_agree(value: dict[str, Any]) -> None:
    assert format_json(value) == format_canonical(value)


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 3))
def test_not_a_number_is_never_written(number: float, depth: int) -> None:
    value: Any = number
    for level in range(depth):
        value = {"x": value} if level % 2 else [None, value]
    with pytest.raises(MalformedError):
        format_json(value)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":2}', b'{"a":"\\u003a","a":1}', b"18446744073709551616", b"9007199254740992"],
)
def test_control_the_library_alone_would_accept(raw: bytes) -> None:
    """The proof of strictness is needed: orjson by itself takes these texts."""
    orjson.loads(raw)
    assert agree(raw) == "refused"


def test_control_the_quick_way_is_taken() -> None:
    raw = json.dumps({"a": [1, 2.5, "x:y"], "b": {"c": None}}).encode()
    assert _is_proved_strict(raw, orjson.loads(raw), MAX_DEPTH)
