"""The 600 golden entries, made by their rule: what `vectors/entries_v1.json` describes.

Every field follows from the number of the entry, so the ledger can be made here without the file;
the tests in tests/vectors compare it with the file where that is there, and with `ALL_LEAVES` where
it is not.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from hashlib import sha256
from typing import NamedTuple

from ledger.canonical import parse_time
from ledger.chain import StoredRow
from ledger.commitment import commit
from ledger.entry import Entry, entry_leaf, format_entry
from ledger.hashing import EMPTY_ROOT
from ledger.note import Signer
from ledger.tiles import TileNodes

ORIGIN = "ledger.example.com/acme"
SEED = bytes(range(32))
SIZE = 600
ALL_LEAVES = "c4238e2867af87c7037020e8bff2be8fee84be2c9b84da7f26929ddfeeaa1801"
TEXT = 'tab\t quote" back\\ nul\x01 euro € astral 😀'
TYPES = ("asset.version.recorded/1", "binding.changed/1", "run.started/1", "évaluation.notée/1")


class Golden(NamedTuple):
    """One entry with all that belongs to it."""

    entry: Entry
    data: bytes
    leaf: bytes
    salt: bytes
    payload: bytes

    def row(self) -> StoredRow:
        e = self.entry
        return (
            e.index, e.recorded_at, e.actor, e.stream, e.type, e.version,
            e.commitment, self.salt, self.payload, self.leaf,
        )  # fmt: skip


@cache
def golden() -> tuple[Golden, ...]:
    """All entries in order."""
    made: list[Golden] = []
    versions: Counter[str] = Counter()
    for i in range(SIZE):
        stream = (
            f"asset/model/forecaster-{i % 7}" if i % 5 else f"pipeline/prévision@production-{i % 3}"
        )
        versions[stream] += 1
        salt = sha256(b"salt %d" % i).digest()[:16]
        value = {"n": i, "note": TEXT[: 8 + i % 40]}
        payload = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        entry = Entry(
            actor=f"service:trainer-{i % 2}",
            commitment=commit(salt, payload),
            index=i,
            ledger=ORIGIN,
            prev=made[-1].leaf if made else EMPTY_ROOT,
            recorded_at=parse_time(
                f"2026-11-21T05:{i // 60:02d}:{i % 60:02d}.{i * 7919 % 1_000_000:06d}Z"
            ),
            stream=stream,
            type=TYPES[i % 4],
            version=versions[stream],
        )
        data = format_entry(entry)
        made.append(Golden(entry, data, entry_leaf(data), salt, payload))
    return tuple(made)


def golden_leaves() -> list[bytes]:
    return [one.leaf for one in golden()]


def golden_rows() -> list[StoredRow]:
    return [one.row() for one in golden()]


def golden_signer() -> Signer:
    return Signer.from_seed(ORIGIN, SEED)


def nodes_over(leaves: list[bytes], size: int | None = None) -> TileNodes:
    """A node reader over leaf hashes held in memory, without any stored tile."""
    size = len(leaves) if size is None else size
    return TileNodes(lambda level, n: None, lambda start, stop: b"".join(leaves[start:stop]), size)
