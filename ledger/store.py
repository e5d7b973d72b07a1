"""Where a ledger is kept: the small contract that each store keeps in its own way.

::

    with store.transaction() as append:                 # exclusive, over all threads and processes
        head = append.head()
        versions = append.stream_versions(["note/release"])
        append.write(rows, tiles, new_head, keys)       # nothing is visible before the block ends
    # here, and not earlier, the rows are durable

The promises (docs/spec/store.md has them numbered; `tests/contract/test_store.py` asks each of
every store):

* **Order.** Entries are numbered from 0 without gaps. Rows come back in that order, byte for byte
  as they were written.
* **Atomicity.** A transaction is written as a whole or not at all, whatever dies in between.
* **Durability.** When the block of `transaction()` ends without an exception, the rows survive a
  power loss. A store that cannot promise that refuses to open.
* **Exclusiveness.** One transaction at a time over all threads and processes. `write` compares the
  head with the one that the transaction began with; a store never keeps two entries of one index,
  nor two of one stream and version, nor two uses of one key.
* **Nothing is changed or removed.** There is no method for it, and the store refuses the attempt.
* **Reading** never waits for a writer and never sees half a transaction.
* **Failure.** `StoreError`: nothing was written. `UnknownOutcomeError`: it may have been; unless it
  `recovers`, the store writes nothing more until it is opened again. `TamperError`: what is there
  cannot be. Never an exception of the driver.

A store knows no key, no clock and no event: it keeps what it is given. Stores share the contract
test, not code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from ledger.chain import StoredRow
from ledger.errors import ConflictError
from ledger.tiles import Tile

__all__ = [
    "AppendTransaction",
    "Applied",
    "Forecast",
    "Head",
    "KeyUse",
    "Row",
    "Store",
    "Tracked",
    "as_row",
    "check_grows",
]


class Row(NamedTuple):
    """One stored entry: exactly what is kept (docs/adr/0002).

    `prev` is the leaf hash of the row before and the entry's bytes follow from the fields, so
    neither is here. `salt` and `payload` are both None where the payload was withheld or erased.
    """

    index: int  # type: ignore[assignment]  # the word of the format, not tuple's method
    recorded_at: int
    actor: str
    stream: str
    type: str
    version: int
    commitment: bytes
    salt: bytes | None
    payload: bytes | None
    leaf_hash: bytes


as_row: Callable[[Iterable[Any]], Row] = partial(tuple.__new__, Row)
"""A row of its ten values, at hand as one: without the detour over ten arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest state of a ledger, replaced by each append; `size` only grows.

    `edge` holds the hashes of the perfect subtrees along the right edge of the tree, from which the
    next root is made; `checkpoint` is the signed note over `origin`, `size` and `root`.
    """

    origin: str
    size: int
    root: bytes
    last_leaf: bytes
    recorded_at: int
    edge: tuple[bytes, ...]
    checkpoint: bytes


class KeyUse(NamedTuple):
    """What an idempotency key was used for: a batch of `count` entries beginning at `first_index`.

    `body_digest` = SHA-256 over the salt of the first entry and the batch (docs/spec/append.md), so
    that it tells nothing once that salt is erased. `tree_size` is the size of the signed tree that
    the first answer named: the receipt is made again from it.
    """

    key: str
    body_digest: bytes
    first_index: int
    count: int  # type: ignore[assignment]
    tree_size: int


class Tracked(NamedTuple):
    """How far a follower of some log has come: the position it has dealt with last.

    Kept beside the entries so that an append and the position it answers are one transaction. It
    only grows, and is no part of what is signed.
    """

    name: str
    position: int


class Applied(NamedTuple):
    """A step by which the store's schema came to be what it is, and the digest of its text."""

    number: int
    name: str
    checksum: str


