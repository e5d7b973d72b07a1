"""PostgreSQL's binary formats, made in bulk: arrays for one statement, rows for COPY.

::

    cursor.execute("SELECT … unnest(%s)", [Encoded(text_array(["a", "b"]))])

The driver has dumpers for lists; they ask the type of each value anew, which costs an append of 64
entries half a millisecond under the lock. Here the types are known. PostgreSQL's documentation,
"COPY", Binary Format, and src/backend/utils/adt/arrayfuncs.c, array_recv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct, pack
from typing import Any, Final, NamedTuple

from psycopg import adapt, pq
from psycopg.abc import AdaptContext

from ledger.store import Row

__all__ = [
    "COPY_END",
    "COPY_START",
    "TRUE",
    "Encoded",
    "EncodedDumper",
    "blob",
    "blob_array",
    "copied_rows",
    "hash_array",
    "int4",
    "int4_array",
    "int8",
    "int8_array",
    "text_array",
]

INT4, INT8, TEXT, BYTEA = 23, 20, 25, 17
INT4_ARRAY, INT8_ARRAY, TEXT_ARRAY, BYTEA_ARRAY = 1007, 1016, 1009, 1001

COPY_START: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_END: Final = b"\xff\xff"

TRUE: Final = b"\x01"
NULL: Final = b"\xff\xff\xff\xff"
HASH_LENGTH: Final = (32).to_bytes(4, "big")
SALT_LENGTH: Final = (16).to_bytes(4, "big")
_length: Callable[[int], bytes] = Struct(">i").pack
_fixed = Struct(">hiqiqiqiiiii32si32s").pack


class Encoded(NamedTuple):
    """A value in PostgreSQL's binary format, and the type that it has."""

    data: bytes
    oid: int


class EncodedDumper(adapt.Dumper):
    """Hands an `Encoded` to the server as it is."""

    format = pq.Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None, oid: int = 0) -> None:
        super().__init__(cls, context)
        self.oid = oid

    def dump(self, obj: Encoded) -> bytes:
        return obj.data

    def get_key(self, obj: Encoded, format: adapt.PyFormat) -> Any:
        return (self.cls, obj.oid)

    def upgrade(self, obj: Encoded, format: adapt.PyFormat) -> EncodedDumper:
        return EncodedDumper(self.cls, oid=obj.oid)


def int4(value: int) -> Encoded:
    """integer"""
    return Encoded(value.to_bytes(4, "big", signed=True), INT4)


def int8(value: int) -> Encoded:
    """bigint"""
    return Encoded(value.to_bytes(8, "big", signed=True), INT8)


def blob(value: bytes) -> Encoded:
    """bytea"""
    return Encoded(value, BYTEA)


def int4_array(values: Sequence[int]) -> Encoded:
    """integer[]"""
    flat = chain.from_iterable((4, value) for value in values)
    return _array(INT4, INT4_ARRAY, len(values), pack(">" + "ii" * len(values), *flat))


def int8_array(values: Sequence[int]) -> Encoded:
    """bigint[]"""
    flat = chain.from_iterable((8, value) for value in values)
    return _array(INT8, INT8_ARRAY, len(values), pack(">" + "iq" * len(values), *flat))


def text_array(values: Sequence[str]) -> Encoded:
    """text[]"""
    return _array(TEXT, TEXT_ARRAY, len(values), b"".join(map(_text, values)))


def hash_array(values: Sequence[bytes]) -> Encoded:
    """bytea[] of values that all have 32 bytes."""
    data = HASH_LENGTH + HASH_LENGTH.join(values) if values else b""
    return _array(BYTEA, BYTEA_ARRAY, len(values), data)


def blob_array(values: Sequence[bytes | None]) -> Encoded:
    """bytea[] of any sizes, with NULL for None."""
    nulls = None in values
    if nulls:
        data = b"".join([part for value in values for part in _blob(value)])
    else:
        lengths = map(_length, map(len, values))  # type: ignore[arg-type]
        data = b"".join(chain.from_iterable(zip(lengths, values, strict=True)))  # type: ignore[arg-type]
    return _array(BYTEA, BYTEA_ARRAY, len(values), data, nulls=nulls)


def copied_rows(
    ledger: int, rows: Iterable[Row], numbers: Mapping[str, int], piece_bytes: int = 1 << 18
) -> Iterator[bytes]:
    """The rows for `COPY asof.entry (COLUMNS) … WITH (FORMAT binary)` in pieces, without the
    signature and the trailer; `numbers` has that of each stream. About a microsecond a row.
    """
    parts: list[bytes] = []
    size = 0
    for index, at, actor, stream, type_, version, commitment, salt, payload, leaf in rows:
        number = numbers[stream]
        fixed = _fixed(
            11, 8, index, 8, at, 8, number, 4, ledger, 4, version, 32, commitment, 32, leaf
        )
        if salt is None or payload is None:
            parts += (fixed, _names(actor, type_), *_blob(salt), *_blob(payload))
            size += 512
        else:
            salt_length = SALT_LENGTH if len(salt) == 16 else _length(len(salt))
            parts += (
                fixed,
                _names(actor, type_),
                salt_length,
                salt,
                _length(len(payload)),
                payload,
            )
            size += len(payload) + 200
        if size >= piece_bytes:
            yield b"".join(parts)
            parts.clear()
            size = 0
    yield b"".join(parts)


def _array(element: int, oid: int, count: int, data: bytes, *, nulls: bool = False) -> Encoded:
    if not count:
        return Encoded(pack(">iiI", 0, 0, element), oid)
    return Encoded(pack(">iiIii", 1, int(nulls), element, count, 1) + data, oid)


def _blob(value: bytes | None) -> tuple[bytes, ...]:
    return (NULL,) if value is None else (_length(len(value)), value)


@lru_cache(maxsize=16_384)
def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


@lru_cache(maxsize=16_384)
def _names(actor: str, type_: str) -> bytes:
    """Two columns at once: most rows repeat theirs."""
    return _text(actor) + _text(type_)
