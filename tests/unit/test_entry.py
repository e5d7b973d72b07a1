"""entry, commitment: one spelling, and every other one refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ledger.canonical import format_time
from ledger.commitment import check_commitment, commit
from ledger.entry import Entry, EntryFormatter, _Pieces, format_entry, parse_entry
from ledger.errors import MalformedError, TamperError
from tests.support.golden import golden

ENTRY = golden()[7].entry


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": -1}, "index: -1 is not between 0"),
        ({"index": 2**53}, "2\\^53-1"),
        ({"index": True}, "index: True"),
        ({"version": 0}, "version: 0 is not between 1"),
        ({"prev": b"short"}, "prev: a hash has 32 bytes, this one 5"),
        ({"commitment": b""}, "commitment: a hash"),
        ({"actor": ""}, "actor: a name has"),
        ({"stream": "a\nb"}, "stream: a control"),
        ({"type": "e\u0301"}, "type: a name must be"),
        ({"ledger": "x" * 513}, "ledger: a name has"),
        ({"recorded_at": 1 << 80}, "outside the years"),
    ],
)
def test_not_an_entry(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        format_entry(dataclasses.replace(ENTRY, **changes))


def members(**changes: Any) -> bytes:
    """Entry 7 with members changed or (None) taken out."""
    value = {**json.loads(format_entry(ENTRY)), **changes}
    kept = {name: value[name] for name in sorted(value) if value[name] is not None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def test_the_unchanged_entry_is_accepted() -> None:
    assert parse_entry(members()) == ENTRY


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actor": None}, "differing: actor"),
        ({"extra": 1}, "differing: extra"),
        ({"v": 2}, "/v: an entry version"),
        ({"v": True}, "canonical form"),
        ({"index": "7"}, "/index: expected an integer"),
        ({"index": 7.5}, "/index: expected an integer"),
        ({"index": True}, "index: True is not"),
        ({"actor": 7}, "/actor: expected a string"),
        ({"prev": "AB" * 32}, "/prev: expected 64"),
        ({"commitment": "ab"}, "/commitment: expected 64"),
        ({"recorded_at": "2026-11-21T05:00:00Z"}, "not a time of the form"),
        ({"stream": ""}, "stream: a name"),
        ({"actor": []}, "nested too deep"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        parse_entry(members(**changes))


@pytest.mark.parametrize(
    "data",
    [
        members().replace(b'"v":1', b'"v": 1'),
        members().replace(b"asset", b"\\u0061sset"),
        members().replace(b'"index":7', b'"index":7.0'),
        members() + b"\n",
        members().replace(b'{"actor"', b'{"v":1,"actor"'),
        b"x" * 65_536,
        b"[]",
        b"",
    ],
)
def test_other_spellings_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_entry(data)


def test_text_survives_unchanged() -> None:
    name = 'ü"\\/ 😀 עברית <script>\u2028'
    entry = dataclasses.replace(ENTRY, actor=name, stream=name, type=name, ledger=name)
    assert parse_entry(format_entry(entry)) == entry


def test_the_names_kept_are_bounded() -> None:
    names = _Pieces("actor")
    for i in range(_Pieces.LIMIT + 1):
        assert names[f"name-{i}"] == f"name-{i}"
    assert len(names) == 1


def test_formatter_agrees_with_format_entry() -> None:
    formatter = EntryFormatter(ENTRY.ledger)
    assert formatter.ledger == ENTRY.ledger
    for e in (one.entry for one in golden()):
        assert format_entry(e) == formatter.format(
            e.index, e.prev.hex(), format_time(e.recorded_at),
            e.actor, e.stream, e.type, e.version, e.commitment.hex(),
        )  # fmt: skip


def test_an_entry_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENTRY.index = 8  # type: ignore[misc]
    assert isinstance(ENTRY, Entry)


def test_commitment() -> None:
    salt, payload = bytes(16), b"payload"
    check_commitment(commit(salt, payload), salt, payload)
    with pytest.raises(TamperError) as caught:
        check_commitment(commit(salt, payload), salt, b"Payload")
    assert caught.value.expected == commit(salt, payload).hex()
    assert caught.value.found == commit(salt, b"Payload").hex()
    with pytest.raises(MalformedError, match="16 bytes, this one 15"):
        commit(bytes(15), payload)
