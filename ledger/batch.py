"""A batch on its way in: everything about it that can be made before its place is known.

::

    batch = prepare_batch(drafts, key="import-2026-11-21", entropy=os.urandom)

The submitting thread does this, so that the sequencer, which works alone, is left with what only it
can do: indexes, versions, links. docs/spec/append.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Final, NamedTuple

from ledger.canonical import check_name
from ledger.commitment import SALT_SIZE, commit
from ledger.draft import Draft
from ledger.errors import MalformedError
from ledger.store import Tracked

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_ENTRIES",
    "MAX_PAYLOAD_BYTES",
    "Batch",
    "body_digest",
    "check_tracked",
    "in_parts",
    "prepare_batch",
]

MAX_PAYLOAD_BYTES: Final = 1 << 20
MAX_BATCH_ENTRIES: Final = 50_000
MAX_BATCH_BYTES: Final = 64 << 20
BODY_PREFIX: Final = b"asof/body/v1\n"

Content = tuple[str, str, str, bytes]
"""type, stream, actor, payload: what a batch says, without its place and its expectations."""


class Batch(NamedTuple):
    """Drafts with their salts and commitments. `digest` is there where `key` is.

    A tuple, since one is made for each single append: a frozen dataclass takes thrice the time.
    """

    drafts: Sequence[Draft]
    salts: Sequence[bytes]
    commitments: Sequence[bytes]
    size_bytes: int
    key: str | None
    digest: bytes
    tracked: Tracked | None = None

    def is_body_of(self, digest: bytes, salt: bytes) -> bool:
        """Whether `digest`, made with `salt`, is that of this body."""
        return _digest_of(salt, self.drafts) == digest


def prepare_batch(
    drafts: Sequence[Draft],
    *,
    key: str | None,
    entropy: Callable[[int], bytes],
    tracked: Tracked | None = None,
) -> Batch:
    """The batch, bounded and committed to. Raises: MalformedError, pointing to the draft."""
    drafts = tuple(drafts)
    if not 0 < len(drafts) <= MAX_BATCH_ENTRIES:
        raise MalformedError(f"a batch has 1 to {MAX_BATCH_ENTRIES} events, not {len(drafts)}")
    if key is not None:
        check_name(key, "idempotency key")
    if tracked is not None:
        check_tracked(tracked)
    size = _checked_size(drafts)
    salts = in_parts(entropy(SALT_SIZE * len(drafts)), SALT_SIZE)
    return Batch(
        drafts=drafts,
        salts=salts,
        commitments=[
            commit(salt, draft.payload) for salt, draft in zip(salts, drafts, strict=True)
        ],
        size_bytes=size,
        key=key,
        digest=b"" if key is None else _digest_of(salts[0], drafts),
        tracked=tracked,
    )


def check_tracked(tracked: Tracked) -> None:
    """Raises MalformedError for a position that no store keeps."""
    check_name(tracked.name, "follower")
    if not 0 <= tracked.position < 1 << 63:
        raise MalformedError(f"a position is 0 or more, not {tracked.position}")


def body_digest(salt: bytes, contents: Iterable[Content]) -> bytes:
    """SHA-256 over a prefix, the salt of the first entry, and each part after its length.

    The salt goes with the payload: once it is erased, the digest says nothing about what was there.
    """
    digest = sha256(BODY_PREFIX + salt)
    take = digest.update
    for type_, stream, actor, payload in contents:
        take(_measured_names(type_, stream, actor) + len(payload).to_bytes(8, "big") + payload)
    return digest.digest()


@lru_cache(maxsize=8192)
def _measured_names(*names: str) -> bytes:
    """Each name after its length. Kept, since most batches repeat theirs."""
    parts = [name.encode() for name in names]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _digest_of(salt: bytes, drafts: Iterable[Draft]) -> bytes:
    return body_digest(salt, map(itemgetter(0, 1, 2, 3), drafts))


def in_parts(joined: bytes, size: int) -> list[bytes]:
    """Salts or commitments one by one, that lie in a row."""
    return [joined[at : at + size] for at in range(0, len(joined), size)]


def _checked_size(drafts: Sequence[Draft]) -> int:
    """The bytes of all payloads, every draft having been looked at."""
    sizes = [len(draft.payload) for draft in drafts]
    if max(sizes) > MAX_PAYLOAD_BYTES:
        longest = max(sizes)
        raise MalformedError(
            f"a payload has at most {MAX_PAYLOAD_BYTES} bytes, not {longest}",
            where=f"/{sizes.index(longest)}",
        )
    for names in {draft[:3] for draft in drafts}:
        _check_names(*names)
    size = sum(sizes)
    if size > MAX_BATCH_BYTES:
        raise MalformedError(f"a batch has at most {MAX_BATCH_BYTES} bytes of payload, not {size}")
    return size


@lru_cache(maxsize=8192)
def _check_names(type_: str, stream: str, actor: str) -> None:
    """Each combination once: most batches repeat theirs."""
    check_name(type_, "type")
    check_name(stream, "stream")
    check_name(actor, "actor")
