"""To verify a whole ledger: recompute everything, believe nothing but the pinned key.

::

    report = verify(store, vkey=vkey, guard=guard, workers=2)
    report.result                     Verdict.VALID
    report.findings[0].index          the first damaged entry, where it is INVALID

The steps are those of docs/spec/verification.md, with the same numbers. Entries are checked in
ranges, in this process or in several; each worker opens the store again for reading and sends back
what is small. Memory grows neither with the length of the ledger nor with the number of its
streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Protocol, TypeVar

from ledger.audit.ranges import CHAIN, RANGE, RangeResult, check_range, compared_tile
from ledger.audit.rest import (
    check_erasures,
    check_key_uses,
    check_stream_spans,
    note_future,
    note_types,
)
from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.errors import AsofError, MalformedError, StoreError, TamperError
from ledger.export import FOLDER_PREFIX, ExportFolder
from ledger.hashing import EMPTY_ROOT
from ledger.merkle import Frontier, root_at
from ledger.note import VerifierKey, open_note
from ledger.places import place_of
from ledger.receipt import Receipt, check_receipt, parse_receipt
from ledger.store import Head, Store
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TileBuilder, TileNodes
from ledger.verdict import Finding, Report

__all__ = ["STEPS", "GuardCheck", "reopen", "verify", "verify_url"]

STEPS: Final = (
    "1 store",
    "2 commitments",
    "3 entries",
    "4 chain",
    "5 streams",
    "6 tiles",
    "7 root",
    "8 checkpoint",
    "9 guard",
    "10 keys",
    "11 erasures",
    "12 evidence",
)
STORE, _, ENTRIES, _, STREAMS, TILES, ROOT, CHECKPOINT, GUARD, KEYS, ERASURES, EVIDENCE = STEPS

T = TypeVar("T")

ALWAYS_UNCHECKED: Final = (
    "that what was recorded is true, and that everything that happened was recorded",
    "that everybody was shown the same ledger: witness cosignatures, or checkpoints kept elsewhere",
    "which idempotency key a batch was sent with: keys are not signed",
)
NO_GUARD: Final = "that nothing was cut off at the end: no rollback guard was given"

Progress = Callable[[int, int], None]
"""Called with the number of entries checked so far, and of all entries."""


class GuardCheck(Protocol):
    """What `verify` needs of a rollback guard; `ledger.guard.Guard` is one."""

    def check(self, head: Callable[[], Head], root_at: Callable[[int], bytes]) -> None: ...


def verify(
    store: Store,
    *,
    vkey: VerifierKey,
    guard: GuardCheck | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    receipt: bytes | Receipt | None = None,
    against: bytes | None = None,
    now: int | None = None,
) -> Report:
    """The report on everything that the store holds; it never raises for what a store may contain.

    `receipt` is one that a producer kept (or several, one a line), `against` a checkpoint that
    somebody kept: they must fit the ledger as it is now. `now` lets entries from the future be
    noted. `workers` above 1 needs a store with a second door (`again`).
    About 12 µs an entry a core with payloads of 0.5 kB, on the machine of docs/adr/0065.
    """
    report = Report()
    try:
        head = store.head()
        if head is None:
            report.error = f"{store.url} holds no ledger"
            return report
        _verify_head(store, head, vkey, guard, workers, progress, report)
        _check_evidence(store, head, vkey, receipt, against, report)
        note_future(store, head, now, report)
    except TamperError as error:
        report.refuse(STORE, error)
    except (StoreError, OSError) as error:
        report.error = str(error)
    report.not_checked.extend(ALWAYS_UNCHECKED)
    return report


def verify_url(
    url: str | Callable[[], Store],
    *,
    vkey: VerifierKey,
    guard: GuardCheck | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    receipt: bytes | Receipt | None = None,
    against: bytes | None = None,
    now: int | None = None,
) -> Report:
    """`verify` of what lies at a URL (sqlite:///…, postgresql://…, folder:…), or of what a call
    opens; what cannot be opened is a report, too.
    """
    try:
        store = reopen(url, vkey.name) if isinstance(url, str) else url()
    except TamperError as error:
        report = Report()
        report.refuse(STORE, error)
        return report
    except (AsofError, OSError) as error:
        return Report(error=str(error))
    try:
        return verify(
            store,
            vkey=vkey,
            guard=guard,
            workers=workers,
            progress=progress,
            receipt=receipt,
            against=against,
            now=now,
        )
    finally:
        store.close()


def reopen(url: str, origin: str) -> Store:
    """The store of the ledger `origin` at a URL, for reading. Raises MalformedError and kin."""
    if url.startswith(FOLDER_PREFIX):
        return ExportFolder(Path(url.removeprefix(FOLDER_PREFIX)))
    return place_of(url).open(origin, write=False)


# --- 1 to 11 --------------------------------------------------------------------------------------


def _verify_head(
    store: Store,
    head: Head,
    vkey: VerifierKey,
    guard: GuardCheck | None,
    workers: int,
    progress: Progress | None,
    report: Report,
) -> None:
    _check_origin(head, vkey, report)
    with _workshop(store, head.origin, workers) as workshop:
        complaints = workshop.integrity()
        spans = workshop.spans(head.size)
        whole = _Whole(store, head.size, report, progress)
        for result in workshop.ranges(head.size):
            whole.take(result)
        for complaint in complaints.result():
            report.find(
                STORE, "the store's own check complains", found=complaint, expected="nothing"
            )
        streams, findings = spans.result()
        for finding in findings:
            report.add(finding)
        report.count("streams", streams)
    whole.check_no_other_tiles(head)
    frontier = whole.frontier()
    _check_root(head, frontier, whole, report)
    _check_checkpoint(head, frontier, vkey, report)
    _check_nothing_behind(store, head, report)
    _check_guard(store, head, guard, report)
    check_key_uses(store, head.size, report)
    check_erasures(whole.withheld, whole.erasures, report)
    note_types(whole.types, report)
    report.entries = head.size


def _check_origin(head: Head, vkey: VerifierKey, report: Report) -> None:
    """1. The store holds the ledger of the pinned key."""
    if head.origin != vkey.name:
        message = "the store holds another ledger than the key's"
        report.find(STORE, message, expected=vkey.name, found=head.origin)


class _Whole:
    """The results of ranges, taken in order, become the tree."""

    def __init__(self, store: Store, size: int, report: Report, progress: Progress | None) -> None:
        self._store = store
        self._size = size
        self._report = report
        self._progress = progress
        self._upper = TileBuilder.empty()
        self._rest: list[bytes] = []
        self.last_leaf = EMPTY_ROOT
        self.last_recorded_at: int | None = None
        self.withheld: list[int] = []
        self.erasures: list[tuple[int, tuple[int, ...]]] = []
        self.types: set[str] = set()

    def take(self, result: RangeResult) -> None:
        """2 to 4, and 6: what the range found, and the tiles above its own."""
        self._upper, tiles = self._upper.extended(result.tile_roots)
        for tile in tiles:
            compared_tile(self._store, tile.level + 1, tile.n, tile.data, result)
        for finding in result.findings:
            self._report.add(finding)
        self._report.more_findings += result.more_findings
        for name in ("commitments", "entries", "chain"):
            self._report.count(name, result.entries)
        self._report.count("tiles", result.tiles)
        self._rest = result.rest
        self.last_leaf, self.last_recorded_at = result.last_leaf, result.last_recorded_at
        self.withheld += result.withheld
        self.erasures += result.erasures
        self.types |= result.types
        if self._progress is not None:
            self._progress(result.stop, self._size)

    def frontier(self) -> Frontier:
        """The right edge of the recomputed tree."""
        edge = self._upper.frontier().edge + Frontier.empty().extended(self._rest).edge
        return Frontier(self._upper.size * TILE_WIDTH + len(self._rest), edge)

    def check_no_other_tiles(self, head: Head) -> None:
        """6. There is no tile that a tree of this size does not have."""
        for level, n, _ in _quietly(self._store.tiles(), self._report):
            if n >= head.size >> (TILE_HEIGHT * (level + 1)) and self._store.head() == head:
                message = "a tile that the tree does not have"
                self._report.find(TILES, message, place=f"tile {level}/{n}", expected="no tile")


def _quietly(
    tiles: Iterator[tuple[int, int, bytes]], report: Report
) -> Iterator[tuple[int, int, bytes]]:
    """The tiles as far as they can be read; where they cannot, a finding says so."""
    try:
        yield from tiles
    except TamperError as error:
        report.refuse(TILES, error)


def _check_root(head: Head, frontier: Frontier, whole: _Whole, report: Report) -> None:
    """7. What the head says of the tree is what was recomputed."""
    compared = {
        "root": (frontier.root().hex(), head.root.hex()),
        "right edge": (_joined(frontier.edge), _joined(head.edge)),
        "last leaf hash": (whole.last_leaf.hex(), head.last_leaf.hex()),
    }
    if whole.last_recorded_at is not None:
        compared["time"] = (str(whole.last_recorded_at), str(head.recorded_at))
    for name, (expected, found) in compared.items():
        if expected != found:
            message = f"the head has another {name} than the entries give"
            report.find(ROOT, message, expected=expected, found=found)
    report.count("root", 1)


def _joined(edge: Sequence[bytes]) -> str:
    return " ".join(node.hex() for node in edge)


def _check_checkpoint(head: Head, frontier: Frontier, vkey: VerifierKey, report: Report) -> None:
    """8. The checkpoint is signed by the pinned key, and states the size and root recomputed."""
    try:
        signed = open_checkpoint(head.checkpoint, vkey)
        others = len(open_note(head.checkpoint, [vkey]).signatures) - 1
    except AsofError as error:
        report.refuse(CHECKPOINT, error)
        return
    expected = (frontier.size, frontier.root().hex())
    found = (signed.size, signed.root.hex())
    if expected != found:
        message = "the signed checkpoint is of another tree than the entries give"
        report.find(CHECKPOINT, message, expected=expected, found=found)
    if others:
        report.not_checked.append(f"{others} cosignatures on the checkpoint")
    report.count("checkpoint", 1)


def _check_nothing_behind(store: Store, head: Head, report: Report) -> None:
    """4. No entry lies behind the head, unless another program has appended meanwhile."""
    behind = next(store.rows(head.size, head.size + 1), None)
    if behind is not None and store.head() == head:
        message = "an entry that no head has signed"
        report.find(CHAIN, message, index=behind[0], expected="no entry", found="an entry")


def _check_guard(store: Store, head: Head, guard: GuardCheck | None, report: Report) -> None:
    """9. The store is not behind what was signed, and continues it."""
    if guard is None:
        report.not_checked.append(NO_GUARD)
        return
    try:
        guard.check(
            lambda: store.head() or head,
            lambda size: _roots(store, max(size, head.size))(size),
        )
    except TamperError as error:
        report.refuse(GUARD, error)
    except StoreError as error:
        report.not_checked.append(f"{NO_GUARD} ({error})")
    else:
        report.count("guard", 1)


def _roots(store: Store, size: int) -> Callable[[int], bytes]:
    nodes = TileNodes(store.tile, store.leaf_hashes, size)
    return lambda earlier: root_at(earlier, nodes)


# --- 12: what the caller kept ---------------------------------------------------------------------


def _check_evidence(
    store: Store,
    head: Head,
    vkey: VerifierKey,
    receipt: bytes | Receipt | None,
    against: bytes | None,
    report: Report,
) -> None:
    """12. The ledger still says what a receipt and an earlier checkpoint said."""
    try:
        for given in _receipts(receipt):
            _, checkpoint = check_receipt(given, vkey)
            _check_continues(store, head, checkpoint, "the receipt's checkpoint", given.checkpoint)
            _check_leaf(store, head, given)
            report.count("receipt", 1)
        if against is not None:
            checkpoint = open_checkpoint(against, vkey)
            _check_continues(store, head, checkpoint, "the given checkpoint", against)
            report.count("against", 1)
    except (TamperError, MalformedError) as error:
        report.refuse(EVIDENCE, error)


def _receipts(receipt: bytes | Receipt | None) -> Iterator[Receipt]:
    """The receipts given: one, or one a line as `asof record --receipt` keeps them."""
    if isinstance(receipt, Receipt):
        yield receipt
    for line in receipt.splitlines() if isinstance(receipt, bytes) else ():
        yield parse_receipt(line)


def _check_continues(
    store: Store, head: Head, checkpoint: Checkpoint, what: str, signed: bytes
) -> None:
    if checkpoint.size > head.size:
        raise TamperError(
            f"the ledger ends before {what}: entries are missing",
            expected=f"at least {checkpoint.size} entries",
            found=f"{head.size} entries",
            checkpoints=(signed, head.checkpoint),
        )
    found = _roots(store, head.size)(checkpoint.size)
    if found != checkpoint.root:
        raise TamperError(
            f"the first {checkpoint.size} entries are not those of {what}",
            expected=checkpoint.root.hex(),
            found=found.hex(),
            checkpoints=(signed, head.checkpoint),
        )


def _check_leaf(store: Store, head: Head, receipt: Receipt) -> None:
    found = store.leaf_hashes(receipt.index, receipt.index + 1)
    if found != receipt.leaf_hash:
        raise TamperError(
            "the entry is not the one of the receipt",
            index=receipt.index,
            expected=receipt.leaf_hash.hex(),
            found=found.hex(),
            checkpoints=(receipt.checkpoint, head.checkpoint),
        )


# --- who does the work ----------------------------------------------------------------------------


class _Here:
    """All work in this process, one range after the other; what a server does for it, meanwhile."""

    def __init__(self, store: Store, origin: str, server: ThreadPoolExecutor | None) -> None:
        self._store = store
        self._origin = origin
        self._server = server

    def integrity(self) -> Future[list[str]]:
        return self._asked(self._store.check_integrity)

    def spans(self, size: int) -> Future[tuple[int, list[Finding]]]:
        return self._asked(lambda: check_stream_spans(self._store, size))

    def _asked(self, question: Callable[[], T]) -> Future[T]:
        return _done(question()) if self._server is None else self._server.submit(question)

    def ranges(self, size: int) -> Iterator[RangeResult]:
        for start in range(0, size, RANGE):
            yield check_range(self._store, self._origin, start, min(size, start + RANGE))


class _Elsewhere:
    """The same work in several processes, each with the store opened anew; results in order."""

    def __init__(self, pool: ProcessPoolExecutor, origin: str, workers: int) -> None:
        self._pool = pool
        self._origin = origin
        self._ahead = 4 * workers

    def integrity(self) -> Future[list[str]]:
        return self._pool.submit(_integrity_there)

    def spans(self, size: int) -> Future[tuple[int, list[Finding]]]:
        return self._pool.submit(_spans_there, size)

    def ranges(self, size: int) -> Iterator[RangeResult]:
        starts = iter(range(0, size, RANGE))
        waiting: list[Future[RangeResult]] = []
        while True:
            for start in starts:
                stop = min(size, start + RANGE)
                waiting.append(self._pool.submit(_range_there, self._origin, start, stop))
                if len(waiting) >= self._ahead:
                    break
            if not waiting:
                return
            yield waiting.pop(0).result()


@contextmanager
def _workshop(store: Store, origin: str, workers: int) -> Iterator[_Here | _Elsewhere]:
    again = store.again()
    if workers <= 1 or again is None:
        if not store.works_elsewhere:
            yield _Here(store, origin, None)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="asof-audit") as server:
            yield _Here(store, origin, server)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter, (again,))
    try:
        yield _Elsewhere(pool, origin, workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


_opened: list[Store] = []
"""The store of a worker process: opened once, closed with the process."""


def _enter(again: Callable[[], Store]) -> None:
    _opened.append(again())


def _integrity_there() -> list[str]:
    return _opened[0].check_integrity()


def _spans_there(size: int) -> tuple[int, list[Finding]]:
    return check_stream_spans(_opened[0], size)


def _range_there(origin: str, start: int, stop: int) -> RangeResult:
    return check_range(_opened[0], origin, start, stop)
