"""Text from a ledger must not steer a terminal or become a formula; JSON keeps its value."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.terminal import Ink, cell, json_safe, plain, width

DANGEROUS = [
    "\x1b[2J",
    "\x07",
    "\r",
    "\n",
    "\t",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u2028",
]


@pytest.mark.parametrize("text", DANGEROUS)
def test_controls_are_written_out(text: str) -> None:
    assert all(c.isprintable() for c in plain(f"a{text}b"))


def test_ordinary_text_stays() -> None:
    text = "Müller ☂ 模型 עברית <script> \U0001f680"
    assert plain(text) == text
    assert cell(text) == text
    assert json_safe(text) == text


def test_words_of_the_escape() -> None:
    assert plain("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"


@given(st.text())
def test_json_keeps_its_value(text: str) -> None:
    source = json_safe(json.dumps(text, ensure_ascii=False))
    assert json.loads(source) == text
    assert not set(source) & {"\x1b", "\x9b", "\u202e", "\u2066", "\x7f", "\n"}


@given(st.text(st.characters(codec="utf-8")))
def test_no_cell_is_a_formula(text: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(["x", cell(text)])
    assert "\x1b" not in buffer.getvalue()
    found = cell(text)
    assert not found.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("lead", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_get_an_apostrophe(lead: str) -> None:
    assert cell(f"{lead}1+1") == f"'{lead}1+1"


def test_numbers_are_no_formulas() -> None:
    assert [cell(value) for value in (-5, 2.5, True, None)] == ["-5", "2.5", "true", ""]


def test_width_counts_columns() -> None:
    assert [width(text) for text in ("abc", "模型", "e\u0301")] == [3, 4, 1]


def test_ink_is_off_or_on() -> None:
    assert Ink(False).bad("x") == "x"
    assert Ink(True).bad("x") == "\x1b[1;31mx\x1b[0m"
    assert Ink(True).bold("") == ""
