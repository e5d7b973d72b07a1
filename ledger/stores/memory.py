"""A ledger in this process's memory: for tests, trials and dry runs; gone when the process ends.

It is the plainest form of the contract, and so also the one that the others are compared with.
Rows are only ever added at the end and the head is replaced last, so a reader that looks at the
head first never needs the lock.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from ledger.chain import StoredRow
from ledger.errors import ConflictError, NotFoundError, StoreError
from ledger.hashing import HASH_SIZE
from ledger.store import Applied, Forecast, Head, KeyUse, Row, Store, Tracked, check_grows
from ledger.tiles import Tile

__all__ = ["MemoryStore"]


class MemoryStore:
    """The contract of `ledger.store.Store`, without the durability."""

    def __init__(self) -> None:
        self.url = "memory:"
        self.recovers = False
        self.works_elsewhere = False
        self._append_lock = threading.Lock()
        self._head: Head | None = None
        self._rows: list[Row] = []
        self._leaves = bytearray()
        self._streams: dict[str, list[int]] = {}
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._keys: dict[str, KeyUse] = {}
        self._followers: dict[str, int] = {}
        self._closed = False

    def head(self) -> Head | None:
        self._check_open()
        return self._head

    def create(self, head: Head) -> None:
        self._check_open()
        with self._append_lock:
            if self._head is not None:
                raise ConflictError(f"{self.url} already holds the ledger {self._head.origin!r}")
            self._head = head

    @contextmanager
    def transaction(self, forecast: Forecast | None = None) -> Iterator[_MemoryTransaction]:
        self._check_open()
        with self._append_lock:
            transaction = _MemoryTransaction(self)
            yield transaction
            for written in transaction.pending:
                self._apply(*written)

    def raw_rows(self, start: int, stop: int) -> list[StoredRow]:
        return list(self.rows(start, stop))

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        self._check_open()
        for index in range(max(start, 0), min(stop, self._size())):
            yield self._rows[index]

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        self._check_open()
        size = self._size()
        return [self._rows[index] for index in sorted(set(indexes)) if 0 <= index < size]

    def stream_rows(
        self, stream: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Row]:
        self._check_open()
        first = max(after_version, 0)
        stop = self.stream_version(stream)
        if limit is not None:
            stop = min(stop, first + limit)
        for position in range(first, stop):
            yield self._rows[self._streams[stream][position]]

    def stream_version(self, stream: str) -> int:
        self._check_open()
        return bisect.bisect_left(self._streams.get(stream, ()), self._size())

    def streams(self, prefix: str = "") -> Iterator[str]:
        self._check_open()
        names = sorted(name for name in tuple(self._streams) if name.startswith(prefix))
        return (name for name in names if self.stream_version(name))

    def stream_spans(self, size: int) -> Iterator[tuple[str, int, int, int]]:
        for name, indexes in sorted(self._streams.items()):
            versions = [self._rows[index].version for index in indexes if index < size]
            if versions:
                yield name, len(versions), min(versions), max(versions)

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        self._check_open()
        stop = min(stop, self._size())
        return bytes(self._leaves[max(start, 0) * HASH_SIZE : max(stop, 0) * HASH_SIZE])

    def tile(self, level: int, number: int) -> bytes | None:
        self._check_open()
        return self._tiles.get((level, number))

    def tiles(self) -> Iterator[Tile]:
        self._check_open()
        return (Tile(*place, data) for place, data in sorted(self._tiles.items()))

    def key_use(self, key: str) -> KeyUse | None:
        self._check_open()
        return self._keys.get(key)

    def key_uses(self) -> Iterator[KeyUse]:
        self._check_open()
        return (use for _, use in sorted(self._keys.items()))

    def tracked(self, follower: str) -> int | None:
        self._check_open()
        return self._followers.get(follower)

    def track(self, tracked: Tracked) -> None:
        self._check_open()
        with self._append_lock:
            check_grows(tracked, self._followers.get(tracked.name))
            self._followers[tracked.name] = tracked.position

    def again(self) -> Callable[[], Store] | None:
        return None

    def index_at(self, recorded_at: int) -> int:
        self._check_open()
        return bisect.bisect_right(
            self._rows, recorded_at, hi=self._size(), key=lambda row: row.recorded_at
        )

    def migrations(self) -> Sequence[Applied]:
        return ()

    def check_integrity(self, *, deep: bool = True) -> list[str]:
        self._check_open()
        return []

    def tend(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        self._closed = True

    def _size(self) -> int:
        return self._head.size if self._head is not None else 0

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.url} is closed")

    def _apply(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked],
    ) -> None:
        """Nothing here can fail half way: `write` has checked it. The head is last."""
        for row in rows:
            self._rows.append(row)
            self._leaves += row.leaf_hash
            self._streams.setdefault(row.stream, []).append(row.index)
        self._tiles.update({(level, number): data for level, number, data in tiles})
        self._keys.update({use.key: use for use in keys})
        self._followers.update(tracked)
        self._head = head


class _MemoryTransaction:
    """Holds what is to be written until the block ends."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.pending: list[
            tuple[Sequence[Row], Sequence[Tile], Head, Sequence[KeyUse], Sequence[Tracked]]
        ] = []

    def head(self) -> Head:
        head = self._store.head()
        if head is None:
            raise NotFoundError(f"{self._store.url} holds no ledger yet")
        return head

    def stream_versions(self, streams: Collection[str]) -> dict[str, int]:
        return {name: self._store.stream_version(name) for name in streams}

    def key_uses(self, keys: Collection[str]) -> dict[str, KeyUse]:
        found = {key: self._store.key_use(key) for key in keys}
        return {key: use for key, use in found.items() if use is not None}

    def tracked(self, followers: Collection[str]) -> dict[str, int]:
        found = {name: self._store.tracked(name) for name in followers}
        return {name: position for name, position in found.items() if position is not None}

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        return self._store.leaf_hashes(start, stop)

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """Nothing is gained by beginning early."""

    answer_at = None

    def wait(self) -> None:
        """The end of the block is the end of it."""

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        before = self.head()
        if self.pending:
            raise ConflictError("a transaction is written once")
        if head.origin != before.origin or head.recorded_at < before.recorded_at:
            raise ConflictError("the new head does not follow the old one")
        if head.size != before.size + len(rows) or not rows:
            raise ConflictError(f"{len(rows)} rows do not lead from {before.size} to {head.size}")
        self._check_rows(rows, before.size)
        self._check_keys(keys)
        if any((level, number) in self._store._tiles for level, number, _ in tiles):
            raise ConflictError("a tile is written once")
        for position in tracked:
            check_grows(position, self._store.tracked(position.name))
        self.pending.append((tuple(rows), tuple(tiles), head, tuple(keys), tuple(tracked)))

    def _check_rows(self, rows: Sequence[Row], size: int) -> None:
        versions = self.stream_versions({row.stream for row in rows})
        for position, row in enumerate(rows):
            versions[row.stream] += 1
            if row.index != size + position or row.version != versions[row.stream]:
                raise ConflictError(f"entry {row.index} is not the next one")

    def _check_keys(self, keys: Sequence[KeyUse]) -> None:
        names = [use.key for use in keys]
        if len(set(names)) != len(names) or self.key_uses(names):
            raise ConflictError("an idempotency key is used once")
