"""One answer, four forms: the same data in each, and a table that people can read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.cli.output import Column, Output, pairs, table_lines
from api.cli.terminal import Ink

RECORDS: list[dict[str, Any]] = [
    {"index": 7, "who": "user:ada", "text": "größer\x1b[2J"},
    {"index": 12, "who": "service:模型", "text": "=1+1"},
]
COLUMNS = (
    Column("index", lambda r: r["index"], "ENTRY", right=True),
    Column("who", lambda r: r["who"], "BY"),
    Column("text", lambda r: r["text"], "TEXT"),
    Column("hidden", lambda r: None),
)


def printed(form: str, records: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    assert Output(form, stream, Ink(False)).records(iter(records), COLUMNS, empty="none") == len(
        records
    )
    return stream.getvalue()


def test_json_is_one_array_and_jsonl_one_object_a_line() -> None:
    assert json.loads(printed("json", RECORDS)) == RECORDS
    assert [json.loads(line) for line in printed("jsonl", RECORDS).splitlines()] == RECORDS


@pytest.mark.parametrize(
    ("form", "expected"), [("json", "[]\n"), ("jsonl", ""), ("table", "none\n")]
)
def test_nothing_is_nothing(form: str, expected: str) -> None:
    assert printed(form, []) == expected


def test_csv_has_every_column_and_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(printed("csv", RECORDS))))
    assert rows == [
        ["index", "who", "text", "hidden"],
        ["7", "user:ada", r"größer\x1b[2J", ""],
        ["12", "service:模型", "'=1+1", ""],
    ]


def test_table_is_aligned_and_safe() -> None:
    assert printed("table", RECORDS).splitlines() == [
        "ENTRY  BY            TEXT",
        r"    7  user:ada      größer\x1b[2J",
        "   12  service:模型  =1+1",
    ]


def test_a_long_table_is_streamed() -> None:
    """Memory stays flat: the first lines are out before the last record is made."""
    stream = io.StringIO()

    def many() -> Iterator[dict[str, Any]]:
        for index in range(2_000):
            if index == 1_500:
                assert stream.getvalue().count("\n") > 900
            yield {"index": index, "who": "x", "text": ""}

    Output("table", stream, Ink(False)).records(many(), COLUMNS)
    assert stream.getvalue().count("\n") == 2_001


def test_one_answer_in_four_forms() -> None:
    data = {"a": 1, "b": "x\u202e", "c": {"d": []}}
    found = {}
    for form in ("table", "json", "jsonl", "csv"):
        stream = io.StringIO()
        Output(form, stream, Ink(False)).answer(data, lines=lambda ink: [ink.bold("hello")])
        found[form] = stream.getvalue()
    assert found["table"] == "hello\n"
    assert json.loads(found["json"]) == json.loads(found["jsonl"]) == data
    assert found["jsonl"].count("\n") == 1
    assert "\u202e" not in found["json"] + found["csv"]
    assert found["csv"] == "a,b\n1,x\\u202e\n"


def test_pairs_and_small_tables_are_aligned() -> None:
    assert list(pairs([("a", "1"), ("long", "2\x07")], Ink(False))) == ["a     1", r"long  2\x07"]
    assert list(
        table_lines(("A", "N"), [("x", "10"), ("yy", "9")], Ink(False), right=(False, True))
    ) == [
        "A    N",
        "x   10",
        "yy   9",
    ]
