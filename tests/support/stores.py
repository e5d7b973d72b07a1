"""Rows and heads for tests of stores, which keep what they are given and never look inside."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.store import Head, KeyUse, Row, Store
from ledger.tiles import TILE_BYTES, Tile

__all__ = ["append_rows", "first_head", "key_use", "made_head", "made_rows", "made_tile"]

ORIGIN = "ledger.example.com/test"


def digest(*parts: object) -> bytes:
    return sha256(repr(parts).encode()).digest()


def first_head(origin: str = ORIGIN) -> Head:
    return made_head(0, origin=origin)


def made_head(size: int, *, origin: str = ORIGIN, recorded_at: int | None = None) -> Head:
    return Head(
        origin=origin,
        size=size,
        root=digest("root", size),
        last_leaf=digest("leaf", size - 1),
        recorded_at=size * 10 if recorded_at is None else recorded_at,
        edge=tuple(digest("edge", size, n) for n in range(size.bit_count())),
        checkpoint=f"checkpoint {size}".encode(),
    )


def made_rows(
    streams: Sequence[str], *, start: int = 0, before: dict[str, int] | None = None
) -> list[Row]:
    """One row a name, in order; recorded_at = 10 × (index + 1), so that ties can be asked for."""
    versions = dict(before or {})
    rows = []
    for index, stream in enumerate(streams, start):
        versions[stream] = versions.get(stream, 0) + 1
        withheld = index % 7 == 6
        rows.append(
            Row(
                index=index,
                recorded_at=10 * (index + 1),
                actor=f"user:{index % 3}",
                stream=stream,
                type="note.added/1",
                version=versions[stream],
                commitment=digest("commitment", index),
                salt=None if withheld else digest("salt", index)[:16],
                payload=None if withheld else f'{{"text":"ü 🦉 {index}"}}'.encode(),
                leaf_hash=digest("leaf", index),
            )
        )
    return rows


def made_tile(level: int, number: int) -> Tile:
    return Tile(level, number, (digest("tile", level, number) * 256)[:TILE_BYTES])


def key_use(key: str, first_index: int, *, count: int = 1, tree_size: int | None = None) -> KeyUse:
    size = first_index + count if tree_size is None else tree_size
    return KeyUse(key, digest("body", key), first_index, count, size)


def append_rows(
    store: Store,
    rows: Sequence[Row],
    *,
    tiles: Sequence[Tile] = (),
    keys: Sequence[KeyUse] = (),
) -> Head:
    """One transaction; the head's time is that of the last row."""
    head = made_head(rows[-1].index + 1, recorded_at=rows[-1].recorded_at)
    with store.transaction() as transaction:
        transaction.write(rows, tiles, head, keys)
    return head
