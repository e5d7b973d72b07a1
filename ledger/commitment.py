"""A salted promise: the entry fixes a payload without showing it.

::

    commitment = SHA-256("asof/payload/v1\\n" ‖ salt ‖ payload)          salt: 16 random bytes

The salt is kept and disclosed with the payload, never without it, so a payload can be withheld or
lawfully erased and every proof still holds. Without the salt, a short payload could be guessed from
its digest. docs/spec/entry.md, rule 1.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from ledger.errors import MalformedError, TamperError

__all__ = ["COMMITMENT_PREFIX", "SALT_SIZE", "begin_commitment", "check_commitment", "commit"]

COMMITMENT_PREFIX: Final = b"asof/payload/v1\n"
SALT_SIZE: Final = 16

begin_commitment = sha256(COMMITMENT_PREFIX).copy
"""Called without arguments: a commitment's hash, prefix taken in, salt and payload to come."""


def commit(salt: bytes, payload: bytes) -> bytes:
    """The 32 bytes that stand for `payload` in its entry."""
    if len(salt) != SALT_SIZE:
        raise MalformedError(f"a salt has {SALT_SIZE} bytes, this one {len(salt)}")
    promise = begin_commitment()
    promise.update(salt)
    promise.update(payload)
    return promise.digest()


def check_commitment(commitment: bytes, salt: bytes, payload: bytes) -> None:
    """Raises TamperError unless `payload` is, byte for byte, what the entry committed to."""
    found = commit(salt, payload)
    if found != commitment:
        raise TamperError(
            "the payload is not the one that the entry commits to",
            expected=commitment.hex(),
            found=found.hex(),
        )
