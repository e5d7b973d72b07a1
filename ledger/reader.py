"""What every question is answered from: the read side of one ledger.

::

    basis = reader.basis()                          # what an answer of now stands on
    for record in reader.entries(0, basis.tree_size):
        ...

A reader needs no private key: the public one, pinned in the key folder or given, is enough. It
never waits for a writer, streams with flat memory, and may be shared between threads. What it
returns is what is stored; that it is what was signed is for `ledger.audit` and for proofs to show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ledger.canonical import format_time
from ledger.chain import ChainHead
from ledger.entry import Entry, format_entry
from ledger.errors import MalformedError, NotFoundError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE
from ledger.merkle import prove_consistency, prove_inclusion, root_at
from ledger.note import VerifierKey
from ledger.proof import InclusionProof
from ledger.record import Record
from ledger.store import Head, Row, Store
from ledger.tiles import TileNodes

__all__ = ["Basis", "Reader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What an answer stands on: the ledger when it had `tree_size` entries.

    `recorded_at` is that of the last of them; None for an empty ledger.
    """

    tree_size: int
    root: bytes
    recorded_at: int | None

    def as_json(self) -> dict[str, Any]:
        """As every answer carries it."""
        at = self.recorded_at
        return {
            "tree_size": self.tree_size,
            "root": self.root.hex(),
            "recorded_at": None if at is None else format_time(at),
        }


