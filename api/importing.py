"""History from elsewhere: a file of events, checked, then appended piece by piece, resumable.

::

    with path.open("rb") as file:
        events = JsonLines(file)
        with check_events(events, actor=actor, clock=clock, progress=tell) as checked:
            done = append_events(writer, checked.pieces(), progress=tell)

A file is cut into pieces by its content alone: 1,000 records, or fewer where they are long. Each
piece is one batch with an idempotency key made of the digest of all bytes up to its end, so an
import that was interrupted is simply started again: what is there already is recognised, and the
rest follows. docs/importing.md, docs/adr/0076.
"""

from __future__ import annotations

import marshal
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from api.hints import hinting
from api.tuning import tune_for_writing
from ledger.draft import make_draft
from ledger.errors import ConflictError, MalformedError, StoreError

if TYPE_CHECKING:
    from api.event_files import Door, EventFile, Record
    from ledger.clock import Clock
    from ledger.draft import Draft
    from ledger.writer import Appended, Writer

__all__ = [
    "PIECES_ALONE",
    "PIECE_BYTES",
    "PIECE_RECORDS",
    "SHOWN",
    "Checked",
    "Imported",
    "Piece",
    "Refused",
    "append_events",
    "check_events",
    "pieces_of",
]

PIECE_RECORDS: Final = 1_000
PIECE_BYTES: Final = 4 << 20
"""Both are part of the meaning of the keys: with others, an import begun before would repeat."""

SHOWN: Final = 20
"""Refused records that are told one by one; the others are counted."""

PIECES_ALONE: Final = 16
"""Pieces that are checked by this process before others are begun: they need half a second."""

_WINDOW: Final = 8  # pieces on their way at a time: enough to keep both sides busy, 32 MiB at most

Progress = Callable[[int, int | None], None]


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
    drafts: list[Draft]
    refused: list[Refused]

    @property
    def key(self) -> str:
        """The same for the same bytes at the same place; of everything before it, too."""
        return f"import:{self.line}:{self.digest}"


def pieces_of(
    events: EventFile, *, actor: str, clock: Clock, workers: int = 0
) -> Generator[Piece, None, None]:
    """Read a file to its end; memory holds a few pieces of it.

    A long file goes through the door in `workers` other processes, which the generator ends when it
    is closed. Raises: MalformedError for a file that cannot be read on, StoreError.
    """
    cut = _cut(events)
    for read in cut if not workers else islice(cut, PIECES_ALONE):
        drafts, refused = _drafted(events.door, read.records, actor, clock())
        yield read.piece(drafts, refused)
    if workers:
        yield from _drafted_elsewhere(events.door, cut, actor, clock, workers)


class _Read(NamedTuple):
    """What one piece is made of."""

    line: int
    digest: str
    size: int
    records: list[Record]

    def piece(self, drafts: list[Draft], refused: list[Refused]) -> Piece:
        return Piece(
            line=self.line, digest=self.digest, read=self.size, drafts=drafts, refused=refused
        )


def _cut(events: EventFile) -> Iterator[_Read]:
    records = events.records()
    total = 0
    while first := next(records, None):
        held = [first]
        size = len(first[1])
        while len(held) < PIECE_RECORDS and size < PIECE_BYTES and (one := next(records, None)):
            held.append(one)
            size += len(one[1])
        total += size
        yield _Read(first[0], events.digest.hexdigest(), total, held)


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


