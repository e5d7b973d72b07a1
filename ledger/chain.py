"""The chain: each entry holds the leaf hash of the one before; none can be changed or taken out.

::

    EMPTY ◀── entry 0 ◀── entry 1 ◀── entry 2        prev(i) = leaf_hash(entry i-1), prev(0) = EMPTY

Two loops carry the ledger's speed, one on the way in and one on the way back:

* `link` gives prepared events their indexes, time and links (an append, inside the lock);
* `ChainChecker` recomputes commitment, entry and leaf hash of stored rows in one pass (an audit).

A row keeps the fields only, neither `prev` nor the entry's bytes: both follow. docs/spec/entry.md,
rules 2 to 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from ledger.canonical import format_time
from ledger.commitment import SALT_SIZE, begin_commitment, commit
from ledger.entry import Entry, EntryFormatter, entry_leaf, parse_entry
from ledger.errors import MalformedError, TamperError
from ledger.hashing import EMPTY_ROOT, HASH_SIZE, begin_leaf

__all__ = [
    "EARLIEST",
    "ChainChecker",
    "ChainHead",
    "CheckedRows",
    "Finding",
    "Linked",
    "Prepared",
    "StoredRow",
    "check_link",
    "check_rows",
    "link",
]

EARLIEST = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z: before any entry."""

StoredRow: TypeAlias = tuple[int, int, str, str, str, int, bytes, bytes | None, bytes | None, bytes]
"""index, recorded_at, actor, stream, type, version, commitment, salt, payload, leaf_hash."""


class ChainHead(NamedTuple):
    """Where a chain ends: its size, the leaf hash of its last entry, and that entry's time."""

    size: int = 0
    last_leaf: bytes = EMPTY_ROOT
    recorded_at: int = EARLIEST


class Prepared(NamedTuple):
    """An event that only lacks its place: everything that can be made before the lock is taken."""

    actor: str
    stream: str
    type: str
    version: int
    commitment: bytes


class Linked(NamedTuple):
    """A batch in its place: consecutive entries from `first_index` on, recorded at one instant."""

    first_index: int
    recorded_at: int
    entries: list[bytes]
    leaf_hashes: list[bytes]

    def head(self) -> ChainHead:
        """Where the chain ends after this batch, which must not be empty."""
        return ChainHead(
            self.first_index + len(self.entries), self.leaf_hashes[-1], self.recorded_at
        )


def link(
    head: ChainHead, events: Iterable[Prepared], *, formatter: EntryFormatter, now: int
) -> Linked:
    """The entries of `events` after `head`, recorded at `now` or the head's time, the later one.

    MalformedError for a name that no entry may have; then nothing was linked. About 1.3 µs an
    event.
    """
    begin, format_ = begin_leaf, formatter.format
    recorded_at = max(now, head.recorded_at)
    time_text = format_time(recorded_at)
    entries: list[bytes] = []
    leaves: list[bytes] = []
    index, leaf = head.size, head.last_leaf
    for actor, stream, type_, version, commitment in events:
        entry = format_(
            index, leaf.hex(), time_text, actor, stream, type_, version, commitment.hex()
        )
        hashed = begin()
        hashed.update(entry)
        leaf = hashed.digest()
        entries.append(entry)
        leaves.append(leaf)
        index += 1
    return Linked(head.size, recorded_at, entries, leaves)


def check_link(head: ChainHead, data: bytes, *, ledger: str) -> tuple[Entry, ChainHead]:
    """The entry in `data` and the new end of the chain, or TamperError: why it does not follow.

    For readers of entry bytes (bundles, exports); stored rows have `ChainChecker`.
    """
    entry = parse_entry(data)
    _check_same("another ledger's entry", head.size, ledger, entry.ledger)
    _check_same("another index than its place", head.size, str(head.size), str(entry.index))
    _check_same(
        "it links to another entry than the one before",
        head.size,
        head.last_leaf.hex(),
        entry.prev.hex(),
    )
    if entry.recorded_at < head.recorded_at:
        raise TamperError(
            "recorded before the entry before it",
            index=head.size,
            expected=f"at or after {format_time(head.recorded_at)}",
            found=format_time(entry.recorded_at),
        )
    return entry, ChainHead(head.size + 1, entry_leaf(data), entry.recorded_at)


def _check_same(message: str, index: int, expected: str, found: str) -> None:
    if expected != found:
        raise TamperError(message, index=index, expected=expected, found=found)


