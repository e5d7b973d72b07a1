"""Many events from a file: checked as a whole first, then appended batch by batch, and resumable.

::

    import_events(writer, Path("events.jsonl"), actor="service:backfill", now=now)

Nothing is written unless every line is an event that the ledger takes. Each batch has an
idempotency key made of the file's digest and the batch's place, so an import that was interrupted
is simply started again: what is there already is recognised, and the rest follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.errors import MalformedError
from ledger.events import parse_drafts

if TYPE_CHECKING:
    from typing import BinaryIO

    from ledger.draft import Draft
    from ledger.writer import Writer

__all__ = ["BATCH", "Imported", "import_events"]

BATCH = 1_000
"""Events in one batch: all or none of them are written."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file: its events, how many were there already, and the ledger now."""

    entries: int
    repeated: int
    first_index: int
    tree_size: int


def import_events(
    writer: Writer, path: Path, *, actor: str, now: int, progress: Progress
) -> Imported:
    """Append the events of a file of JSON lines. Memory does not grow with the file.

    Raises: MalformedError naming the line (nothing was written), ConflictError (the batches before
    stay), StoreError (start it again).
    """
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        total = sum(len(drafts) for drafts in _batches(file, actor, now))
        if not total:
            raise MalformedError("the file holds no event", where=str(path))
        entries = repeated = 0
        first = None
        for number, drafts in enumerate(_batches(file, actor, now)):
            appended = writer.append(drafts, idempotency_key=f"import:{digest}:{BATCH}:{number}")
            entries += appended.count
            repeated += appended.count if appended.repeated else 0
            first = appended.first_index if first is None else first
            progress(entries, total)
    return Imported(
        entries=entries, repeated=repeated, first_index=first or 0, tree_size=appended.tree_size
    )


def _batches(file: BinaryIO, actor: str, now: int) -> Iterator[list[Draft]]:
    """The file's events, `BATCH` lines at a time; blank lines count as lines, not as events."""
    file.seek(0)
    before = 0
    while lines := list(islice(file, BATCH)):
        if any(line.strip() for line in lines):
            yield _parsed(lines, before, actor, now)
        before += len(lines)


def _parsed(lines: list[bytes], before: int, actor: str, now: int) -> list[Draft]:
    try:
        return [draft for line in lines if line.strip() for draft in parse_drafts(line, actor, now)]
    except MalformedError:
        for number, line in enumerate(lines, before + 1):
            _check_line(line, number, actor, now)
        raise


def _check_line(line: bytes, number: int, actor: str, now: int) -> None:
    """Raises MalformedError that names the line of the file."""
    if not line.strip():
        return
    try:
        parse_drafts(line, actor, now)
    except MalformedError as error:
        text = str(error).removeprefix(f"{error.where}: ")
        place = error.where.removeprefix("line 1").strip()
        raise MalformedError(text, where=f"line {number} {place}".rstrip()) from None
