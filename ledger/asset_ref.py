"""`model/forecaster@7`: how an asset version is referred to, everywhere.

::

    >>> split_asset_ref("dataset/eu/orders@2026-11-20")
    AssetRefParts(kind='dataset', name='eu/orders', version='2026-11-20')

The kind ends at the first "/", the version begins after the last "@": a name may hold both signs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ledger.canonical import check_name
from ledger.errors import MalformedError

__all__ = ["AssetRefParts", "check_kind", "format_asset_ref", "split_asset_ref"]

_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)


class AssetRefParts(NamedTuple):
    """The three parts of a reference."""

    kind: str
    name: str
    version: str


def check_kind(text: str) -> None:
    """Raises MalformedError unless `text` is a kind: a lower-case word, open to new ones."""
    if not _KIND.fullmatch(text):
        raise MalformedError(
            f"{text[:64]!r} is not a kind of asset: write a lower-case letter, then at most 63 of"
            " a-z 0-9 _ . - (for example model, dataset, feature)"
        )


def format_asset_ref(kind: str, name: str, version: str) -> str:
    """`<kind>/<name>@<version>`. Raises MalformedError where it would not split into the same."""
    ref = f"{kind}/{name}@{version}"
    if split_asset_ref(ref) != (kind, name, version):
        raise MalformedError(f'the version {version!r} must not hold "@"')
    return ref


def split_asset_ref(ref: str) -> AssetRefParts:
    """The parts of a reference. Raises MalformedError and says which part is wrong."""
    kind, slash, rest = ref.partition("/")
    name, at, version = rest.rpartition("@")
    if not slash or not at:
        raise MalformedError(
            f"{ref[:80]!r} is not an asset version: write <kind>/<name>@<version>,"
            " for example model/forecaster@7"
        )
    check_kind(kind)
    for part, word in ((name, "name"), (version, "version")):
        check_name(part, word)
        if part != part.strip():
            raise MalformedError(f"the {word} {part[:80]!r} begins or ends with a space")
    check_name(ref, "asset version")
    return AssetRefParts(kind, name, version)
