"""Ledgers without a single entry, not even `ledger.opened`: for tests that count from 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.guard import MemoryGuard
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer
from ledger.reader import Reader
from ledger.store import Head, Store
from ledger.stores.memory import MemoryStore
from ledger.stores.sqlite import SqliteStore
from ledger.writer import Writer

ORIGIN = "ledger.example.com/empty"
START = 1_795_237_200_000_000  # 2026-11-21T05:00:00Z


class Ticking:
    """A clock that is a millisecond later each time it is read."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


@dataclass
class Opened:
    """The two sides of one ledger, and its clock."""

    store: Store
    writer: Writer
    reader: Reader
    clock: Ticking


def signer() -> Signer:
    return Signer.from_seed(ORIGIN, b"\x07" * 32)


def empty_head() -> Head:
    key = signer()
    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), key)
    return Head(
        origin=ORIGIN,
        size=0,
        root=EMPTY_ROOT,
        last_leaf=EMPTY_ROOT,
        recorded_at=0,
        edge=(),
        checkpoint=checkpoint,
    )


@contextmanager
def opened(store: Store) -> Iterator[Opened]:
    """A writer and a reader on a store that already holds a ledger of ours."""
    key, clock = signer(), Ticking()
    with Writer(store, key, guard=MemoryGuard(), clock=clock) as writer:
        yield Opened(store, writer, Reader(store, key.vkey), clock)


@contextmanager
def empty_ledger(path: Path | None = None) -> Iterator[Opened]:
    """A new ledger in memory, or in a SQLite file."""
    store: Store = MemoryStore() if path is None else SqliteStore.create_file(path)
    try:
        store.create(empty_head())
        with opened(store) as ledger:
            yield ledger
    finally:
        store.close()
