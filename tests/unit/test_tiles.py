"""tiles: paths, widths, bundles, and a store with missing or damaged tiles."""

from __future__ import annotations

import pytest

from ledger.errors import MalformedError, TamperError
from ledger.merkle import prove_inclusion
from ledger.tiles import (
    TILE_BYTES,
    TileBuilder,
    TileNodes,
    format_bundle,
    format_bundle_path,
    format_tile_path,
    full_tiles_between,
    parse_bundle,
    parse_bundle_path,
    parse_tile_path,
    partial_width,
    split_hashes,
)
from tests.support import reference_tree as reference

LEAVES = reference.leaves(700)


@pytest.mark.parametrize(
    ("n", "path"),
    [(5, "005"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067"), (0, "000")],
)
def test_groups_of_three(n: int, path: str) -> None:
    assert format_tile_path(3, n) == f"tile/3/{path}"
    assert parse_bundle_path(f"tile/entries/{path}.p/7") == (n, 7)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/5",
        "tile/0/x000/005",
        "tile/00/005",
        "tile/64/005",
        "tile/0/005.p/0",
        "tile/0/005.p/256",
        "tile/0/005.p/01",
        "tile/entries/005",
        "/tile/0/005",
        "tile/0/005/",
        "tile/0/٠٠٥",
        "",
        "tile/0/x001/x000",
        "tile/0/../005",
        "tile/0/005\n",
        "tile/0/" + "x001/" * 30 + "000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ],
)
def test_not_a_tile_path(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@pytest.mark.parametrize("path", ["tile/0/005", "tile/entries/x000/005", "tile/entries/5"])
def test_not_a_bundle_path(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_bundle_path(path)


@pytest.mark.parametrize(("level", "n", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_no_path_for(level: int, n: int, width: int) -> None:
    with pytest.raises(MalformedError):
        format_tile_path(level, n, width)
    if 0 <= level < 64:
        with pytest.raises(MalformedError):
            format_bundle_path(n, width)


def test_widths_and_new_tiles() -> None:
    assert [partial_width(level, 70_000) for level in range(4)] == [112, 17, 1, 0]
    assert list(full_tiles_between(0, 255)) == []
    assert list(full_tiles_between(255, 65_536))[-2:] == [(0, 255), (1, 0)]


def stored(size: int) -> dict[tuple[int, int], bytes]:
    return {
        (tile.level, tile.n): tile.data for tile in TileBuilder.empty().extended(LEAVES[:size])[1]
    }


def test_full_tiles_are_read_from_the_store() -> None:
    asked: list[tuple[int, int]] = []
    tiles = stored(700)

    def read(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return b"".join(LEAVES[start:stop])

    nodes = TileNodes(lambda level, n: tiles.get((level, n)), read, 700)
    assert prove_inclusion(3, 700, nodes) == reference.path(3, LEAVES)
    assert asked == [(512, 700)]


def test_a_missing_tile_is_made_of_what_lies_below() -> None:
    nodes = TileNodes(lambda level, n: None, lambda a, b: b"".join(LEAVES[a:b]), 700)
    assert nodes.row(0, 1) == stored(700)[0, 1]
    assert len(nodes.row(1, 0)) == 64
    assert nodes.partial_row(0) == b"".join(LEAVES[512:])
    assert TileNodes(lambda level, n: None, nodes._read_leaves, 512).partial_row(0) == b""


def test_a_tile_or_row_of_another_length_is_evidence() -> None:
    cut = TileNodes(lambda level, n: b"x" * 31, lambda a, b: b"".join(LEAVES[a:b]), 700)
    with pytest.raises(TamperError, match=r"expected 8192 bytes, found 31 bytes"):
        cut(0, 3)
    short = TileNodes(lambda level, n: None, lambda a, b: b"", 700)
    with pytest.raises(TamperError, match=r"expected 6016 bytes, found 0 bytes"):
        short(0, 600)


@pytest.mark.parametrize(("level", "n"), [(0, 3), (1, 1), (2, 0), (-1, 0), (0, -1)])
def test_no_such_row(level: int, n: int) -> None:
    nodes = TileNodes(lambda level, n: None, lambda a, b: b"".join(LEAVES[a:b]), 700)
    with pytest.raises(MalformedError, match="has no tile"):
        nodes.row(level, n)


def test_a_failed_append_leaves_the_builder_as_it_was() -> None:
    builder, _ = TileBuilder.empty().extended(LEAVES[:300])
    first, tiles = builder.extended(LEAVES[300:600])
    second, again = builder.extended(LEAVES[300:600])
    assert (first, tiles) == (second, again)
    assert [len(tile.data) for tile in tiles] == [TILE_BYTES]
    assert builder.size == 300


@pytest.mark.parametrize("entries", [[], [b"x"] * 257, [b"x" * 65_536]])
def test_not_a_bundle(entries: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        format_bundle(entries)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x02x", b"\x00\x01x\x00", b"\x00\x00" * 257])
def test_a_bundle_cut_or_too_long(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bundle(data)


def test_a_row_is_whole_hashes() -> None:
    assert split_hashes(b"".join(LEAVES[:3])) == LEAVES[:3]
    with pytest.raises(MalformedError, match="33 bytes are not a row"):
        split_hashes(b"x" * 33)
