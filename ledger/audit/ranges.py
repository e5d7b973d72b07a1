"""One range of entries, checked by itself: the work of an audit that can be done side by side.

A range begins at a multiple of 256, so its full level-0 tiles are its own. What it gives back is
small whatever its length: findings, the roots of its tiles, the leaves after its last full tile.
The upper levels of the tree are made of those roots by whoever asked (`ledger.audit.whole`).

Steps 2, 3, 4 and the level-0 part of 6 of docs/spec/verification.md.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Final

from ledger.bundle.question import ERASURE_TYPES, erased_indexes
from ledger.chain import EARLIEST, ChainChecker, StoredRow
from ledger.errors import AsofError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE
from ledger.merkle import Frontier
from ledger.store import Store
from ledger.tiles import TILE_BYTES, TILE_WIDTH, tile_root
from ledger.verdict import MAX_FINDINGS, Finding

__all__ = ["RANGE", "RangeResult", "check_range"]

RANGE: Final = 1 << 15
"""Entries in one piece of work: a multiple of 256, large enough that handing it out is cheap."""

BATCH: Final = TILE_WIDTH
"""Rows fetched at a time: what fits into a core's own cache until it is checked; ten times as many
cost a sixth more. docs/adr/0065.
"""

AHEAD: Final = 16 * BATCH
"""Rows that a server is asked for at a time."""

COMMITMENTS: Final = "2 commitments"
ENTRIES: Final = "3 entries"
CHAIN: Final = "4 chain"
TILES: Final = "6 tiles"

_STEP_OF = {"payload": COMMITMENTS, "entry": ENTRIES, "link": CHAIN}
_type_of = itemgetter(4)


@dataclass(slots=True)
class RangeResult:
    """What is known of entries [start, stop) after they were checked."""

    start: int
    stop: int
    entries: int = 0
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    tiles: int = 0
    tile_roots: list[bytes] = field(default_factory=list)
    rest: list[bytes] = field(default_factory=list)
    withheld: array[int] = field(default_factory=lambda: array("Q"))
    erasures: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    damaged_tiles: set[int] = field(default_factory=set)
    last_leaf: bytes = EMPTY_ROOT
    last_recorded_at: int = EARLIEST

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it where there are too many."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.more_findings += 1


def check_range(store: Store, origin: str, start: int, stop: int) -> RangeResult:
    """Check the entries `start <= index < stop`; `start` is a multiple of 256.

    Every damaged entry is named and none drags the next one down: after damage the check goes on
    from the leaf hash that is stored, and where an entry is missing, from the one that its tile
    holds.
    """
    result = RangeResult(start, stop)
    checker = _begin(store, origin, start)
    leaves: list[bytes] = []
    for batch in _batches(store, start, stop, result):
        _check_batch(store, checker, batch, leaves, result)
        _take_tiles(store, leaves, result)
    _fill(store, leaves, stop - _next(result, leaves), result)
    _take_tiles(store, leaves, result)
    result.rest = leaves
    result.last_leaf, result.last_recorded_at = checker.prev, checker.recorded_at
    if checker.index < stop:
        _missing(checker.index, stop, result)
    return result


def _begin(store: Store, origin: str, start: int) -> ChainChecker:
    """A checker that stands behind the entry before the range; a doubt about it belongs to its own
    range.
    """
    if start == 0:
        return ChainChecker(origin)
    try:
        before = next(iter(store.raw_rows(start - 1, start)), None)
    except AsofError:
        before = None
    if before is None:
        return ChainChecker(origin, start=start, prev=_stored_leaf(store, start - 1))
    return ChainChecker(origin, start=start, prev=before[9], recorded_at=before[1])


def _batches(
    store: Store, start: int, stop: int, result: RangeResult
) -> Iterator[Sequence[StoredRow]]:
    """The rows in lists; where the store cannot give a list, row by row, so that the bad ones are
    named.
    """
    for position, end, ask in _asked(store, start, stop):
        try:
            rows = ask()
        except AsofError as error:
            rows = _readable(store, position, end, error, result)
        for at in range(0, len(rows), BATCH):
            yield rows[at : at + BATCH]


Asked = tuple[int, int, Callable[[], Sequence[StoredRow]]]


def _asked(store: Store, start: int, stop: int) -> Iterator[Asked]:
    """The range in pieces, each with how to get its rows. A server is asked for thousands at once,
    for the next ones while these are looked at: each journey costs as much as a hundred rows.
    """
    if not store.works_elsewhere:
        for position in range(start, stop, BATCH):
            end = min(stop, position + BATCH)
            yield position, end, partial(store.raw_rows, position, end)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="asof-rows") as fetching:
        coming: deque[tuple[int, int, Future[Sequence[StoredRow]]]] = deque()
        for position in range(start, stop, AHEAD):
            end = min(stop, position + AHEAD)
            coming.append((position, end, fetching.submit(store.raw_rows, position, end)))
            if len(coming) > 1:
                first, last, rows = coming.popleft()
                yield first, last, rows.result
        for first, last, rows in coming:
            yield first, last, rows.result


def _readable(
    store: Store, start: int, stop: int, error: AsofError, result: RangeResult
) -> list[StoredRow]:
    """The rows that can be read of a range that cannot be read as a whole, found by halving it."""
    if stop - start == 1:
        message = "the store cannot read the entry"
        result.add(
            Finding(step=ENTRIES, message=message, index=start, expected="a row", found=str(error))
        )
        return []
    middle = (start + stop) // 2
    rows: list[StoredRow] = []
    for low, high in ((start, middle), (middle, stop)):
        try:
            rows += store.raw_rows(low, high)
        except AsofError as deeper:
            rows += _readable(store, low, high, deeper, result)
    return rows


def _check_batch(
    store: Store,
    checker: ChainChecker,
    batch: Sequence[StoredRow],
    leaves: list[bytes],
    result: RangeResult,
) -> None:
    """Steps 2 to 4 for one list of rows; their leaf hashes are put behind `leaves`, gaps filled."""
    checked = checker.check(batch)
    result.entries += len(batch)
    result.withheld.extend(checked.withheld)
    if checked.findings:
        for found in checked.findings:
            if found.kind != "payload":
                result.damaged_tiles.add(found.index // TILE_WIDTH)
            result.add(
                Finding(
                    step=_STEP_OF[found.kind],
                    message=found.message,
                    index=found.index,
                    expected=found.expected,
                    found=found.found,
                )
            )
        _place_leaves(store, batch, leaves, result)
    else:
        leaves += checked.leaf_hashes
    types = set(map(_type_of, batch))
    result.types |= types
    if not types.isdisjoint(ERASURE_TYPES):
        _note_erasures(batch, result)


def _place_leaves(
    store: Store, batch: Sequence[StoredRow], leaves: list[bytes], result: RangeResult
) -> None:
    """Leaf hashes at the places that their indexes name; what is missing comes from the tile."""
    for row in batch:
        index = row[0]
        place = _next(result, leaves)
        if not isinstance(index, int) or index < place or index >= result.stop:
            continue
        _fill(store, leaves, index - place, result)
        leaves.append(row[9] if _is_hash(row[9]) else _stored_leaf(store, index))


def _fill(store: Store, leaves: list[bytes], count: int, result: RangeResult) -> None:
    for _ in range(count):
        leaves.append(_stored_leaf(store, _next(result, leaves)))


def _next(result: RangeResult, leaves: list[bytes]) -> int:
    """The index of the leaf that comes next."""
    return result.start + len(result.tile_roots) * TILE_WIDTH + len(leaves)


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_SIZE


def _note_erasures(batch: Sequence[StoredRow], result: RangeResult) -> None:
    for row in batch:
        if row[4] in ERASURE_TYPES and row[8] is not None:
            result.erasures.append((row[0], erased_indexes(row[8])))


def _missing(start: int, stop: int, result: RangeResult) -> None:
    for index in range(start, stop):
        message = "the entry is missing"
        result.add(
            Finding(step=CHAIN, message=message, index=index, expected="an entry", found="none")
        )


# --- step 6, level 0 ------------------------------------------------------------------------------


def _take_tiles(store: Store, leaves: list[bytes], result: RangeResult) -> None:
    """Compare each tile that the leaves fill with the stored one.

    Where an entry of the tile is damaged, the stored tile is what the tree goes on from: so one
    damaged leaf is found once, and not at each level above it.
    """
    full = len(leaves) // TILE_WIDTH
    for number in range(full):
        hashes = leaves[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
        n = result.start // TILE_WIDTH + len(result.tile_roots)
        stored = compared_tile(store, 0, n, b"".join(hashes), result)
        if stored is None or n not in result.damaged_tiles:
            result.tile_roots.append(Frontier.empty().extended(hashes).root())
        else:
            result.tile_roots.append(tile_root(stored))
    del leaves[: full * TILE_WIDTH]


def compared_tile(
    store: Store, level: int, n: int, own: bytes, result: RangeResult
) -> bytes | None:
    """The stored tile, if it is there and has its size; a finding where it is not the recomputed
    one.
    """
    result.tiles += 1
    try:
        stored = store.tile(level, n)
    except AsofError as error:
        result.add(_tile_finding(level, n, own, str(error)))
        return None
    if stored != own:
        result.add(_tile_finding(level, n, own, "no tile" if stored is None else _hex(stored)))
    return stored if stored is not None and len(stored) == TILE_BYTES else None


def _tile_finding(level: int, n: int, own: bytes, found: str) -> Finding:
    return Finding(
        step=TILES,
        message="the stored tile is not the recomputed one",
        place=f"tile {level}/{n}",
        expected=_hex(own),
        found=found,
    )


def _hex(tile: bytes) -> str:
    """A tile as evidence: the root over it, as 8 kB of hex say no more."""
    return f"root {tile_root(tile).hex()}" if len(tile) == TILE_BYTES else f"{len(tile)} bytes"


def _stored_leaf(store: Store, index: int) -> bytes:
    """The leaf hash that a tile holds for an entry that cannot be read; all zeros where there is
    none.
    """
    n, place = divmod(index, TILE_WIDTH)
    try:
        tile = store.tile(0, n) or b""
    except AsofError:
        tile = b""
    leaf = tile[place * HASH_SIZE : (place + 1) * HASH_SIZE]
    return leaf if len(leaf) == HASH_SIZE else bytes(HASH_SIZE)
