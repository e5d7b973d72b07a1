"""History from elsewhere: a file of events, checked, then appended piece by piece, resumable.

::

    with path.open("rb") as file:
        events = JsonLines(file)
        with check_events(events, actor=actor, clock=clock, progress=tell) as checked:
            done = append_events(writer, checked.pieces(), progress=tell)

Each piece is one batch whose idempotency key is made of the bytes of the file (`import_pieces`), so
an import that was interrupted is simply started again: what is there already is recognised, and the
rest follows. docs/importing.md, docs/adr/0076.
"""

from __future__ import annotations

import marshal
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, Self

from api.hints import hinting
from api.import_pieces import Piece, Refused, pieces_of
from ledger.errors import ConflictError, StoreError

if TYPE_CHECKING:
    from api.event_files import EventFile
    from ledger.clock import Clock
    from ledger.writer import Appended, Writer

__all__ = [
    "SHOWN",
    "Checked",
    "Imported",
    "append_events",
    "check_events",
]

SHOWN: Final = 20
"""Refused records that are told one by one; the others are counted."""

_WINDOW: Final = 8  # pieces on their way at a time: enough to keep both sides busy, 32 MiB at most

Progress = Callable[[int, int | None], None]


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
        self.events += piece.count
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
    entropy: Callable[[int], bytes] = os.urandom,
    progress: Progress,
) -> Checked:
    """Put every record through the door; nothing is written to the ledger.

    `progress` is told the bytes that were read. Raises: MalformedError for a file that cannot be
    read on, StoreError where there is no room for what passed.
    """
    checked = Checked(_kept=_Spool() if keep else None)
    try:
        made = pieces_of(events, actor=actor, clock=clock, workers=workers, entropy=entropy)
        with closing(made) as pieces:
            for piece in pieces:
                checked.take(piece)
                progress(piece.read, None)
    except BaseException:
        checked.close()
        raise
    return checked


class _Spool:
    """Pieces on their way from the check to the append, in a file without a name.

    It is written and read by this process alone. Whatever the disk makes of it, a piece is appended
    as it was prepared or not at all: its bytes carry a checksum.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="asof-import-")

    def put(self, piece: Piece) -> None:
        body = piece.packed()
        head = marshal.dumps((piece.line, piece.digest, piece.read, piece.count, len(body)))
        try:
            self._file.write(len(head).to_bytes(8, "big") + head)
            self._file.write(body)
        except OSError as error:
            raise StoreError(
                f"no room for what was checked ({error.strerror}): name a larger folder for"
                " temporary files with TMPDIR, or import with --skip-bad, which keeps none"
            ) from error

    def pieces(self) -> Iterator[Piece]:
        self._file.seek(0)
        while size := self._file.read(8):
            head = self._file.read(int.from_bytes(size, "big"))
            line, digest, read, count, length = marshal.loads(head)  # noqa: S302  # our own bytes
            yield Piece(
                line=line,
                digest=digest,
                read=read,
                count=count,
                refused=[],
                held=self._file.read(length),
            )

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
            if not piece.count:
                continue
            batch = piece.batch()
            alone = not done.entries or any(
                draft.expected_version is not None for draft in batch.drafts
            )
            waiting.append(writer.submit_prepared(batch))
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
