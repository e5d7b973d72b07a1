"""Small ledgers for tests: drafts by a line, a clock that can be set, salts that repeat."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

from ledger.canonical import format_json
from ledger.chain import ChainChecker
from ledger.draft import Draft
from ledger.opening import Ledger, create_ledger
from ledger.reader import Reader
from ledger.store import Store

__all__ = [
    "ACTOR",
    "NOON",
    "ORIGIN",
    "SettableClock",
    "check_whole",
    "memory_ledger",
    "note",
    "notes",
    "seeded",
    "sqlite_ledger",
    "sqlite_url",
]

ORIGIN = "ledger.example.com/test"
ACTOR = "user:7"
NOON = 1_795_262_400_000_000


class SettableClock:
    """Stands still until it is set."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def seeded(seed: int = 7) -> Callable[[int], bytes]:
    """Entropy that is the same in each run."""
    return Random(seed).randbytes


def note(text: str, stream: str = "note/a", *, expected: int | None = None) -> Draft:
    return Draft(
        type="note.added/1",
        stream=stream,
        actor=ACTOR,
        payload=format_json({"text": text}),
        expected_version=expected,
    )


def notes(count: int, stream: str = "note/a") -> list[Draft]:
    return [note(f"{stream} {n}", stream) for n in range(count)]


def memory_ledger(clock: Callable[[], int] | None = None) -> Ledger:
    return create_ledger("memory:", origin=ORIGIN, clock=clock or SettableClock(), entropy=seeded())


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'asof.db'}"


def sqlite_ledger(folder: Path, clock: Callable[[], int] | None = None) -> Ledger:
    return create_ledger(
        sqlite_url(folder), origin=ORIGIN, clock=clock or SettableClock(), entropy=seeded()
    )


def check_whole(store: Store, reader: Reader) -> None:
    """Every entry recomputed from the first on, the root from the leaves: without tiles or edge."""
    head = reader.head()
    rows = list(store.rows(0, head.size + 1))
    assert [row.index for row in rows] == list(range(head.size))
    checker = ChainChecker(head.origin)
    assert checker.check(rows).findings == []
    assert checker.prev == head.last_leaf
    assert naive_root([row.leaf_hash for row in rows]) == head.root
    versions: dict[str, int] = {}
    for row in rows:
        versions[row.stream] = versions.get(row.stream, 0) + 1
        assert row.version == versions[row.stream]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's definition, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()