class Reader:
    """Reads one ledger. Raises NotFoundError for what is not there, StoreError, TamperError."""

    def __init__(self, store: Store, vkey: VerifierKey) -> None:
        self._store = store
        self._nodes: TileNodes | None = None
        self.vkey = vkey

    @property
    def origin(self) -> str:
        """The ledger's name, which is its key's."""
        return self.vkey.name

    def head(self) -> Head:
        """The newest state that is committed."""
        head = self._store.head()
        if head is None:
            raise NotFoundError(f"{self._store.url} holds no ledger yet: `asof init` begins one")
        return head

    def size(self) -> int:
        """The number of entries."""
        return self.head().size

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint, as a note."""
        return self.head().checkpoint

    def basis(self, tree_size: int | None = None, *, head: Head | None = None) -> Basis:
        """What an answer stands on: now, or when the ledger had `tree_size` entries.

        `head` is one that was read a moment ago: with it nothing is read for its own size, however
        much was appended since.
        """
        head = head or self.head()
        size = head.size if tree_size is None else self._checked_size(tree_size, head.size)
        if size == head.size:
            recorded_at = head.recorded_at if size else None
            return Basis(tree_size=size, root=head.root, recorded_at=recorded_at)
        root = root_at(size, self.nodes(head.size))
        recorded_at = self._row(size - 1).recorded_at if size else None
        return Basis(tree_size=size, root=root, recorded_at=recorded_at)

    def entry(self, index: int) -> Record:
        """The entry at an index."""
        return self._record(self._row(index))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Record]:
        """The entries of `start <= index < stop`; to the end as it is at the call by default.

        Raises TamperError where one is missing.
        """
        size = self.size()
        stop = size if stop is None else min(stop, size)
        start = max(start, 0)
        prev = self._prev(start) if start < stop else EMPTY_ROOT
        expected = start
        for row in self._store.rows(start, stop):
            if row[0] != expected:
                break
            yield Record(row, prev)
            prev = row[9]
            expected += 1
        if expected < stop:
            raise TamperError("it is missing", index=expected)

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The stored rows of `start <= index < stop`, as they are."""
        return self._store.rows(start, stop)

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        """The stored rows of these indexes, in the order of the ledger, asked for at once.

        Raises NotFoundError for an index beyond the end, TamperError where one is missing.
        """
        found = self._store.rows_at(indexes) if indexes else []
        missing = set(indexes).difference(row.index for row in found)
        if missing:
            raise self._not_found(min(missing))
        return found

    def entries_at(self, indexes: Collection[int]) -> list[Record]:
        """The entries of these indexes, as `rows_at` gives their rows."""
        return [self._record(row) for row in self.rows_at(indexes)]

    def stream(
        self, name: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Record]:
        """The entries of one stream, in order."""
        return map(self._record, self._store.stream_rows(name, after_version, limit))

    def stream_version(self, name: str) -> int:
        """The version that a stream stands at; 0 where there is none."""
        return self._store.stream_version(name)

    def streams(self, prefix: str = "") -> Iterator[str]:
        """The names of the streams that begin so."""
        return self._store.streams(prefix)

    def tracked(self, follower: str) -> int | None:
        """How far a follower of some log has come, or None."""
        return self._store.tracked(follower)

    def index_at(self, recorded_at: int) -> int:
        """The number of entries that were known at an instant."""
        return self._store.index_at(recorded_at)

    def entry_bytes(self, index: int) -> bytes:
        """The entry, byte for byte as it was hashed, made of its row. Raises: TamperError."""
        row = self._row(index)
        try:
            return format_entry(
                Entry(
                    actor=row.actor,
                    commitment=row.commitment,
                    index=row.index,
                    ledger=self.origin,
                    prev=self._prev(index),
                    recorded_at=row.recorded_at,
                    stream=row.stream,
                    type=row.type,
                    version=row.version,
                )
            )
        except MalformedError as exc:
            raise TamperError(
                f"no entry can be made of what is stored: {exc}", index=index
            ) from exc

    def leaf_hash(self, index: int) -> bytes:
        """The leaf hash of an entry."""
        found = self._store.leaf_hashes(index, index + 1) if index >= 0 else b""
        if len(found) != HASH_SIZE:
            raise self._not_found(index)
        return found

    def chain_head(self, size: int) -> ChainHead:
        """Where the chain ended when the ledger had `size` entries: what a check begins with."""
        if size == 0:
            return ChainHead()
        return ChainHead(size, self.leaf_hash(size - 1), self._row(size - 1).recorded_at)

    def root(self, size: int) -> bytes:
        """The root when the ledger had `size` entries."""
        head = self.head()
        return root_at(self._checked_size(size, head.size), self.nodes(head.size))

    def inclusion(self, index: int, size: int | None = None) -> InclusionProof:
        """The proof that an entry is in the ledger as the newest checkpoint signs it.

        `size` may only be that checkpoint's: earlier ones are kept by whoever got them.
        """
        head = self.head()
        if size not in (None, head.size):
            raise NotFoundError(
                f"the ledger keeps its newest checkpoint, of {head.size} entries, not one of {size}"
            )
        hashes = self._inclusion_hashes(index, head.size, head.size)
        return InclusionProof(index, tuple(hashes), head.checkpoint)

    def inclusion_hashes(self, index: int, size: int) -> list[bytes]:
        """The hashes that prove an entry in the tree of any earlier or the present size."""
        current = self.size()
        return self._inclusion_hashes(index, self._checked_size(size, current), current)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """The hashes that prove that the smaller tree is the beginning of the larger."""
        current = self.size()
        return prove_consistency(size1, self._checked_size(size2, current), self.nodes(current))

    def nodes(self, size: int) -> TileNodes:
        """The tree's nodes at `size`; the newest asked for is kept, for its cache."""
        nodes = self._nodes
        if nodes is None or nodes.size != size:
            self._nodes = nodes = TileNodes(self._store.tile, self._store.leaf_hashes, size)
        return nodes

    def _inclusion_hashes(self, index: int, size: int, current: int) -> list[bytes]:
        if not 0 <= index < size:
            raise self._not_found(index)
        return prove_inclusion(index, size, self.nodes(current))

    def _row(self, index: int) -> Row:
        row = next(self._store.rows(index, index + 1), None) if index >= 0 else None
        if row is None:
            raise self._not_found(index)
        return row

    def _record(self, row: Row) -> Record:
        return Record(row, partial(self._prev, row[0]))

    def _prev(self, index: int) -> bytes:
        return self.leaf_hash(index - 1) if index else EMPTY_ROOT

    def _checked_size(self, size: int, current: int) -> int:
        if not 0 <= size <= current:
            raise NotFoundError(f"the ledger has {current} entries, there was no tree of {size}")
        return size

    def _not_found(self, index: int) -> NotFoundError | TamperError:
        size = self.size()
        if 0 <= index < size:
            return TamperError("it is missing", index=index)
        return NotFoundError(f"there is no entry {index}: the ledger has {size}, counted from 0")