def _drafted_elsewhere(
    door: Door, cut: Iterable[_Read], actor: str, clock: Clock, workers: int
) -> Iterator[Piece]:
    """The pieces in their order, each drafted by whichever process is free."""
    waiting: deque[tuple[_Read, Future[bytes]]] = deque()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter)
    try:
        for read in cut:
            waiting.append((read, pool.submit(_drafted_there, door, read.records, actor, clock())))
            if len(waiting) > 2 * workers:
                yield _returned(*waiting.popleft())
        while waiting:
            yield _returned(*waiting.popleft())
    except BrokenProcessPool as error:
        raise StoreError(
            "a process that checked lines was ended from outside: run the same import again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _enter() -> None:
    """A worker's beginning: Ctrl-C is for the process that leads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_for_writing()


def _drafted_there(door: Door, records: list[Record], actor: str, now: int) -> bytes:
    drafts, refused = _drafted(door, records, actor, now)
    told = [(one.line, one.place, one.why, one.raw) for one in refused]
    return marshal.dumps((_told(drafts), told))


def _returned(read: _Read, answer: Future[bytes]) -> Piece:
    drafts, refused = marshal.loads(answer.result())  # noqa: S302  # from a process of our own
    return read.piece([make_draft(*one) for one in drafts], [Refused(*one) for one in refused])


def _told(drafts: Iterable[Draft]) -> list[tuple[str, str, str, bytes, int | None]]:
    """What `make_draft` takes, for a process or a file of our own."""
    return [(one.type, one.stream, one.actor, one.payload, one.expected_version) for one in drafts]


# ------------------------------------------------------------------------------------------- check


@dataclass(slots=True)
class Checked:
    """What became of a file at the door. What passed lies in a nameless file until it is asked for.

    So the input is read once, may be a pipe, and cannot change between the check and the append.
    """

    events: int = 0
    refused: int = 0
    first_refused: list[Refused] = field(default_factory=list)
    _kept: _Spool | None = None

    def pieces(self) -> Iterator[Piece]:
        """What passed, in the pieces in which it was read; once."""
        if self._kept is not None:
            yield from self._kept.pieces()

    def take(self, piece: Piece) -> None:
        """Count a piece and keep it; after the first refusal nothing will be written, nor kept."""
        self.events += len(piece.drafts)
        self.refused += len(piece.refused)
        self.first_refused += piece.refused[: SHOWN - len(self.first_refused)]
        if self.refused:
            self.close()
        elif self._kept is not None:
            self._kept.put(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the space back. Leaving the context does."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def check_events(
    events: EventFile,
    *,
    actor: str,
    clock: Clock,
    keep: bool = True,
    workers: int = 0,
    progress: Progress,
) -> Checked:
    """Put every record through the door; nothing is written to the ledger.

    `progress` is told the bytes that were read. Raises: MalformedError for a file that cannot be
    read on, StoreError where there is no room for what passed.
    """
    checked = Checked(_kept=_Spool() if keep else None)
    try:
        with closing(pieces_of(events, actor=actor, clock=clock, workers=workers)) as pieces:
            for piece in pieces:
                checked.take(piece)
                progress(piece.read, None)
    except BaseException:
        checked.close()
        raise
    return checked


class _Spool:
    """Pieces on their way from the check to the append, in a file without a name.

    It is written and read by this process alone, so the interpreter's own form will do: it costs
    1 µs an event, where parsing again would cost ten.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="asof-import-")

    def put(self, piece: Piece) -> None:
        data = marshal.dumps((piece.line, piece.digest, piece.read, _told(piece.drafts)))
        try:
            self._file.write(len(data).to_bytes(8, "big") + data)
        except OSError as error:
            raise StoreError(
                f"no room for what was checked ({error.strerror}): name a larger folder for"
                " temporary files with TMPDIR, or import with --skip-bad, which keeps none"
            ) from error

    def pieces(self) -> Iterator[Piece]:
        self._file.seek(0)
        while size := self._file.read(8):
            data = self._file.read(int.from_bytes(size, "big"))
            line, digest, read, drafts = marshal.loads(data)  # noqa: S302  # our own bytes
            made = [make_draft(*one) for one in drafts]
            yield Piece(line=line, digest=digest, read=read, drafts=made, refused=[])

    def close(self) -> None:
        self._file.close()


# ------------------------------------------------------------------------------------------ append


@dataclass(slots=True)
class Imported:
    """What was recorded, and how much of it was there already."""

    entries: int = 0
    repeated: int = 0
    first_index: int | None = None
    last_index: int | None = None
    tree_size: int = 0
    seconds: float = 0.0

    @property
    def recorded(self) -> int:
        """Entries that are new."""
        return self.entries - self.repeated

    @property
    def per_second(self) -> float:
        return self.recorded / self.seconds if self.seconds else 0.0

    def take(self, appended: Appended) -> None:
        """Count the answer to one piece."""
        self.entries += appended.count
        self.tree_size = max(self.tree_size, appended.tree_size)
        if appended.repeated:
            self.repeated += appended.count
            return
        if self.first_index is None:
            self.first_index = appended.first_index
        self.last_index = appended.first_index + appended.count - 1


def append_events(
    writer: Writer,
    pieces: Iterable[Piece],
    *,
    progress: Progress,
    refuse: Callable[[Refused], None] | None = None,
) -> Imported:
    """Append the pieces in their order, the next ones being prepared while earlier ones commit.

    A piece whose events expect versions is waited for before the next is submitted, since it may be
    refused; so is the first, which tells whether the file belongs to another import. `refuse` is
    given what the door refused.

    Raises: ConflictError, StoreError, UnknownOutcomeError. What was committed before stays, what
    follows is not begun; the same call again goes on from there.
    """
    done = Imported()
    waiting: deque[Future[Appended]] = deque()
    begin = time.perf_counter()
    try:
        for piece in pieces:
            if refuse is not None:
                for one in piece.refused:
                    refuse(one)
            if not piece.drafts:
                continue
            alone = not done.entries or any(
                draft.expected_version is not None for draft in piece.drafts
            )
            waiting.append(writer.submit(piece.drafts, idempotency_key=piece.key))
            while len(waiting) > (0 if alone else _WINDOW):
                _settle(waiting.popleft(), done, progress)
        while waiting:
            _settle(waiting.popleft(), done, progress)
    finally:
        for future in waiting:
            future.cancel()
    done.seconds = time.perf_counter() - begin
    return done


def _settle(future: Future[Appended], done: Imported, progress: Progress) -> None:
    with hinting(
        ConflictError,
        "with the --actor of the first time, if this file was imported before: asof log shows it",
    ):
        done.take(future.result())
    progress(done.entries, None)
