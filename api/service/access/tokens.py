"""API tokens: made once, shown once, kept as a keyed digest.

::

    asof_live_7Kq2mWc0Ab_<43 letters and digits>_3fT9aZ
              id, public  secret, 256 bits       checksum, so that scanners and typing are caught

What is kept is HMAC-SHA256 of the whole token under the pepper of the ledger's key folder: whoever
reads the ledger learns nothing to log in with, and a slow hash would add nothing to 256 random
bits.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Final

from api.service.own_files import own_once
from ledger.errors import StoreError

__all__ = ["digest_of", "id_of", "load_pepper", "new_token"]

PREFIX: Final = "asof_live"
ALPHABET: Final = string.digits + string.ascii_letters
ID_LETTERS: Final = 10
SECRET_LETTERS: Final = 43
CHECK_LETTERS: Final = 6
PEPPER_FILE: Final = "tokens.pepper"
PEPPER_BYTES: Final = 32

_TOKEN: Final = re.compile(
    rf"({PREFIX}_([0-9A-Za-z]{{{ID_LETTERS}}})_[0-9A-Za-z]{{{SECRET_LETTERS}}})"
    rf"_([0-9A-Za-z]{{{CHECK_LETTERS}}})"
)


def new_token() -> tuple[str, str]:
    """A new token and its id."""
    token_id = _random(ID_LETTERS)
    body = f"{PREFIX}_{token_id}_{_random(SECRET_LETTERS)}"
    return f"{body}_{_checksum(body)}", token_id


def id_of(token: str) -> str | None:
    """The id of what has the form and the checksum of a token; None for anything else."""
    found = _TOKEN.fullmatch(token)
    if found is None or _checksum(found[1]) != found[3]:
        return None
    return found[2]


def digest_of(token: str, pepper: bytes) -> str:
    """What is kept of a token."""
    return f"hmac-sha256:{hmac.new(pepper, token.encode(), sha256).hexdigest()}"


def load_pepper(folder: Path, *, create: bool = False) -> bytes:
    """The key of the digests. With `create` it is made where there is none yet, for the owner only.

    Raises StoreError where it cannot be read, or is not what was written.
    """
    path = folder / PEPPER_FILE
    try:
        if create and not path.exists():
            own_once(path, secrets.token_bytes(PEPPER_BYTES))
        found = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(
            f"{path} is missing: without it no token can be checked. Bring it back from the backup "
            "of the key folder, or make new tokens"
        ) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if len(found) != PEPPER_BYTES:
        raise StoreError(f"{path} holds {len(found)} bytes, not {PEPPER_BYTES}: it is damaged")
    return found


def _random(letters: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(letters))


def _checksum(text: str) -> str:
    number, letters = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LETTERS):
        number, digit = divmod(number, len(ALPHABET))
        letters = ALPHABET[digit] + letters
    return letters
