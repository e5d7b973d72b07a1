"""What an audit checks beside the entries themselves: streams, idempotency keys, erasures; and its
notes.

Steps 5, 10 and 11 of docs/spec/verification.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ledger.batch import body_digest
from ledger.canonical import format_time
from ledger.errors import TamperError
from ledger.store import Head, KeyUse, Store
from ledger.verdict import Finding, Report

__all__ = [
    "check_erasures",
    "check_key_uses",
    "check_stream_spans",
    "note_future",
    "note_types",
]

STREAMS: Final = "5 streams"
KEYS: Final = "10 keys"
ERASURES: Final = "11 erasures"
TOLERANCE: Final = 5 * 60 * 1_000_000


def check_stream_spans(store: Store, size: int) -> tuple[int, list[Finding]]:
    """5. The versions of each stream are 1 to n: as many as there are entries, the least of them 1.
    The number of streams, and the findings.

    Read from the index over (stream, version), in its order; step 1 has compared that index with
    the entries and found no version twice.
    """
    streams, findings = 0, []
    try:
        for name, count, low, high in store.stream_spans(size):
            streams += 1
            if (low, high) != (1, count):
                findings.append(
                    Finding(
                        step=STREAMS,
                        message="the versions of the stream are not contiguous",
                        place=name,
                        expected=f"1 to {count}",
                        found=f"{count} entries from {low} to {high}",
                    )
                )
    except TamperError as error:
        findings.append(Finding(step=STREAMS, message=str(error)))
    return streams, findings


def check_key_uses(store: Store, size: int, report: Report) -> None:
    """10. Each idempotency key stands for entries that exist, and that are the batch it was used
    for.
    """
    damaged = {finding.index for finding in report.findings if finding.index is not None}
    try:
        for use in store.key_uses():
            if any(use.first_index <= index < use.first_index + use.count for index in damaged):
                report.count("keys_of_damaged", 1)
            elif use.tree_size <= size:
                _check_key_use(store, use, report)
            elif use.tree_size > _size_now(store):
                message = "an idempotency key stands for entries that are not here"
                _find_key_use(report, message, use, f"at most {size}", use.tree_size)
            report.count("keys", 1)
    except TamperError as error:
        report.refuse(KEYS, error)


def _size_now(store: Store) -> int:
    head = store.head()
    return 0 if head is None else head.size


def _check_key_use(store: Store, use: KeyUse, report: Report) -> None:
    stop = use.first_index + use.count
    if not 0 <= use.first_index < stop <= use.tree_size:
        message = "an idempotency key stands for entries that cannot be"
        _find_key_use(report, message, use, f"at most {use.tree_size}", stop)
        return
    rows = list(store.rows(use.first_index, stop))
    if any(row[7] is None or row[8] is None for row in rows):
        report.count("keys_of_erased", 1)
        return
    contents = ((row[4], row[3], row[2], row[8] or b"") for row in rows)
    found = body_digest(rows[0][7] or b"", contents) if rows else b""
    if found != use.body_digest:
        message = "an idempotency key stands for another batch"
        _find_key_use(report, message, use, use.body_digest.hex(), found.hex())


def _find_key_use(
    report: Report, message: str, use: KeyUse, expected: object, found: object
) -> None:
    report.find(
        KEYS,
        message,
        index=use.first_index,
        place=f"key {use.key}",
        expected=expected,
        found=found,
    )


def check_erasures(
    withheld: Sequence[int], erasures: Iterable[tuple[int, Sequence[int]]], report: Report
) -> None:
    """11. A payload is missing only where an entry of the ledger says that it was erased."""
    gone = frozenset(withheld)
    missing = set(gone)
    for evidence, indexes in erasures:
        for index in indexes:
            if index in missing:
                missing.discard(index)
            elif index not in gone:
                report.notes.append(f"entry {evidence} erases entry {index}, whose payload is here")
    for index in sorted(missing):
        report.find(
            ERASURES,
            "payload missing without erasure evidence",
            index=index,
            expected="an erasure entry that lists it",
            found="none",
        )
    report.count("erasures", len(withheld) - len(missing))


def note_types(types: Iterable[str], report: Report) -> None:
    """Types that this program does not know are readable and verifiable: a note, not a finding."""
    from ledger.events import EVENT_TYPES  # pydantic comes with it: not for the worker processes

    for name in sorted(set(types) - set(EVENT_TYPES)):
        report.notes.append(f"entries of type {name}, which this program does not know")


def note_future(store: Store, head: Head, now: int | None, report: Report) -> None:
    """Entries recorded later than five minutes from now: a clock was wrong, then or here."""
    if now is None or head.recorded_at <= now + TOLERANCE:
        return
    first = store.index_at(now + TOLERANCE)
    report.notes.append(
        f"{head.size - first} entries from entry {first} on are recorded in the future,"
        f" up to {format_time(head.recorded_at)}"
    )
