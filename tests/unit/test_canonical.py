"""canonical: what is refused, where, and in which words."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from ledger.canonical import (
    canonical_digest,
    check_name,
    format_base64,
    format_canonical,
    format_decimal,
    format_json,
    format_time,
    parse_base64,
    parse_decimal,
    parse_json,
    parse_json_object,
    parse_rfc3339,
    parse_time,
)
from ledger.errors import MalformedError


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ('{"a":{"b":1,"b":2}}', "/a/b", "occurs twice"),
        ('{"a":1,"\\u0061":2}', "/a", "occurs twice"),
        ('{"a/b~":[0,NaN]}', "/a~1b~0/1", "NaN is not JSON"),
        ("[-Infinity]", "/0", "-Infinity is not JSON"),
        ('{"x":1e999}', "/x", "overflows"),
        ('{"x":[9007199254740992]}', "/x/0", "2^53-1"),
        ('{"x":-9007199254740992}', "/x", "2^53-1"),
        ('{"x":18446744073709551616}', "/x", "2^53-1"),
        ('["\\ud800"]', "/0", "lone surrogate"),
        ('{"\\udc00":1}', "/\\udc00", "lone surrogate"),
        ("[" * 65 + "]" * 65, "/0" * 64, "too deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "/a" * 64, "too deep"),
        ("[1,,2]", "line 1 column 4", "not JSON"),
        ('{"a":\n01}', "line 2 column 2", "not JSON"),
        ("", "line 1 column 1", "not JSON"),
        ("[1] []", "line 1 column 5", "not JSON"),
        ('"tab\t"', "line 1 column 5", "not JSON"),
        ("\ufeff{}", "byte 0", "byte order mark"),
    ],
)
def test_refused_with_the_place(text: str, where: str, words: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_json(text.encode())
    assert caught.value.where == where
    assert words in str(caught.value)
    assert str(caught.value).startswith(where)


def test_refused_as_bytes_or_text() -> None:
    with pytest.raises(MalformedError, match="byte 2: not valid UTF-8"):
        parse_json(b'["\xff"]')
    with pytest.raises(MalformedError, match="lone surrogate at character 2"):
        parse_json('["\ud800"]')
    with pytest.raises(MalformedError, match="nested deeper than 64"):
        parse_json(b"[" * 100_000)
    with pytest.raises(MalformedError, match="5 bytes of JSON; at most 4"):
        parse_json(b"[1,2]", max_bytes=4)
    with pytest.raises(MalformedError, match="expected a JSON object"):
        parse_json_object(b"[]")


def test_limits_are_inclusive() -> None:
    assert parse_json("[9007199254740991,-9007199254740991]") == [2**53 - 1, -(2**53) + 1]
    assert parse_json(b"[" * 64 + b"]" * 64)
    assert parse_json(b"[[]]", max_depth=2) == [[]]
    with pytest.raises(MalformedError):
        parse_json(b"[[]]", max_depth=1)
    assert parse_json(b"[1,2]", max_bytes=5) == [1, 2]


def test_many_shallow_brackets_are_not_depth() -> None:
    assert parse_json(b"[" + b"{}," * 500 + b"[]]") == [{}] * 500 + [[]]


def test_escaped_colons_and_long_fractions_are_read() -> None:
    assert parse_json('{"a\\u003a":":"}') == {"a:": ":"}
    assert parse_json('["\\\\u003a"]') == ["\\u003a"]
    assert parse_json("[0.1234567890123456789012,true,null]") == [
        0.1234567890123456789012,
        True,
        None,
    ]


@dataclasses.dataclass
class Anything:
    field: int = 1


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("inf")],
        {"a": {"b": (float("-inf"),)}},
        2**53,
        {1: 2},
        "\ud800",
        datetime(2026, 1, 1, tzinfo=UTC),
        Anything(),
        object(),
        b"bytes",
    ],
)
def test_cannot_be_written(value: object) -> None:
    with pytest.raises(MalformedError):
        format_json(value)


def test_null_can_be_written() -> None:
    assert (
        format_json({"b": None, "a": ["null", 1.5, ("x", None)]})
        == b'{"a":["null",1.5,["x",null]],"b":null}'
    )


@pytest.mark.parametrize("value", [float("nan"), 2**53, "\ud800", object(), {"\ud800": 1}])
def test_cannot_be_written_canonically(value: object) -> None:
    with pytest.raises(MalformedError, match="canonical JSON"):
        format_canonical(value)


def test_canonical_form_and_digest() -> None:
    assert format_canonical({"b": 1.0, "a": "é", "\U0001f600": 1e21, "\ufb33": 2}) == (
        '{"a":"é","b":1,"\U0001f600":1e+21,"\ufb33":2}'.encode()
    )
    assert canonical_digest({}) == (
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T05:00:00Z",
        "2026-11-21T05:00:00.000000",
        "2026-11-21 05:00:00.000000Z",
        "2026-11-21T05:00:00.000000z",
        "2026-11-21T24:00:00.000000Z",
        "2026-11-21T05:00:60.000000Z",
        "2026-13-01T05:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "",
        "x" * 1000,
    ],
)
def test_not_our_form_of_time(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_time(text)


@pytest.mark.parametrize("instant", [-62_135_596_800_000_001, 253_402_300_800_000_000, 1 << 90])
def test_years_end(instant: int) -> None:
    with pytest.raises(MalformedError, match="outside the years"):
        format_time(instant)


def test_first_and_last_instant() -> None:
    assert format_time(-62_135_596_800_000_000) == "0001-01-01T00:00:00.000000Z"
    assert format_time(253_402_300_799_999_999) == "9999-12-31T23:59:59.999999Z"
    assert format_time(-1) == "1969-12-31T23:59:59.999999Z"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-21T06:30:00+01:30", "2026-11-21T05:00:00.000000Z"),
        ("2026-11-20T22:00:00.5-07:00", "2026-11-21T05:00:00.500000Z"),
        ("2026-11-21t05:00:00.123456789z", "2026-11-21T05:00:00.123456Z"),
        ("2026-11-21 05:00:00-00:00", "2026-11-21T05:00:00.000000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
        ("2017-01-01T00:59:60.75+01:00", "2017-01-01T00:00:00.000000Z"),
    ],
)
def test_rfc3339(text: str, same: str) -> None:
    assert format_time(parse_rfc3339(text)) == same


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-11-21T05:00:00", "with an offset"),
        ("2026-11-21", "with an offset"),
        ("2026-11-21T05:00:00+24:00", "with an offset"),
        ("2026-11-21T05:00:00+0100", "with an offset"),
        ("20261121T050000Z", "with an offset"),
        ("2026-02-30T05:00:00Z", "no such time"),
        ("2026-11-21T05:00:61Z", "no such time"),
        ("2026-11-21T05:00:60Z", "leap second"),
        ("0001-01-01T00:00:00+01:00", "outside the years"),
    ],
)
def test_rfc3339_refused(text: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["AAB=", "AAA", "AA A=", "AAA=\n", "A-_=", "=AAA", "é", "A"])
def test_base64_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="base64"):
        parse_base64(text)


def test_base64_size() -> None:
    assert parse_base64(format_base64(b"abc"), size=3) == b"abc"
    with pytest.raises(MalformedError, match="3 bytes in base64 where 4"):
        parse_base64(format_base64(b"abc"), size=4)


@pytest.mark.parametrize(
    "text", ["", "+1", "-1", "01", "1_0", " 1", "1\n", "٤", "1" * 20, str(2**63)]
)
def test_decimal_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_decimal(text)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_decimal_not_written(number: int) -> None:
    with pytest.raises(MalformedError):
        format_decimal(number)


@pytest.mark.parametrize(
    "name", ["a", "ü", "x" * 512, "é" * 256, "עברית", "<script>", "\u200f", " "]
)
def test_names(name: str) -> None:
    check_name(name, "stream")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "1 to 512 bytes, this one 0"),
        ("x" * 513, "this one 513"),
        ("é" * 257, "this one 514"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        ("a\x85", "control character"),
        ("e\u0301", "NFC"),
        ("\ud800", "lone surrogate"),
        (b"bytes", "must be text"),
        (None, "must be text"),
    ],
)
def test_names_refused(name: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as caught:
        check_name(name, "stream")
    assert caught.value.where == "stream"
