"""Any tree comes back byte for byte; any listing reads back; nothing else reads as a listing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from connectors.listing import TreeEntry, format_listing, parse_listing
from connectors.objects import ObjectStore
from connectors.placing import Content, place
from connectors.reading import hash_open, hash_text, read_tree
from ledger.errors import AsofError

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8
)
names = names.filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
entries = st.builds(
    TreeEntry,
    path=st.lists(names, min_size=1, max_size=3).map("/".join),
    mode=st.sampled_from(["100644", "100755", "120000", "160000", "040000"]),
    sha256=hashes,
    size=st.integers(0, 2**53 - 1),
)
trees = st.recursive(
    st.tuples(st.binary(max_size=64), st.booleans()),
    lambda children: st.dictionaries(names, children, max_size=4),
    max_leaves=12,
)
Tree = dict[str, "Tree | tuple[bytes, bool]"]


def build(folder: Path, tree: Tree) -> None:
    folder.mkdir()
    for name, child in tree.items():
        if isinstance(child, dict):
            build(folder / name, child)
        else:
            (folder / name).write_bytes(child[0])
            (folder / name).chmod(0o755 if child[1] else 0o644)


def naive(folder: Path) -> dict[bytes, tuple[bytes, bool] | None]:
    """What a folder holds, by the plainest means: content and mode, or None for a folder."""
    found: dict[bytes, tuple[bytes, bool] | None] = {}
    for place_of, folders, files in os.walk(os.fsencode(folder)):
        for name in files:
            path = os.path.join(place_of, name)
            with open(path, "rb") as file:
                executable = bool(os.stat(path).st_mode & 0o100)
                found[os.path.relpath(path, os.fsencode(folder))] = (file.read(), executable)
        for name in folders:
            found[os.path.relpath(os.path.join(place_of, name), os.fsencode(folder))] = None
    return found


@given(
    trees.filter(lambda tree: isinstance(tree, dict)),
    trees.filter(lambda tree: isinstance(tree, dict)),
)
def test_any_tree_comes_back_over_any_other(good: Tree, bad: Tree) -> None:
    room = Path(tempfile.mkdtemp(prefix="asof-trees-"))
    try:
        build(room / "good", good)
        build(room / "target", bad)
        store = ObjectStore(room / "objects")
        listing, kept = store.put_tree(room / "good")
        store.check_tree(listing.sha256)
        place(store, Content(listing.sha256, is_tree=True), room / "target")
        assert naive(room / "target") == naive(room / "good")
        assert read_tree(room / "target", hash_open, hash_text) == kept
        assert sorted(path.name for path in room.iterdir()) == ["good", "objects", "target"]
    finally:
        shutil.rmtree(room)


@given(st.lists(entries, max_size=6))
def test_listings_read_back_in_any_order(found: list[TreeEntry]) -> None:
    try:
        data = format_listing(found)
    except AsofError:
        return
    assert format_listing(reversed(found)) == data
    assert sorted(parse_listing(data)) == sorted(found)


@given(st.lists(entries, min_size=1, max_size=4), st.integers(min_value=0), st.integers(1, 255))
def test_no_other_bytes_are_the_same_listing(found: list[TreeEntry], at: int, flip: int) -> None:
    try:
        data = format_listing(found)
    except AsofError:
        return
    other = bytearray(data)
    other[at % len(other)] ^= flip
    try:
        assert parse_listing(bytes(other)) != parse_listing(data)
    except AsofError:
        pass


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_hostile_listings_raise_ours_only(data: bytes) -> None:
    try:
        parse_listing(data)
    except AsofError:
        pass


@given(st.binary(max_size=4096))
def test_any_bytes_come_back(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as room:
        store = ObjectStore(Path(room) / "objects")
        kept = store.put_bytes(data)
        assert kept == (hashlib.sha256(data).hexdigest(), len(data))
        assert store.read(kept.sha256) == data
