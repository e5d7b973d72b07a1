"""The tree in tiles of 256 hashes: the public read side, static and cacheable (C2SP tlog-tiles).

::

    tile(level, n)[i]  = hash of entries [(n·256+i)·256^level, (n·256+i+1)·256^level)
    tile/0/x001/067    = leaf hashes 273,152 to 273,407          8,192 bytes, never changes again
    tile/1/000.p/5     = the first 5 roots of level-0 tiles      partial: put together on demand
    tile/entries/…     = the entries themselves, each after its length in two bytes

A store keeps full tiles only. `TileBuilder` makes them as leaves are appended; `TileNodes` reads
nodes out of them for proofs. docs/spec/tiles.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from ledger.errors import MalformedError, TamperError
from ledger.hashing import HASH_SIZE
from ledger.merkle import Frontier, NodeReader

__all__ = [
    "TILE_BYTES",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Tile",
    "TileBuilder",
    "TileNodes",
    "format_bundle",
    "format_bundle_path",
    "format_tile_path",
    "full_tiles_between",
    "parse_bundle",
    "parse_bundle_path",
    "parse_tile_path",
    "partial_width",
    "split_hashes",
    "tile_root",
]

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
MAX_LEVEL: Final = 63
_MAX_N: Final = (1 << 55) - 1
_MAX_ENTRY: Final = 0xFFFF


class Tile(NamedTuple):
    """A full tile: 256 hashes, 8,192 bytes."""

    level: int
    n: int
    data: bytes


# ------------------------------------------------------------------------------------------ paths

_PATH = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


def format_tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """``tile/<level>/<n>``, with ``.p/<width>`` where the tile is partial."""
    if not 0 <= level <= MAX_LEVEL:
        raise MalformedError(f"tiles have levels 0 to {MAX_LEVEL}, not {level}")
    return _format_path(str(level), n, width)


def parse_tile_path(path: str) -> tuple[int, int, int]:
    """(level, n, width) of exactly what `format_tile_path` writes."""
    kind, n, width = _parse_path(path)
    if kind == "entries" or format_tile_path(int(kind), n, width) != path:
        raise MalformedError(f"not the path of a tile: {path[:80]!r}")
    return int(kind), n, width


def format_bundle_path(n: int, width: int = TILE_WIDTH) -> str:
    """``tile/entries/<n>``: the path of the entries whose leaf hashes are tile (0, n)."""
    return _format_path("entries", n, width)


def parse_bundle_path(path: str) -> tuple[int, int]:
    """(n, width) of exactly what `format_bundle_path` writes."""
    kind, n, width = _parse_path(path)
    if kind != "entries" or format_bundle_path(n, width) != path:
        raise MalformedError(f"not the path of an entry bundle: {path[:80]!r}")
    return n, width


def _format_path(kind: str, n: int, width: int) -> str:
    if not 0 <= n <= _MAX_N:
        raise MalformedError(f"there is no tile {n}")
    if not 0 < width <= TILE_WIDTH:
        raise MalformedError(f"a tile has 1 to {TILE_WIDTH} hashes, not {width}")
    groups = [f"{n % 1000:03d}"]
    while n := n // 1000:
        groups.append(f"x{n % 1000:03d}")
    partial = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{kind}/{'/'.join(reversed(groups))}{partial}"


def _parse_path(path: str) -> tuple[str, int, int]:
    match = _PATH.fullmatch(path) if len(path) <= 80 else None
    if not match:
        raise MalformedError(f"not the path of a tile: {path[:80]!r}")
    kind, groups, width = match.groups()
    return kind, int(groups.replace("x", "").replace("/", "")), int(width or TILE_WIDTH)


# ----------------------------------------------------------------------------------------- widths


def partial_width(level: int, size: int) -> int:
    """How many hashes the partial tile at `level` holds for a tree of `size`; 0: there is none."""
    return (size >> (TILE_HEIGHT * level)) % TILE_WIDTH


def full_tiles_between(old_size: int, new_size: int) -> Iterator[tuple[int, int]]:
    """(level, n) of each tile that a tree of `new_size` has full and one of `old_size` has not."""
    level, shift = 0, TILE_HEIGHT
    while new_size >> shift:
        for n in range(old_size >> shift, new_size >> shift):
            yield level, n
        level, shift = level + 1, shift + TILE_HEIGHT


def split_hashes(data: bytes) -> list[bytes]:
    """The hashes that stand one after another in a tile."""
    if len(data) % HASH_SIZE:
        raise MalformedError(f"{len(data)} bytes are not a row of hashes of {HASH_SIZE} bytes")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def tile_root(data: bytes) -> bytes:
    """The root over the hashes of a tile or a row of them."""
    return Frontier.empty().extended(split_hashes(data)).root()


# ---------------------------------------------------------------------------------------- to make


@dataclass(frozen=True, slots=True)
class TileBuilder:
    """The right edge of a tree in partial tiles: `rows[level]`, hashes one after another.

    It is all that is needed to go on: full tiles come out as leaves go in, and `frontier` gives the
    root. One node hash a leaf, so an audit needs no other tree. Immutable: a failed append leaves
    it as it was.
    """

    size: int
    rows: tuple[bytes, ...]

    @classmethod
    def empty(cls) -> TileBuilder:
        return cls(0, ())

    @classmethod
    def at(cls, nodes: TileNodes) -> TileBuilder:
        """The builder of a tree that exists, from its tiles and leaves."""
        rows: list[bytes] = []
        while nodes.size >> (TILE_HEIGHT * len(rows)):
            rows.append(nodes.partial_row(len(rows)))
        return cls(nodes.size, tuple(rows))

    def extended(
        self, leaves: Sequence[bytes], nodes: NodeReader | None = None
    ) -> tuple[TileBuilder, list[Tile]]:
        """The builder with leaf hashes appended, and the tiles now full, lower levels first.

        `nodes` gives the roots of the tiles where somebody has them already (a `BatchTree` of these
        leaves); else they are hashed here.
        """
        rows = list(self.rows)
        tiles: list[Tile] = []
        fresh: Sequence[bytes] = leaves
        level = 0
        while fresh:
            if level == len(rows):
                rows.append(b"")
            row = rows[level] + b"".join(fresh)
            n = self.size >> (TILE_HEIGHT * (level + 1))
            full = [
                Tile(level, n + i, row[i * TILE_BYTES : (i + 1) * TILE_BYTES])
                for i in range(len(row) // TILE_BYTES)
            ]
            tiles += full
            rows[level] = row[len(full) * TILE_BYTES :]
            level += 1
            fresh = [
                tile_root(tile.data) if nodes is None else nodes(TILE_HEIGHT * level, tile.n)
                for tile in full
            ]
        return TileBuilder(self.size + len(leaves), tuple(rows)), tiles

    def frontier(self) -> Frontier:
        """The right edge of the whole tree; at most 255 node hashes a level."""
        edge: list[bytes] = []
        for row in reversed(self.rows):
            edge += Frontier.empty().extended(split_hashes(row)).edge
        return Frontier(self.size, tuple(edge))

    def root(self) -> bytes:
        """The root of the tree of `size`."""
        return self.frontier().root()


# ---------------------------------------------------------------------------------------- to read


class TileNodes:
    """A `NodeReader` over the full tiles and the leaf hashes of a tree of `size`.

    `read_tile(level, n)` gives a full tile, or None where the store has none (it is then made of
    what lies below it); `read_leaves(start, stop)` gives leaf hashes one after another. Rows and
    tile roots are kept in bounded caches. Safe to share between threads if the two callables are.
    """

    def __init__(
        self,
        read_tile: Callable[[int, int], bytes | None],
        read_leaves: Callable[[int, int], bytes],
        size: int,
    ) -> None:
        self.size = size
        self._read_tile = read_tile
        self._read_leaves = read_leaves
        self._row = lru_cache(maxsize=64)(self._made_row)
        self._tile_root = lru_cache(maxsize=8192)(self._made_tile_root)

    def __call__(self, level: int, index: int) -> bytes:
        if level < 0 or index < 0 or (index + 1) << level > self.size:
            raise MalformedError(f"a tree of {self.size} has no node {index} at level {level}")
        tile_level, height = divmod(level, TILE_HEIGHT)
        n, offset = divmod(index << height, TILE_WIDTH)
        row = self._row(tile_level, n)
        return tile_root(row[offset * HASH_SIZE : (offset + (1 << height)) * HASH_SIZE])

    def partial_row(self, level: int) -> bytes:
        """The partial tile at `level`; empty where the last tile is full."""
        if not partial_width(level, self.size):
            return b""
        return self._row(level, self.size >> (TILE_HEIGHT * (level + 1)))

    def row(self, level: int, n: int) -> bytes:
        """Tile (level, n), as wide as the tree allows; MalformedError where there is none."""
        if level < 0 or n < 0 or self._width(level, n) <= 0:
            raise MalformedError(f"a tree of {self.size} has no tile {n} at level {level}")
        return self._row(level, n)

    def _width(self, level: int, n: int) -> int:
        return min(TILE_WIDTH, (self.size >> (TILE_HEIGHT * level)) - n * TILE_WIDTH)

    def _made_row(self, level: int, n: int) -> bytes:
        width = self._width(level, n)
        data = self._read_tile(level, n) if width == TILE_WIDTH else None
        if data is None:
            data = self._gathered_row(level, n * TILE_WIDTH, n * TILE_WIDTH + width)
        if len(data) != width * HASH_SIZE:
            raise TamperError(
                f"tile {n} at level {level} has another length than a tree of {self.size} gives it",
                expected=f"{width * HASH_SIZE} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def _gathered_row(self, level: int, start: int, stop: int) -> bytes:
        if level == 0:
            return self._read_leaves(start, stop)
        return b"".join(self._tile_root(level - 1, n) for n in range(start, stop))

    def _made_tile_root(self, level: int, n: int) -> bytes:
        return tile_root(self._made_row(level, n))


# ---------------------------------------------------------------------------------- entry bundles


def format_bundle(entries: Sequence[bytes]) -> bytes:
    """1 to 256 entries, each after its length in two bytes, big-endian."""
    if not 0 < len(entries) <= TILE_WIDTH:
        raise MalformedError(f"a bundle has 1 to {TILE_WIDTH} entries, not {len(entries)}")
    if any(len(entry) > _MAX_ENTRY for entry in entries):
        raise MalformedError(f"an entry has at most {_MAX_ENTRY} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle; MalformedError where a length leads beyond the end."""
    entries: list[bytes] = []
    offset = 0
    while offset < len(data):
        start = offset + 2
        offset = start + int.from_bytes(data[offset:start], "big")
        if start > len(data) or offset > len(data):
            raise MalformedError(f"the bundle ends within entry {len(entries)}")
        entries.append(data[start:offset])
    if not 0 < len(entries) <= TILE_WIDTH:
        raise MalformedError(f"a bundle has 1 to {TILE_WIDTH} entries, not {len(entries)}")
    return entries
