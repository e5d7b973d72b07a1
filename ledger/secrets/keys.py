"""What a value is, going by the name of its place: `db_password`, `clientSecret`, `GITHUB_TOKEN`.

The last words of a name decide: `password_file`, `api_key_id` and `token_count` name no secret.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["KEY_HINTS", "PASSWORD", "SECRET_KEY", "TOKEN", "class_of_key"]

PASSWORD: Final = "a password"  # noqa: S105 - what it looks like, not one
SECRET_KEY: Final = "a secret key"  # noqa: S105
TOKEN: Final = "a token"  # noqa: S105

_PASSWORDS: Final = ("password", "passwd", "passphrase", "passcode", "pwd", "pass", "pw")
_SECRETS: Final = (
    "secret", "secrets", "credential", "credentials", "secretkey", "apikey", "accesskey",
    "privatekey", "accountkey", "secret_key", "api_key", "access_key", "private_key", "account_key",
    "auth_key", "signing_key", "encryption_key", "master_key", "shared_key", "storage_key",
    "service_key", "license_key", "deploy_key", "ssh_key",
)  # fmt: skip
_TOKENS: Final = ("token", "tokens", "auth", "authorization", "bearer", "jwt", "cookie")
_TAILS: Final = frozenset({"value", "plain", "plaintext", "text", "b64", "base64", "raw", "string"})
_HARMLESS: Final = frozenset(
    "page next continuation cursor sync idempotency pad eos bos unk mask cls sep special num max"
    " min count per public csrf image prompt completion total stop start end".split()
)
_ENDINGS: Final = tuple(
    (kind, tuple("_" + word for word in words))
    for kind, words in ((PASSWORD, _PASSWORDS), (SECRET_KEY, _SECRETS), (TOKEN, _TOKENS))
)

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN = re.compile(r"[^a-z0-9]+")


@lru_cache(maxsize=4096)
def class_of_key(key: str) -> str | None:
    """PASSWORD, SECRET_KEY or TOKEN where the key names such a thing, else None."""
    words = [word for word in _BETWEEN.split(_CAMEL.sub("_", key[:200]).lower()) if word]
    while words and (words[-1] in _TAILS or words[-1].isdigit()):
        words.pop()
    spelled = ("_" + "_".join(words)).rstrip("0123456789")
    kind = next((kind for kind, endings in _ENDINGS if spelled.endswith(endings)), None)
    if kind is None and spelled.endswith(("password", "passwd")):  # PGPASSWORD
        return PASSWORD
    return None if kind == TOKEN and _HARMLESS.intersection(words) else kind


_NO_LETTER: Final = r"[\x00-\x40\x5b-\x60\x7b-\x7f]"


def _hint(words: str) -> str:
    """A pattern that finds the words in any spelling; short ones must end there."""
    spelled = words.replace("_", f"{_NO_LETTER}{{0,3}}")
    return spelled if len(words) > 4 else f"{spelled}(?:{_NO_LETTER}|{'|'.join(_TAILS)})"


KEY_HINTS: Final = "|".join(map(_hint, (*_PASSWORDS, *_SECRETS, *_TOKENS)))
"""A pattern, to be read without regard to case, that finds every name that `class_of_key` knows."""
