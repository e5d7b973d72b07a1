"""RFC 6962 word for word: slow, recursive, over all leaves. The clever code is held against it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(root(leaves[:k]), root(leaves[k:]))


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), root(leaves[k:])]
    return [*path(index - k, leaves[k:]), root(leaves[:k])]


def proof(size: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]) = SUBPROOF(m, D[n], true)."""
    return subproof(size, leaves, True)


def subproof(size: int, leaves: Sequence[bytes], complete: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if complete else [root(leaves)]
    k = split(len(leaves))
    if size <= k:
        return [*subproof(size, leaves[:k], complete), root(leaves[k:])]
    return [*subproof(size - k, leaves[k:], False), root(leaves[:k])]


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two below `size`."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def leaves(count: int) -> list[bytes]:
    """Leaf hashes to try things with."""
    return [sha256(b"leaf %d" % i).digest() for i in range(count)]
