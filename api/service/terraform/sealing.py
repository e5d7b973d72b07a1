"""States hold secrets in clear, so what lies on the disk is sealed: AES-256-GCM.

::

    sealer = load_sealer(keys_folder, create=True)
    sealed = sealer.seal(state, place)        # nonce, ciphertext, tag
    sealer.open(sealed, place)                # TamperError for other bytes, or another place

The key lies in the ledger's key folder (`terraform.key`), apart from what it seals. `place` is
bound into the tag: a state that was moved to another name, or another ledger, does not open there.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.service.own_files import own_once
from ledger.canonical import format_json
from ledger.errors import StoreError, TamperError

__all__ = ["KEY_FILE", "Sealer", "load_sealer"]

KEY_FILE: Final = "terraform.key"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""Random: good for 2^32 states under one key."""


class Sealer:
    """Seals under one key; thread-safe. `key_id` tells keys apart and nothing about them."""

    def __init__(self, key: bytes) -> None:
        self.key_id = sha256(b"asof terraform key\n" + key).hexdigest()[:16]
        self._cipher = AESGCM(key)

    def seal(self, text: bytes, place: tuple[str, ...]) -> bytes:
        """The text, sealed for this place."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, format_json(list(place)))

    def open(self, sealed: bytes, place: tuple[str, ...]) -> bytes:
        """The text. Raises TamperError where these are not the bytes that were sealed there."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, format_json(list(place)))
        except (InvalidTag, ValueError):
            raise TamperError(
                f"the kept state {place[-2]} {place[-1]} is not what was sealed: it was changed or "
                "damaged on the disk; bring terraform.db back from the backup"
            ) from None


def load_sealer(folder: Path, *, create: bool) -> Sealer:
    """The sealer of a key folder. With `create` its key is made where there is none yet.

    Raises StoreError where it cannot be read, or is not what was written.
    """
    path = folder / KEY_FILE
    try:
        if create and not path.exists():
            own_once(path, os.urandom(KEY_BYTES))
        key = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing: without it no kept state can be opened. Bring it back from the "
            "backup of the key folder, or delete the states that it sealed"
        ) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path} holds {len(key)} bytes, not {KEY_BYTES}: it is damaged")
    return Sealer(key)
