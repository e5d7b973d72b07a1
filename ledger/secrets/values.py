"""What a value is, going by its own looks: harmless, mixed, random."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

__all__ = ["is_harmless", "is_mixed", "is_random"]

_MIN_SECRET: Final = 4  # shorter ones protect nothing
_SETTINGS: Final = frozenset(
    "none null true false required optional enabled disabled unset empty default prompt redacted"
    " hidden masked removed rotated expired string unknown environment file vault keyring"
    " interactive basic oauth oauth2 oidc bearer kerberos ldap changed unchanged present absent"
    " missing".split()
)
_REFERENCE = re.compile(
    r"(?:redacted|vault|env|file|keyring|ssm|op|aws-sm|gcp-sm|azure-kv|k8s|sops|ref|secret|kms):.*"
    r"|arn:aws[a-z-]*:(?:secretsmanager|ssm|kms):.*"
    r"|projects/[^/]+/secrets/.*"
    r"|https://[^/]+\.vault\.azure\.net/.*"
    r"|(?:md5|sha[0-9]+|sha3-[0-9]+|blake[0-9a-z]+):[0-9a-f]{32,}"
    r"|\$\{.*\}|\$\(.*\)|\{\{.*\}\}|\{[\w.]*\}|<.*>|\[.*\]|\(.*\)|%\(\w+\)s|%\w+%|\$[a-z_]\w*"
    r"|(.)\1*"  # *****, xxxxx
    r"|gAAAA.*",  # already encrypted (Fernet)
    re.DOTALL | re.IGNORECASE,
)
_PATH = re.compile(r"(?:[A-Za-z]:[\\/]|~/|\.{0,2}/)\S*")


def is_harmless(value: str) -> bool:
    """A reference, a digest, a placeholder, a setting, a path, or too short to be a secret."""
    text = value.strip().strip("\"'")
    if len(text) < _MIN_SECRET or text.lower() in _SETTINGS or _REFERENCE.fullmatch(text):
        return True
    return bool(_PATH.fullmatch(text)) and not any(map(is_random, re.split(r"[\\/]", text)))


def is_mixed(text: str) -> bool:
    """Letters with digits or signs among them, as passwords have and words have not."""
    return bool(re.search("[A-Za-z]", text)) and bool(re.search(r"[0-9!#$%^&*+=~]", text))


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_.~!@#$%^&*-]{16,4096}")
_BITS_OF_HEX: Final = 2.5
_BITS_OF_MORE: Final = 3.2


def is_random(text: str) -> bool:
    """Whether a generator seems to have made it: long, without spaces, of many different signs."""
    if not _OPAQUE.fullmatch(text) or _UUID.fullmatch(text):
        return False
    if _HEX.fullmatch(text):
        return _bits_per_sign(text) >= _BITS_OF_HEX
    has_all_kinds = all(re.search(kind, text) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return has_all_kinds and _bits_per_sign(text) >= _BITS_OF_MORE


def _bits_per_sign(text: str) -> float:
    """Shannon entropy of the signs of the text, in bits."""
    length = len(text)
    return -sum(n / length * math.log2(n / length) for n in Counter(text).values())
