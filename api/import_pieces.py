"""A file of events in pieces, each one a batch that is ready for the writer.

::

    for piece in pieces_of(JsonLines(file), actor=actor, clock=clock, workers=1):
        piece.key, piece.batch(), piece.refused

A file is cut by its content alone: 1,000 records, or fewer where they are long. The key of a piece
is made of the digest of all bytes up to its end, so the same file makes the same keys, and an
import that was interrupted recognises what is there. docs/adr/0076, 0107.

Most of the work is the door and the commitments. They are made wherever a processor is free: in
other processes, and here while those are behind. Cutting, keys and order stay here, so the result
does not depend on how many there are.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final, NamedTuple

from api.import_packing import packed, unpacked
from api.tuning import tune_for_writing
from ledger.batch import Batch, prepare_batch
from ledger.errors import MalformedError, StoreError

if TYPE_CHECKING:
    from api.event_files import Door, EventFile, Record
    from ledger.clock import Clock
    from ledger.draft import Draft

__all__ = [
    "PIECES_ALONE",
    "PIECE_BYTES",
    "PIECE_RECORDS",
    "Entropy",
    "Piece",
    "Refused",
    "others_here",
    "pieces_of",
]

PIECE_RECORDS: Final = 1_000
PIECE_BYTES: Final = 4 << 20
"""Both are part of the meaning of the keys: with others, an import begun before would repeat."""

PIECES_ALONE: Final = 16
"""Pieces that are made by this process before others are begun: they need half a second."""

_AHEAD: Final = 2
"""Pieces that another process has before it: one that it makes, and the next."""


Entropy = Callable[[int], bytes]
"""Random bytes, so many; it goes to other processes with the door."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the door refused: its line, the place in it, why, and its bytes."""

    line: int
    place: str
    why: str
    raw: bytes

    @property
    def where(self) -> str:
        return f"line {self.line} {self.place}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The events of one batch, and what was refused among them."""

    line: int
    digest: str
    read: int
    """Bytes of the file up to its end."""
    count: int
    """Events that passed."""
    refused: list[Refused]
    held: Batch | bytes
    """The batch, or its packed form; no bytes where nothing passed."""

    @property
    def key(self) -> str:
        """The same for the same bytes at the same place; of everything before it, too."""
        return f"import:{self.line}:{self.digest}"

    def batch(self) -> Batch:
        """What is to be appended, where something passed. Raises: StoreError where it was changed
        since it was packed.
        """
        return unpacked(self.held, key=self.key) if isinstance(self.held, bytes) else self.held

    def packed(self) -> bytes:
        """The batch as bytes; none where nothing passed."""
        return self.held if isinstance(self.held, bytes) else packed(self.held)


def pieces_of(
    events: EventFile,
    *,
    actor: str,
    clock: Clock,
    workers: int = 0,
    entropy: Entropy = os.urandom,
) -> Generator[Piece, None, None]:
    """Read a file to its end; memory holds a few pieces of it.

    A long file goes through the door in `workers` other processes too, which the generator ends
    when it is closed. Raises: MalformedError for a file that cannot be read on, StoreError.
    """
    cut = _cut(events)
    made = partial(_made, events.door, actor, entropy)
    for read in cut if not workers else islice(cut, PIECES_ALONE):
        yield made(read, clock())
    if workers:
        yield from _made_everywhere(made, cut, clock, workers)


def others_here() -> int:
    """How many processes beside this one a long file is worth on this machine: those that there are
    processors for, four at most keep a store busy.
    """
    return min(4, (os.cpu_count() or 1) - 1)


class _Read(NamedTuple):
    """What one piece is made of."""

    line: int
    digest: str
    size: int
    records: list[Record]

    def piece(self, count: int, refused: list[Refused], held: Batch | bytes) -> Piece:
        return Piece(
            line=self.line,
            digest=self.digest,
            read=self.size,
            count=count,
            refused=refused,
            held=held,
        )


def _cut(events: EventFile) -> Iterator[_Read]:
    held: list[Record] = []
    size = total = 0
    for one in events.records():
        held.append(one)
        size += len(one[1])
        if len(held) == PIECE_RECORDS or size >= PIECE_BYTES:
            total += size
            yield _Read(held[0][0], events.digest.hexdigest(), total, held)
            held, size = [], 0
    if held:
        yield _Read(held[0][0], events.digest.hexdigest(), total + size, held)


def _made(door: Door, actor: str, entropy: Entropy, read: _Read, now: int) -> Piece:
    drafts, refused = _drafted(door, read.records, actor, now)
    piece = read.piece(len(drafts), refused, b"")
    if not drafts:
        return piece
    return replace(piece, held=prepare_batch(drafts, key=piece.key, entropy=entropy))


def _drafted(
    door: Door, records: Iterable[Record], actor: str, now: int
) -> tuple[list[Draft], list[Refused]]:
    """Through the door, each for itself."""
    drafts, refused = [], []
    for line, raw, content in records:
        if content is not None:
            try:
                drafts.append(door(content, actor, now))
            except MalformedError as error:
                refused.append(_refused(line, error, raw))
    return drafts, refused


def _refused(line: int, error: MalformedError, raw: bytes) -> Refused:
    why = str(error).removeprefix(f"{error.where}: ") if error.where else str(error)
    return Refused(line, error.where, why, raw)


# --------------------------------------------------------------------------------- other processes

_Make = Callable[[_Read, int], Piece]


def _made_everywhere(
    make: _Make, cut: Iterable[_Read], clock: Clock, workers: int
) -> Iterator[Piece]:
    """The pieces in their order, each made by whoever is free: while the others have enough to do,
    this process makes one itself instead of waiting for them.
    """
    waiting: deque[Future[Piece]] = deque()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter)
    try:
        for read in cut:
            if sum(not made.done() for made in waiting) < _AHEAD * workers:
                waiting.append(pool.submit(_made_there, make, read, clock()))
            else:
                waiting.append(_at_once(make(read, clock())))
            while waiting and (waiting[0].done() or len(waiting) > 2 * _AHEAD * workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StoreError(
            "a process that checked lines was ended from outside: run the same import again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once(piece: Piece) -> Future[Piece]:
    made: Future[Piece] = Future()
    made.set_result(piece)
    return made


def _enter() -> None:
    """A worker's beginning: Ctrl-C is for the process that leads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_for_writing()


def _made_there(make: _Make, read: _Read, now: int) -> Piece:
    """The piece in the form in which it travels."""
    piece = make(read, now)
    return replace(piece, held=piece.packed())