# --------------------------------------------------------------------------------- verifying rows


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what is stored and what was recorded.

    kind `payload`: it is not what the entry commits to. kind `entry`: its fields do not give its
    leaf hash. kind `link`: the order is broken, by a missing or repeated index or a time that runs
    backwards.
    """

    kind: Literal["payload", "entry", "link"]
    index: int
    message: str
    expected: str
    found: str

    def error(self) -> TamperError:
        """The finding as evidence to raise."""
        return TamperError(self.message, index=self.index, expected=self.expected, found=self.found)


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """What one pass over some rows gave.

    `leaf_hashes` are those stored, in order, for the tree to be built of. `withheld` are the
    indexes whose payload and salt are not there, so that only their entries could be checked.
    """

    leaf_hashes: list[bytes] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class ChainChecker:
    """Verifies stored rows in index order, batch after batch, and goes on after damage.

    Begin at any row whose predecessor's leaf hash and time are known, so ranges can be checked side
    by side; what is no hash or no time there is taken as unknown. After a finding it goes on from
    the leaf hash that is stored: each damaged entry gives findings of its own, not all the entries
    after it. `index`, `prev` and `recorded_at` tell where it stands.
    """

    __slots__ = ("_doubted", "_formatter", "index", "prev", "recorded_at")

    def __init__(
        self,
        ledger: str,
        *,
        start: int = 0,
        prev: bytes = EMPTY_ROOT,
        recorded_at: int = EARLIEST,
    ) -> None:
        self._formatter = EntryFormatter(ledger)
        # The last entry that was found changed, and the leaf hash that its fields give.
        self._doubted = (-1, b"")
        self.index = start
        self.prev = prev if _is_hash(prev) else EMPTY_ROOT
        self.recorded_at = recorded_at if _is_time(recorded_at) else EARLIEST

    def check(self, rows: Iterable[StoredRow]) -> CheckedRows:
        """Checks the next rows, a list or a stream; of each it keeps the leaf hash only.

        About 2 µs a row with payloads of 0.5 kB. The loop holds the good case only; every doubt
        is left to `_examine`, which looks at the row again, slowly.
        """
        checked = CheckedRows()
        format_, keep = self._formatter.format, checked.leaf_hashes.append
        entry_begun, promise_begun, salt_size = begin_leaf, begin_commitment, SALT_SIZE
        expected, prev, floor = self.index, self.prev, self.recorded_at
        time_of: int | None = None
        time_text = ""
        for row in rows:
            try:
                index, at, actor, stream, type_, version, commitment, salt, payload, leaf = row
                if at != time_of:
                    time_text, time_of = format_time(at), at
                entry = entry_begun()
                entry.update(
                    format_(
                        index,
                        prev.hex(),
                        time_text,
                        actor,
                        stream,
                        type_,
                        version,
                        commitment.hex(),
                    )
                )
                if entry.digest() == leaf and index == expected and at >= floor and version > 0:
                    if payload is None and salt is None:
                        checked.withheld.append(index)
                        good = True
                    else:
                        promise = promise_begun()
                        promise.update(salt)  # type: ignore[arg-type]
                        promise.update(payload)  # type: ignore[arg-type]
                        good = promise.digest() == commitment and len(salt) == salt_size  # type: ignore[arg-type]
                    if good:
                        keep(leaf)
                        expected, prev, floor = expected + 1, leaf, at
                        continue
            except (TypeError, ValueError, AttributeError):
                pass  # a field of the wrong type, a name that no entry may have, half a payload
            self.index, self.prev, self.recorded_at = expected, prev, floor
            self._examine(row, checked)
            expected, prev, floor = self.index, self.prev, self.recorded_at
        self.index, self.prev, self.recorded_at = expected, prev, floor
        return checked

    def _examine(self, row: StoredRow, checked: CheckedRows) -> None:
        """Says precisely what is wrong with a row, and moves on to the next."""
        if not _is_well_typed(row):
            self._examine_unreadable(row, checked)
            return
        index, recorded_at, *_, leaf = row
        if index != self.index:
            checked.findings.append(self._gap(index))
        if index < self.index:
            return
        checked.findings.extend(_payload_findings(row, checked.withheld))
        if index == self.index:  # after a gap the link is unknown, and nothing follows from it
            found = self._entry_finding(row)
            checked.findings.extend(found or self._time_finding(row))
            self.recorded_at = self.recorded_at if found else max(recorded_at, self.recorded_at)
        checked.leaf_hashes.append(leaf)
        self.index, self.prev = index + 1, leaf

    def _examine_unreadable(self, row: StoredRow, checked: CheckedRows) -> None:
        checked.findings.append(
            Finding("entry", self.index, "a field has the wrong type or size", "", "")
        )
        leaf = row[9] if _is_hash(row[9]) else self._leaf_that_fields_give(row)
        checked.leaf_hashes.append(leaf)
        self.index, self.prev = self.index + 1, leaf

    def _leaf_that_fields_give(self, row: StoredRow) -> bytes:
        """In place of a stored leaf hash that is none; the empty root if the fields are no use."""
        try:
            return self._leaf_of(row, self.prev)
        except (TypeError, ValueError, AttributeError):
            return EMPTY_ROOT

    def _gap(self, index: int) -> Finding:
        message = "an index occurs twice or out of order"
        if index > self.index:
            message = f"{index - self.index} entries are missing before this one"
        return Finding("link", index, message, str(self.index), str(index))

    def _entry_finding(self, row: StoredRow) -> list[Finding]:
        """Whether the row's fields give its leaf hash, linked to the entry before.

        Where the stored leaf hash of the entry before is in doubt, a link to the hash that its
        fields give is as good: then it was the stored hash that was changed, and this entry is
        sound.
        """
        index, version, leaf = row[0], row[5], row[9]
        if version < 1:
            return [Finding("entry", index, "versions count from 1", "1 or more", str(version))]
        try:
            found = self._leaf_of(row, self.prev)
            if found == leaf:
                return []
            if self._doubted[0] == index - 1 and self._leaf_of(row, self._doubted[1]) == leaf:
                return []
        except MalformedError as error:
            return [Finding("entry", index, f"no entry may be like this: {error}", "", "")]
        self._doubted = (index, found)
        message = (
            "its fields and the link to the entry before do not give the leaf hash kept with it"
        )
        return [Finding("entry", index, message, leaf.hex(), found.hex())]

    def _leaf_of(self, row: StoredRow, prev: bytes) -> bytes:
        index, recorded_at, actor, stream, type_, version, commitment, _, _, _ = row
        return entry_leaf(
            self._formatter.format(
                index,
                prev.hex(),
                format_time(recorded_at),
                actor,
                stream,
                type_,
                version,
                commitment.hex(),
            )
        )

    def _time_finding(self, row: StoredRow) -> list[Finding]:
        if row[1] >= self.recorded_at:
            return []
        message = "recorded before the entry before it"
        expected = f"at or after {format_time(self.recorded_at)}"
        return [Finding("link", row[0], message, expected, format_time(row[1]))]


def check_rows(
    rows: Iterable[StoredRow],
    *,
    ledger: str,
    prev: bytes = EMPTY_ROOT,
    start: int = 0,
    recorded_at: int = EARLIEST,
) -> CheckedRows:
    """One range of rows checked by itself; for batch after batch keep a `ChainChecker`."""
    return ChainChecker(ledger, start=start, prev=prev, recorded_at=recorded_at).check(rows)


_ROW_TYPES: tuple[type | tuple[type, ...], ...] = (
    int,
    int,
    str,
    str,
    str,
    int,
    bytes,
    (bytes, type(None)),
    (bytes, type(None)),
    bytes,
)


def _is_well_typed(row: Sequence[object]) -> bool:
    typed = all(isinstance(value, kind) for value, kind in zip(row, _ROW_TYPES, strict=True))
    return typed and _is_hash(row[6]) and _is_hash(row[9])


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_SIZE


def _is_time(value: object) -> bool:
    """Whether `value` is an instant of the years 1 to 9999."""
    try:
        return isinstance(value, int) and bool(format_time(value))
    except MalformedError:
        return False


def _payload_findings(row: StoredRow, withheld: list[int]) -> list[Finding]:
    """Whether the payload is what the entry commits to; notes the index where it is withheld."""
    index, commitment, salt, payload = row[0], row[6], row[7], row[8]
    if salt is None and payload is None:
        withheld.append(index)
        return []
    if salt is None or payload is None:
        half = "payload without its salt" if salt is None else "salt without its payload"
        return [Finding("payload", index, f"there is a {half}", "both or neither", half)]
    if len(salt) != SALT_SIZE:
        size = f"{len(salt)} bytes"
        return [Finding("payload", index, "the salt has another size", f"{SALT_SIZE} bytes", size)]
    found = commit(salt, payload)
    if found == commitment:
        return []
    message = "the payload is not the one that the entry commits to"
    return [Finding("payload", index, message, commitment.hex(), found.hex())]
