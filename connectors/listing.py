"""The listing of a tree: what a folder holds, as bytes that can be hashed, kept and compared.

Example, one line in truth::

    {"entries":[{"mode":"100644","path":"a.csv","sha256":"9f…","size":4}],"format":"asof.tree/1"}

The digest of a tree is the SHA-256 of its listing. A folder on disk and the same folder in a git
commit have the same listing, therefore the same digest; that is how a restored working tree is
checked.

Rules:

1. JSON with sorted keys, no white space, UTF-8 (`ledger.canonical.format_json`); nothing else is
   read back.
2. `mode` is git's: 100644 file, 100755 executable file, 120000 symbolic link (its content is
   where it points), 160000 git submodule (its content is the commit id in hexadecimal), 040000 an
   empty folder (its content is empty; git has none). Other permission bits and times are not part
   of a version.
3. `path` is relative, in UTF-8, separated by `/`, without empty, `.` or `..` parts and without NUL.
   It is kept exactly as it is: newlines, emoji, right-to-left text, any normalisation form.
4. Entries are in the order of their paths' bytes. No path occurs twice or lies under one that is
   not a folder.
5. A symbolic link is relative, climbs (`..`) only at its beginning and stays inside the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from ledger.canonical import format_json, parse_json_object
from ledger.errors import MalformedError

__all__ = [
    "DIRECTORY",
    "EXECUTABLE",
    "FILE",
    "LINK",
    "SUBMODULE",
    "TreeEntry",
    "check_link",
    "check_tree_path",
    "format_listing",
    "listing_digest",
    "parse_listing",
]

FORMAT = "asof.tree/1"
FILE, EXECUTABLE, LINK, SUBMODULE, DIRECTORY = "100644", "100755", "120000", "160000", "040000"
MODES = frozenset({FILE, EXECUTABLE, LINK, SUBMODULE, DIRECTORY})
MAX_LISTING = 1 << 30
_KEYS = {"mode", "path", "sha256", "size"}
_HEX = frozenset("0123456789abcdef")


class TreeEntry(NamedTuple):
    """One file, link, submodule or empty folder of a tree."""

    path: str
    mode: str
    sha256: str
    size: int


def check_tree_path(path: str) -> None:
    """Rule 3. Raises: MalformedError."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError(
            "a file name that is not UTF-8 cannot be recorded; rename the file", where=ascii(path)
        ) from None
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise MalformedError("not a plain path inside the tree", where=repr(path))
    if any(len(part.encode("utf-8")) > 255 for part in parts):
        raise MalformedError("a part of the path is longer than 255 bytes", where=repr(path))


def check_link(path: str, points_to: str) -> None:
    """Rule 5, for the link at `path`. Raises: MalformedError."""
    parts = points_to.split("/")
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if not points_to or points_to.startswith("/") or "\0" in points_to:
        raise MalformedError(
            f"a symbolic link to {points_to!r}; only relative links inside the tree are kept",
            where=repr(path),
        )
    if climbs > path.count("/") or ".." in parts[climbs:]:
        raise MalformedError(
            f"a symbolic link that leaves the tree ({points_to!r})", where=repr(path)
        )


def format_listing(entries: Iterable[TreeEntry]) -> bytes:
    """The listing of `entries`, given in any order. Raises: MalformedError."""
    ordered = sorted(entries, key=lambda entry: entry.path.encode("utf-8", "surrogateescape"))
    _check_entries(ordered)
    return format_json({"entries": [entry._asdict() for entry in ordered], "format": FORMAT})


def listing_digest(entries: Iterable[TreeEntry]) -> str:
    """The digest of the tree: `sha256:` of its listing."""
    return f"sha256:{hashlib.sha256(format_listing(entries)).hexdigest()}"


def parse_listing(data: bytes) -> tuple[TreeEntry, ...]:
    """The entries of a listing. Raises: MalformedError where a rule or a byte is off."""
    value = parse_json_object(data, max_bytes=MAX_LISTING)
    found = value.get("entries")
    if (
        set(value) != {"entries", "format"}
        or value["format"] != FORMAT
        or not isinstance(found, list)
    ):
        raise MalformedError(f"not a listing of the form {FORMAT}", where="/format")
    entries = tuple(_parse_entry(item, number) for number, item in enumerate(found))
    if format_listing(entries) != data:
        raise MalformedError("a listing in another order or spelling than the one that is hashed")
    return entries


def _parse_entry(item: Any, number: int) -> TreeEntry:
    if not isinstance(item, dict) or set(item) != _KEYS:
        raise MalformedError(
            f"needs exactly {', '.join(sorted(_KEYS))}", where=f"/entries/{number}"
        )
    size = item["size"]
    texts = (item["path"], item["mode"], item["sha256"])
    if not all(isinstance(text, str) for text in texts) or type(size) is not int or size < 0:
        raise MalformedError("a field of the wrong type", where=f"/entries/{number}")
    return TreeEntry(**item)


def _check_entries(entries: list[TreeEntry]) -> None:
    """Rules 2 to 4 for entries in order."""
    leaves: set[str] = set()
    for path, mode, sha256, _ in entries:
        check_tree_path(path)
        if mode not in MODES or len(sha256) != 64 or not set(sha256) <= _HEX:
            raise MalformedError("a mode or hash that cannot be", where=repr(path))
        if path in leaves:
            raise MalformedError("occurs twice", where=repr(path))
        leaves.add(path)
    for path in leaves:
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in leaves:
                raise MalformedError(
                    f"lies under {parent!r}, which is not a folder", where=repr(path)
                )
