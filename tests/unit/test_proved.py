"""Entries out of the middle, against the tree: full tiles, partial ones, and two rows of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ledger.errors import TamperError
from ledger.note import Signer
from ledger.reader import Reader
from ledger.stores.memory import MemoryStore
from projections.proved import Proved
from tests.support.histories import START, draft, ledger_of

LARGE = 66_100
"""More than 256 tiles of 256, and the last one partial."""

SIZES = (1, 2, 255, 256, 257, 700, 65_536, 65_537, LARGE - 1, LARGE)


@pytest.fixture(scope="module")
def store() -> Iterator[MemoryStore]:
    store = MemoryStore()
    notes = [
        draft("note.added/1", f"note/{n % 7}", "user:ann", {"text": str(n)}) for n in range(100)
    ]
    with ledger_of(store, SIGNER) as write:
        for _ in range(LARGE // 100):
            write(START, notes)
    yield store
    store.close()


SIGNER = Signer.from_seed("test.example/proved", b"\x07" * 32)


def some(size: int) -> list[int]:
    """First, last, and those beside the borders of tiles."""
    near = {n + d for n in (0, 256, 512, 4_096, 65_536, size) for d in (-2, -1, 0, 1)}
    return sorted(n for n in near if 0 <= n < size)


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_there_is(store: MemoryStore, size: int) -> None:
    reader = Reader(store, SIGNER.vkey)
    rows = reader.rows_at(some(size))
    assert list(Proved(reader, size).checked(rows)) == rows
    assert list(Proved(reader, size).checked(rows[::-1])) == rows[::-1]


@contextmanager
def reading(store: MemoryStore, name: str, change: Callable[[Any, Any, bytes], bytes]) -> Any:
    """A reader of a store whose hashes are changed on their way: `change(first, second, data)`."""
    real = getattr(store, name)

    def changed(first: int, second: int) -> bytes | None:
        data = real(first, second)
        return None if data is None else change(first, second, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, name, changed)
        yield Reader(store, SIGNER.vkey)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("level", "n", "hash_", "index"),
    [
        (0, 0, 5, 5),
        (0, 0, 5, 9),
        (0, 3, 0, 768),
        (0, 3, 255, 800),
        (1, 0, 0, 5),
        (1, 0, 3, 800),
        (1, 0, 255, 5),
    ],
)
def test_any_hash_of_a_tile(store: MemoryStore, level: int, n: int, hash_: int, index: int) -> None:
    """A tile with another hash proves none of its entries; the root is that of before."""

    def change(at: int, number: int, data: bytes) -> bytes:
        return flipped(data, hash_ * 32) if (at, number) == (level, n) else data

    right = Reader(store, SIGNER.vkey)
    rows, root = right.rows_at([index]), right.root(66_000)
    with reading(store, "tile", change) as reader:
        proved = Proved(reader, 66_000)
        proved._root = root
        with pytest.raises(TamperError):
            list(proved.checked(rows))
    assert list(Proved(right, 66_000).checked(rows)) == rows


@pytest.mark.parametrize("index", [300, 65_800, 66_099])
def test_a_partial_tile(store: MemoryStore, index: int) -> None:
    """The way of every entry to the root passes it."""

    def change(start: int, stop: int, data: bytes) -> bytes:
        at = (66_060 - start) * 32
        return flipped(data, at) if 0 <= at < len(data) else data

    right = Reader(store, SIGNER.vkey)
    rows, root = right.rows_at([index]), right.root(LARGE)
    with reading(store, "leaf_hashes", change) as reader:
        proved = Proved(reader, LARGE)
        proved._root = root
        with pytest.raises(TamperError, match="another root"):
            list(proved.checked(rows))
    assert list(Proved(right, LARGE).checked(rows)) == rows


@pytest.mark.parametrize("index", [0, 255, 256, 300, 66_099])
def test_another_row(store: MemoryStore, index: int) -> None:
    reader = Reader(store, SIGNER.vkey)
    (row,) = reader.rows_at([index])
    changes = (
        row._replace(actor="user:eve"),
        row._replace(payload=b"{}"),
        row._replace(leaf_hash=bytes(32)),
        row._replace(recorded_at=row.recorded_at + 1),
    )
    for changed in changes:
        with pytest.raises(TamperError) as caught:
            list(Proved(reader, LARGE).checked([changed]))
        assert caught.value.index == index