def check_grows(tracked: Tracked, held: int | None) -> None:
    """Raises ConflictError unless the position is beyond the one that is held, or the first."""
    if held is not None and tracked.position <= held:
        raise ConflictError(
            f"the follower {tracked.name!r} has come to {held}, so {tracked.position} was dealt "
            "with before: nothing was written"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What an append is going to ask, told before it begins, so that a store may fetch it at once.

    `head` is the newest that the caller knows, or None. Where it is `trusted`, a store may take the
    caller at his word and take the lock only to write; HeadMovedError then tells that another
    process has appended. What was read in between is right if the head has not moved, for every
    append moves it.

    `ahead`: the caller will `wait` after the block. A store that `works_elsewhere` may then let the
    block end when the append is sent; the next trusted append may be prepared meanwhile, and is
    written only if this one was.
    """

    head: Head | None = None
    trusted: bool = False
    ahead: bool = False
    streams: Collection[str] = ()
    keys: Collection[str] = ()
    followers: Collection[str] = ()


class AppendTransaction(Protocol):
    """What the sequencer sees while it alone may append."""

    def head(self) -> Head:
        """The head, read from the store under the lock. Raises: NotFoundError."""
        ...

    def stream_versions(self, streams: Collection[str]) -> dict[str, int]:
        """The version each stream stands at; 0 for a stream that is not there."""
        ...

    def key_uses(self, keys: Collection[str]) -> dict[str, KeyUse]:
        """The uses of those keys that have been used."""
        ...

    def tracked(self, followers: Collection[str]) -> dict[str, int]:
        """The positions of those followers that have one."""
        ...

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        """As the store's, under the lock: for an edge that another process has left behind."""
        ...

    def ahead(self, rows: Sequence[Row], *, of: int) -> None:
        """Some of the `of` rows that `write` is going to be given, in order, as soon as they are
        known: a store may send them on their way while the next are made. Nothing is visible
        before the block ends.
        """
        ...

    def write(
        self,
        rows: Sequence[Row],
        tiles: Sequence[Tile],
        head: Head,
        keys: Sequence[KeyUse],
        tracked: Sequence[Tracked] = (),
    ) -> None:
        """Append, replace the head, and set the positions of followers.

        Raises: HeadMovedError where the head of the forecast no longer stands, another
        ConflictError for rows that do not follow or a position that does not grow. Nothing is
        written then.
        """
        ...

    @property
    def answer_at(self) -> int | None:
        """After the block: the descriptor on which the answer is heard of what is still under way.
        None where there is nothing to wait for."""
        ...

    def wait(self) -> None:
        """After the block: return when what was written is durable, at once where it is already.

        Raises: for an append that went ahead, what the block raises for another.
        """
        ...


class Store(Protocol):
    """One ledger's rows, tiles, keys and head."""

    @property
    def url(self) -> str:
        """What this store was opened with, for messages."""
        ...

    @property
    def works_elsewhere(self) -> bool:
        """Whether a question is answered by another process, so that asking the next one while an
        answer is looked at is quicker than asking one after the other."""
        ...

    @property
    def recovers(self) -> bool:
        """Whether the store goes on after an UnknownOutcomeError (a server that restarts), or
        takes nothing more until it is opened again (a file whose fsync failed)."""
        ...

    def head(self) -> Head | None:
        """The head, or None while there is no ledger here yet."""
        ...

    def create(self, head: Head) -> None:
        """Begin a ledger. Its origin is fixed for ever. Raises: ConflictError if there is one."""
        ...

    def transaction(
        self, forecast: Forecast | None = None
    ) -> AbstractContextManager[AppendTransaction]:
        """Alone for the length of the block; durable at its normal end, undone by an exception."""
        ...

    def again(self) -> Callable[[], Store] | None:
        """What opens this store a second time, for reading: to be sent to another process. None
        where there is no second door."""
        ...

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The rows of `start <= index < stop` that there are, streamed: memory stays flat."""
        ...

    def rows_at(self, indexes: Collection[int]) -> list[Row]:
        """The rows of these indexes that there are, each once and in order, in one round trip; for
        a question's handful of entries, not for a log's worth."""
        ...

    def raw_rows(self, start: int, stop: int) -> list[StoredRow]:
        """The rows of a short range in one list, unexamined: for an audit, which looks at every
        value itself and is meant to see what should not be there."""
        ...

    def stream_rows(
        self, stream: str, after_version: int = 0, limit: int | None = None
    ) -> Iterator[Row]:
        """The rows of one stream in order, after a version, streamed."""
        ...

    def stream_version(self, stream: str) -> int:
        """The version the stream stands at; 0 where there is none."""
        ...

    def streams(self, prefix: str = "") -> Iterator[str]:
        """The names that begin so, sorted by code point; the cost grows with their number."""
        ...

    def stream_spans(self, size: int) -> Iterator[tuple[str, int, int, int]]:
        """(name, entries, lowest version, highest version) of each stream among the first `size`
        entries, sorted by name and streamed: what an audit needs to find a gap."""
        ...

    def leaf_hashes(self, start: int, stop: int) -> bytes:
        """The leaf hashes of `start <= index < stop` in one piece, 32 bytes each."""
        ...

    def tile(self, level: int, number: int) -> bytes | None:
        """A full tile (8,192 bytes), or None."""
        ...

    def tiles(self) -> Iterator[Tile]:
        """All full tiles, by level and number."""
        ...

    def key_use(self, key: str) -> KeyUse | None:
        """What the key was used for, or None."""
        ...

    def key_uses(self) -> Iterator[KeyUse]:
        """All uses of keys, by key."""
        ...

    def tracked(self, follower: str) -> int | None:
        """The position of a follower, or None."""
        ...

    def track(self, tracked: Tracked) -> None:
        """Set a follower's position, durably. Raises: ConflictError unless it grows."""
        ...

    def index_at(self, recorded_at: int) -> int:
        """The number of entries recorded at or before an instant; a binary search."""
        ...

    def migrations(self) -> Sequence[Applied]:
        """The steps that were applied to the store's schema, in order; [] where there is none."""
        ...

    def check_integrity(self, *, deep: bool = True) -> list[str]:
        """What the file says about itself, one line a complaint; [] where it finds nothing."""
        ...

    def tend(self) -> None:
        """Housekeeping that no append should wait for; called between appends, may do nothing."""
        ...

    def close(self) -> None:
        """Give everything back. Calling it twice does no harm."""
        ...
