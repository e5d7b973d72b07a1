"""The state again, from the entries alone: no index, nothing trusted but the signed checkpoint.

::

    answer = replayed(reader, "demand-forecast", "production", at=at, now=now)
    indexed = state(reader, index, "demand-forecast", "production", at=at, now=now)
    answer.state_digest == indexed.state_digest          # or one of the two is wrong

With `verified` (the default) each entry is recomputed on the way: payload to commitment,
commitment to entry, entry to chain, chain to tree, tree to the signed checkpoint. What does not
fit is raised as evidence, and no state is returned. Memory stays flat in the log's length: batches
of rows come and go; what remains belongs to the question (docs/spec/projections.md, rules 14-17).

With `snapshots` it begins at the nearest one and leaves more on its way (rules 27-31). Then only
the entries that are read are checked: those after the snapshot, and those before it that concern
the question, each against the tree. What becomes evidence is replayed from entry 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from ledger.chain import ChainChecker
from ledger.checkpoint import open_checkpoint
from ledger.errors import IncompleteError, TamperError
from ledger.merkle import Frontier, check_consistency, frontier_at
from projections.at import position
from projections.facts import STARTS, pipeline_stream
from projections.fold import Facts, Question, bound_refs, folded, merged
from projections.proved import Proved
from projections.snapshots import Beginning, Marks, Snapshot, Snapshots, mark
from projections.state import State, causes_named, state_of, unknown_pipeline

if TYPE_CHECKING:
    from ledger.reader import Reader
    from ledger.store import Row
    from projections.at import Moment, Position

__all__ = ["fold_part", "replayed"]

BATCH: Final = 4_096
BEGINNINGS: Final = frozenset(STARTS.values())

Progress = Callable[[int, int], None]
"""Told the number of entries read and to be read, after each batch."""


def replayed(
    reader: Reader,
    pipeline: str,
    stage: str,
    *,
    at: Moment | None = None,
    known_at: Moment | None = None,
    basis: int | None = None,
    now: int,
    verified: bool = True,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
    evidence: bool = False,
) -> State:
    """The state, folded from every entry of the basis, or from the nearest of `snapshots` on.

    For `evidence` every entry is read, whatever snapshots there are; `verified` replays leave new
    ones. Raises NotFoundError as `state` does; with `verified`, TamperError for the first entry
    that is not what was signed and IncompleteError where that could not be found out.
    """
    where = position(reader, at=at, known_at=known_at, basis=basis, now=now)
    question = Question(pipeline=pipeline, stage=stage, at=where.at)
    scope = pipeline_stream(pipeline, stage)
    wanted = _refs_to_expect(reader, question, where)
    begun = Beginning(question, wanted)
    if snapshots is not None and not evidence:
        begun = snapshots.beginning(question, where, wanted)
    before = _Before(reader, begun, where, verified=verified)
    facts = folded(question, before.rows(), wanted=wanted)
    seen = _Seen(scope, where, progress)
    batches = (
        _verified(reader, begun.size, where.basis, snapshots)
        if verified
        else _batches(reader, begun.size, where.basis)
    )
    after = folded(question, chain.from_iterable(map(seen.known, batches)), wanted=wanted)
    facts = merged(facts, after)
    ends = before.ends_of_what_begins_in(after)
    facts = merged(facts, folded(question, ends, wanted=wanted))
    if not (begun.scope_there or seen.scope_there):
        raise unknown_pipeline(pipeline, stage, _pipelines(reader, where.basis))
    _check_expected(bound_refs(facts), wanted, scope)
    causes = before.read(causes_named(facts, min(begun.size, where.known)))
    facts = merged(facts, folded(question, causes, wanted=wanted))
    return state_of(facts, question, where, reader.basis(where.basis, head=where.head))


def fold_part(
    reader: Reader, question: Question, start: int, stop: int, wanted: Collection[str] | None = None
) -> Facts:
    """The facts of one range of entries; parts may be folded anywhere and merged in any order."""
    return folded(question, reader.rows(start, stop), wanted=wanted)


def _refs_to_expect(reader: Reader, question: Question, where: Position) -> set[str]:
    """The asset versions that the pipeline's stream leads to, so that only their records are kept.

    A hint, not evidence: `_check_expected` holds it against what the entries themselves gave.
    """
    records = reader.stream(pipeline_stream(question.pipeline, question.stage))
    rows = (record.row for record in records if record.index < where.known)
    return bound_refs(folded(question, rows, wanted=()))


def _check_expected(found: set[str], expected: set[str], scope: str) -> None:
    if found != expected:
        raise TamperError(
            f"the store's list of the stream {scope!r} does not agree with its entries",
            expected=", ".join(sorted(found)),
            found=", ".join(sorted(expected)),
        )


class _Seen:
    """What passes by on the way to the fold: is the pipeline there at all, and how far are we?"""

    def __init__(self, scope: str, where: Position, progress: Progress | None) -> None:
        self.scope_there = False
        self._scope = scope
        self._where = where
        self._progress = progress

    def known(self, batch: list[Row]) -> list[Row]:
        """The rows of a batch that were known at the asked position."""
        self.scope_there = self.scope_there or any(row[3] == self._scope for row in batch)
        if self._progress is not None:
            self._progress(batch[-1].index + 1, self._where.basis)
        known = self._where.known
        return batch if batch[-1].index < known else [row for row in batch if row.index < known]


def _pipelines(reader: Reader, size: int) -> list[tuple[str, str]]:
    """Some that the first `size` entries are about, for the message."""
    firsts = (next(reader.stream(name, 0, 1)) for name in reader.streams("pipeline/"))
    known = islice((record.stream for record in firsts if record.index < size), 8)
    names = (stream.removeprefix("pipeline/").rpartition("@") for stream in known)
    return [(name, stage) for name, _, stage in names]


def _batches(reader: Reader, start: int, stop: int, every: int = BATCH) -> Iterator[list[Row]]:
    """The rows of a range; at each multiple of `every` a batch ends."""
    rows = iter(reader.rows(start, stop))
    while batch := list(islice(rows, min(BATCH, every - start % every))):
        start += len(batch)
        yield batch


def _verified(
    reader: Reader, start: int, size: int, snapshots: Snapshots | None
) -> Iterator[list[Row]]:
    """The rows from `start` on of the first `size` entries, each checked before it is handed on.

    1. Payload, commitment, entry, leaf hash and link of each row agree.
    2. The tree over the leaf hashes has the root of the basis.
    3. The newest signed checkpoint has that root, or is consistent with it.

    The tree of the first `start` entries is the one that the ledger's tiles give: by 2 and 3 it is
    the beginning of the one that was signed.
    """
    head = reader.chain_head(start)
    checker = ChainChecker(
        reader.origin, start=start, prev=head.last_leaf, recorded_at=head.recorded_at
    )
    frontier = frontier_at(start, reader.nodes(reader.size()))
    leaving = None if snapshots is None else _Leaving(snapshots, reader.origin, start)
    every = BATCH if snapshots is None else snapshots.every
    for batch in _batches(reader, start, size, every):
        checked = checker.check(batch)
        if checked.findings:
            raise checked.findings[0].error()
        frontier = frontier.extended(checked.leaf_hashes)
        if leaving is not None:
            leaving.passed(batch, frontier)
        yield batch
    if frontier.size != size:
        raise IncompleteError(f"the ledger gave {frontier.size} of {size} entries")
    _check_root(reader, frontier)


class _Leaving:
    """Leaves a snapshot at every so many entries, of rows that were checked.

    Whether their root was signed is known at the end only: a snapshot of another root than the
    ledger's is not used.
    """

    def __init__(self, snapshots: Snapshots, origin: str, start: int) -> None:
        self._snapshots = snapshots
        self._origin = origin
        self._start = start
        self._marks = Marks()

    def passed(self, batch: list[Row], frontier: Frontier) -> None:
        mark(self._marks, batch)
        if frontier.size % self._snapshots.every:
            return
        self._snapshots.save(
            Snapshot(
                origin=self._origin,
                start_size=self._start,
                tree_size=frontier.size,
                root=frontier.root(),
                marks=self._marks,
            )
        )
        self._start, self._marks = frontier.size, Marks()


class _Before:
    """Reads the entries before a snapshot that a question needs, and checks them if it shall."""

    def __init__(
        self, reader: Reader, begun: Beginning, where: Position, *, verified: bool
    ) -> None:
        self._reader = reader
        self._begun = begun
        self._known = where.known
        self._proved = Proved(reader, begun.size) if verified else None

    def rows(self) -> Iterator[Row]:
        """The rows that concern the question; first all but the ends, then those of what began."""
        begun: set[str] = set()
        for row in self.read(self._begun.entries(self._known)):
            begun.add(row[3])
            yield row
        yield from self.read(self._begun.ends_of(begun, self._known))

    def ends_of_what_begins_in(self, after: Facts) -> Iterator[Row]:
        """The rows of ends before the snapshot whose beginnings lie after it: sources that arrive
        late may tell of the end first."""
        begun = {fact.stream for (part, _), fact in after.latest.items() if part in BEGINNINGS}
        return self.read(self._begun.ends_of(begun, self._known))

    def read(self, indexes: list[int]) -> Iterator[Row]:
        """The rows of these entries, all before the snapshot."""
        for start in range(0, len(indexes), BATCH):
            rows = self._reader.rows_at(indexes[start : start + BATCH])
            yield from rows if self._proved is None else self._proved.checked(rows)


def _check_root(reader: Reader, frontier: Frontier) -> None:
    size, root = frontier.size, frontier.root()
    stated = reader.basis(size).root
    note = reader.checkpoint()
    signed = open_checkpoint(note, reader.vkey)
    if root != stated:
        raise TamperError(
            f"the entries give another root for size {size} than the ledger states",
            expected=stated.hex(),
            found=root.hex(),
            checkpoints=(note,),
        )
    if signed.size < size:
        raise IncompleteError(
            f"the newest checkpoint covers {signed.size} entries, asked are {size}"
        )
    proof = [] if signed.size == size else reader.consistency(size, signed.size)
    check_consistency(size, signed.size, proof, root, signed.root)
