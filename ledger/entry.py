"""One entry: the RFC 8785 object that is hashed into the chain and the tree.

::

    {"actor":"service:trainer-0","commitment":"<64
    hex>","index":0,"ledger":"ledger.example.com/acme",
     "prev":"<64
     hex>","recorded_at":"2026-11-21T05:00:00.000000Z","stream":"asset/model/forecaster-1",
     "type":"asset.version.recorded/1","v":1,"version":1}        (one line, no spaces)

The bytes follow from the fields and the fields from the bytes; `parse_entry` refuses every other
spelling. For these members, strings in NFC without control characters and integers, JCS needs only
two escapes: the quote and the backslash. docs/spec/entry.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.canonical import (
    MAX_SAFE_INTEGER,
    check_name,
    format_time,
    parse_json_object,
    parse_time,
)
from ledger.errors import MalformedError
from ledger.hashing import HASH_SIZE, leaf_hash

__all__ = [
    "ENTRY_VERSION",
    "MAX_ENTRY_BYTES",
    "Entry",
    "EntryFormatter",
    "entry_leaf",
    "format_entry",
    "parse_entry",
]

ENTRY_VERSION: Final = 1
MAX_ENTRY_BYTES: Final = 65_535
_MEMBERS: Final = frozenset(
    "actor commitment index ledger prev recorded_at stream type v version".split()
)
_HEX_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The fields of an entry; `prev` is the leaf hash of the entry before."""

    actor: str
    commitment: bytes
    index: int
    ledger: str
    prev: bytes
    recorded_at: int
    stream: str
    type: str
    version: int


def format_entry(entry: Entry) -> bytes:
    """The one spelling of `entry`, or MalformedError if no entry may have these fields."""
    _check_hash(entry.commitment, "commitment")
    _check_hash(entry.prev, "prev")
    _check_count(entry.index, "index", 0)
    _check_count(entry.version, "version", 1)
    return EntryFormatter(entry.ledger).format(
        entry.index,
        entry.prev.hex(),
        format_time(entry.recorded_at),
        entry.actor,
        entry.stream,
        entry.type,
        entry.version,
        entry.commitment.hex(),
    )


def parse_entry(data: bytes) -> Entry:
    """The entry whose bytes these are: parsed, formatted again, compared; or MalformedError."""
    members = parse_json_object(data, max_bytes=MAX_ENTRY_BYTES, max_depth=1)
    if members.keys() != _MEMBERS:
        names = ", ".join(sorted(members.keys() ^ _MEMBERS))
        raise MalformedError(f"an entry has exactly the members of version 1; differing: {names}")
    if members["v"] != ENTRY_VERSION:
        raise MalformedError("an entry version that this program does not know", where="/v")
    entry = Entry(
        actor=_text(members, "actor"),
        commitment=_hash(members, "commitment"),
        index=_integer(members, "index"),
        ledger=_text(members, "ledger"),
        prev=_hash(members, "prev"),
        recorded_at=parse_time(_text(members, "recorded_at")),
        stream=_text(members, "stream"),
        type=_text(members, "type"),
        version=_integer(members, "version"),
    )
    if format_entry(entry) != data:
        raise MalformedError("the bytes are not the canonical form of the entry they hold")
    return entry


def entry_leaf(data: bytes) -> bytes:
    """The leaf hash of an entry's bytes."""
    return leaf_hash(data)


class EntryFormatter:
    """Makes the entries of one ledger, about 0.5 µs each; a name is checked when first met.

    `format` trusts its numbers, hex digests and time, which the caller has just made; names it
    checks. Safe to share between threads.
    """

    __slots__ = ("_actors", "_ledger", "_streams", "_types", "ledger")

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self._ledger = _Pieces("ledger", ',"ledger":"', '","prev":"')[ledger]
        self._actors = _Pieces("actor", '{"actor":"', '","commitment":"')
        self._streams = _Pieces("stream", '","stream":"', '","type":"')
        self._types = _Pieces("type", "", '","v":1,"version":')

    def format(
        self,
        index: int,
        prev_hex: str,
        recorded_at: str,
        actor: str,
        stream: str,
        type: str,
        version: int,
        commitment_hex: str,
    ) -> bytes:
        """The bytes of one entry. MalformedError for a name that no entry may have."""
        return (
            f'{self._actors[actor]}{commitment_hex}","index":{index}{self._ledger}{prev_hex}'
            f'","recorded_at":"{recorded_at}{self._streams[stream]}{self._types[type]}{version}}}'
        ).encode()


class _Pieces(dict[str, str]):
    """Name → the piece of an entry around it: what comes before, the name's JCS escape, what comes
    after. A name is checked when first met. Bounded: it forgets all rather than grow.
    """

    __slots__ = ("_after", "_before", "_field")

    LIMIT = 8192

    def __init__(self, field: str, before: str = "", after: str = "") -> None:
        super().__init__()
        self._field = field
        self._before = before
        self._after = after

    def __missing__(self, name: str) -> str:
        check_name(name, self._field)
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        if len(self) >= self.LIMIT:
            self.clear()
        piece = self[name] = f"{self._before}{escaped}{self._after}"
        return piece


def _text(members: Mapping[str, object], name: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        raise MalformedError("expected a string", where=f"/{name}")
    return value


def _integer(members: Mapping[str, object], name: str) -> int:
    value = members[name]
    if not isinstance(value, int):
        raise MalformedError("expected an integer", where=f"/{name}")
    return value


def _hash(members: Mapping[str, object], name: str) -> bytes:
    text = _text(members, name)
    if not _HEX_HASH.fullmatch(text):
        raise MalformedError("expected 64 lower-case hex digits", where=f"/{name}")
    return bytes.fromhex(text)


def _check_hash(value: bytes, field: str) -> None:
    if len(value) != HASH_SIZE:
        raise MalformedError(f"a hash has {HASH_SIZE} bytes, this one {len(value)}", where=field)


def _check_count(value: int, field: str, least: int) -> None:
    if isinstance(value, bool) or not least <= value <= MAX_SAFE_INTEGER:
        raise MalformedError(f"{value} is not between {least} and 2^53-1", where=field)
