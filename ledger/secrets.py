"""Secrets in what is captured: found before they are stored, because what is stored stays for ever.

::

    refuse_secrets(b'{"db_password":"hunter2!"}', {"db_password": "hunter2!"})
    MalformedError: /db_password: looks like a password; store a reference to it, or its digest

A value counts as a secret

1. if it holds a well-known shape: a private key, a token of a known service, a URL with a password;
2. if its key names a secret (password, client_secret, api_key, …) and it is not a reference, a
   digest, a placeholder or a setting;
3. if its key may name a secret (token, auth, …) and it looks random;
4. if it is text that assigns one: ``password=…``, ``--token …``, ``Authorization: Bearer …``.

Nothing else is suspected, however random it looks: digests, commit ids and checksums are what a
ledger is made of. A pattern over the whole payload, compiled, decides in less than a microsecond
that there is nothing to look at; only then each value is looked at.
"""

from __future__ import annotations

import hmac
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydantic_core import SchemaValidator, core_schema

from ledger.errors import MalformedError

__all__ = ["Secret", "find_secrets", "may_hold_secrets", "refuse_secrets", "scrub_secrets"]


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret seems to be, and what it looks like. It does not hold the value."""

    pointer: str
    looks_like: str


def refuse_secrets(payload: bytes, data: Mapping[str, Any]) -> None:
    """Raises MalformedError with a pointer if `data`, whose bytes are `payload`, holds a secret."""
    if not may_hold_secrets(payload):
        return
    for secret in find_secrets(data):
        raise MalformedError(
            f"looks like {secret.looks_like}; a ledger never forgets: store a reference to it"
            " (vault://…, env:NAME) or its digest (sha256:…) instead",
            where=secret.pointer,
        )


def scrub_secrets(data: Any, key: bytes) -> tuple[Any, list[Secret]]:
    """`data` with each secret replaced by ``redacted:<HMAC-SHA256>``, and what was replaced.

    Under one `key` equal secrets get equal marks, so that "it did not change" can still be shown.
    """
    found = list(find_secrets(data))
    places = {secret.pointer for secret in found}
    return _scrubbed(data, "", places, key), found


def _scrubbed(value: Any, pointer: str, places: set[str], key: bytes) -> Any:
    if pointer in places:
        return "redacted:" + hmac.digest(key, str(value).encode(), "sha256").hex()
    if isinstance(value, Mapping):
        return {
            name: _scrubbed(member, f"{pointer}/{_escaped(name)}", places, key)
            for name, member in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, f"{pointer}/{i}", places, key) for i, item in enumerate(value)]
    return value


# --------------------------------------------------------------------------------- the first look

_HINTS: Final = (
    "(?i-u:passw|passphrase|pwd|secret|token|api[_. -]?key|access[_. -]?key|private[_. -]?key"
    "|account[_. -]?key|signing[_. -]?key|encryption[_. -]?key|master[_. -]?key|shared[_. -]?key"
    '|credential|authori[sz]ation|bearer|basic |cookie|jwt|auth["_=:]|[?&]sig=|signature=)'
    "|A(?:KIA|SIA|BIA|CCA|Iza|GE-SECRET)|gh[pousr]_|github_pat_|gl(?:pat|ptt|dt|rt|sa)[-_]|xox[abeprs]-"
    "|hooks[.]slack|[sr]k_(?:live|test)_|sk-|ya29|GOCSPX|npm_|pypi-|hf_|SG[.]|SK[0-9a-f]|key-"
    "|dop_v1|dapi|hv[sb][.]|dckr_pat|sq0|shp(?:at|ss|ca)_|:AA|nvapi-|r8_|PMAK-|ntn_|lin_api|eyJ"
    '|-----BEGIN|://[^/\\s"@]+:[^/\\s"@]+@|lg_[a-z]'
)
_first_look = SchemaValidator(core_schema.str_schema(pattern=_HINTS)).isinstance_python


def may_hold_secrets(payload: bytes) -> bool:
    """False: there is none. True: `find_secrets` has to look. About 1 µs for 400 bytes."""
    return _first_look(payload.decode())


# ---------------------------------------------------------------------------------- each value

_NAME_MEMBERS: Final = ("name", "key", "Name", "Key")
_VALUE_MEMBERS: Final = ("value", "Value")


def find_secrets(data: Any, pointer: str = "", key: str = "") -> Iterator[Secret]:
    """Every place in `data` that seems to hold a secret, in order. `key` is the name of its place."""
    if isinstance(data, Mapping):
        yield from _find_in_members(data, pointer, key)
    elif isinstance(data, (list, tuple)):
        for i, item in enumerate(data):
            yield from find_secrets(item, f"{pointer}/{i}", key)
    elif isinstance(data, str):
        looks_like = _shape_in(data) or _named_secret(key, data) or _assignment_in(data)
        if looks_like:
            yield Secret(pointer, looks_like)
    elif type(data) is int and data > 999 and _class_of(key) == "a password":
        yield Secret(pointer, "a password")


def _find_in_members(members: Mapping[Any, Any], pointer: str, parent: str) -> Iterator[Secret]:
    """As find_secrets. ``{"name": "DB_PASSWORD", "value": …}`` and ``{"password": {"value": …}}`` count."""
    named = next((members[n] for n in _NAME_MEMBERS if isinstance(members.get(n), str)), parent)
    for name, member in members.items():
        place = f"{pointer}/{_escaped(name)}"
        if looks_like := _shape_in(name):
            yield Secret(place, looks_like)
        yield from find_secrets(member, place, named if name in _VALUE_MEMBERS else name)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


# ------------------------------------------------------------------------------------ 1. shapes

_SHAPES: Final = tuple(
    (looks_like, re.compile(pattern))
    for looks_like, pattern in (
        (
            "a private key",
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
        ),
        (
            "an AWS access key",
            r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        ),
        ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}"),
        ("a GitLab token", r"\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{20,}"),
        ("a Grafana token", r"\bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
        (
            "a Slack token",
            r"\bxox[abeprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w{20,}",
        ),
        ("a Stripe key", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
        ("a Google credential", r"\bAIza[\w-]{35}(?![\w-])|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}"),
        ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
        ("a PyPI token", r"\bpypi-AgE[\w-]{16,}"),
        ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b"),
        ("a SendGrid key", r"\bSG\.[\w-]{20,24}\.[\w-]{39,50}"),
        ("a Twilio key", r"\bSK[0-9a-f]{32}\b"),
        ("a Mailgun key", r"\bkey-[0-9a-f]{32}\b"),
        ("a DigitalOcean token", r"\bdo[pro]_v1_[0-9a-f]{64}\b"),
        ("a Databricks token", r"\bdapi[0-9a-f]{32}\b"),
        ("a Vault token", r"\bhv[sb]\.[\w-]{24,}"),
        ("a Docker token", r"\bdckr_pat_[\w-]{20,}"),
        ("a Square token", r"\bsq0(?:atp|csp)-[\w-]{22,}"),
        ("a Shopify token", r"\bshp(?:at|ss|ca)_[0-9a-fA-F]{32}\b"),
        ("a Telegram token", r"\b\d{8,10}:AA[\w-]{33}\b"),
        ("an NVIDIA key", r"\bnvapi-[\w-]{40,}"),
        ("a Replicate token", r"\br8_[A-Za-z0-9]{37}\b"),
        ("a Postman key", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b"),
        ("a Notion token", r"\bntn_[A-Za-z0-9]{40,}|\bsecret_[A-Za-z0-9]{43}\b"),
        ("a Linear key", r"\blin_api_[A-Za-z0-9]{40}\b"),
        ("a key of asof", r"\blg_[a-z]+_[A-Za-z0-9]+_[A-Za-z0-9]{32,}"),
        ("a signed token (JWT)", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
        ("a signed URL", r"[?&](?:sig|X-Amz-Signature|X-Goog-Signature)=[\w%+/=-]{20,}"),
    )
)
_RANDOM_SHAPES: Final = tuple(
    (looks_like, re.compile(pattern))
    for looks_like, pattern in (
        (
            "an API key",
            r"(?<![\w-])sk-(?:ant-|proj-|svcacct-|admin-|or-)?(?:[a-z0-9]+-)?([\w-]{20,})",
        ),
        ("a credential in a header", r"(?i)\b(?:bearer|basic)\s+([\w.~+/=-]{16,})"),
    )
)
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@\"']*:([^/\s@\"']+)@")


def _shape_in(text: str) -> str | None:
    for looks_like, shape in _SHAPES:
        if shape.search(text):
            return looks_like
    for looks_like, shape in _RANDOM_SHAPES:
        if any(_is_random(match[1]) for match in shape.finditer(text)):
            return looks_like
    for match in _URL_PASSWORD.finditer(text):
        if not _is_harmless(match[1]):
            return "a URL with a password"
    return None


# ------------------------------------------------------------------------------ 2. and 3. by key

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_ALNUM = re.compile(r"[^a-z0-9]+")
_TAILS: Final = frozenset(
    {"value", "plain", "plaintext", "text", "b64", "base64", "raw", "str", "string"}
)
_PASSWORDS: Final = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "pass",
    "pw",
    "userpass",
)
_SECRETS: Final = (
    "secret", "secrets", "secretkey", "secret_key", "apikey", "api_key", "apisecret", "accesskey",
    "access_key", "privatekey", "private_key", "account_key", "accountkey", "auth_key", "authkey",
    "signing_key", "encryption_key", "master_key", "shared_key", "storage_key", "service_key",
    "credential", "credentials", "client_secret", "clientsecret", "secret_access_key",
    "license_key", "deploy_key", "ssh_key", "webhook_secret",
)  # fmt: skip
_TOKENS: Final = ("token", "tokens", "auth", "authorization", "bearer", "jwt", "cookie", "session", "authtoken",
                  "accesstoken", "connection_string", "dsn")  # fmt: skip
_HARMLESS_TOKENS: Final = frozenset(
    "page next continuation cursor sync idempotency pad eos bos unk mask cls sep special num max min"
    " count per public csrf image prompt completion total stop start end".split()
)


@lru_cache(maxsize=4096)
def _class_of(key: str) -> str | None:
    """What a value under this key is, if it is one: the key's last words decide."""
    words = [word for word in _NOT_ALNUM.split(_CAMEL.sub("_", key).lower()) if word]
    while words and (words[-1] in _TAILS or words[-1].isdigit()):
        words.pop()
    spelled = "_" + "_".join(words)
    if spelled.endswith(tuple("_" + word for word in _PASSWORDS)) or spelled.endswith("password"):
        return "a password"
    if spelled.endswith(tuple("_" + word for word in _SECRETS)):
        return "a secret key"
    if spelled.endswith(tuple("_" + word for word in _TOKENS)) and not _HARMLESS_TOKENS & set(
        words
    ):
        return "a token"
    return None


def _named_secret(key: str, value: str) -> str | None:
    """What `value` looks like under `key`, or None."""
    kind = _class_of(key)
    if kind is None or _is_harmless(value):
        return None
    if kind == "a token" and not any(_is_random(part) for part in re.split(r"[\s,;]+", value)):
        return None
    return kind


_SETTINGS: Final = frozenset(
    "none null true false yes no on off required optional enabled disabled unset empty default prompt"
    " redacted [redacted] (redacted) hidden masked removed rotated expired string str n/a na unknown"
    " env environment file vault keyring interactive basic oauth oauth2 oidc iam bearer kerberos ldap"
    " changed unchanged present absent missing set".split()
)
_REFERENCE = re.compile(
    r"(?i)(?:redacted|vault|env|file|keyring|ssm|op|aws-sm|gcp-sm|azure-kv|azure-keyvault|k8s|sops|ref"
    r"|secret|secrets|kms|doppler|akv):.*"
    r"|arn:aws[a-z-]*:(?:secretsmanager|ssm|kms):.*"
    r"|projects/[^/]+/secrets/.*"
    r"|https://[^/]+\.vault\.azure\.net/.*"
    r"|[a-z0-9+._-]+:[0-9a-f]{32,}"  # a digest
    r"|\$\{.*\}|\$\(.*\)|\{\{.*\}\}|\{[\w.]*\}|<.*>|%\(\w+\)s|%\w+%|\$[A-Za-z_]\w*|\[.*\]"
    r"|(.)\1*"  # *****, xxxxx
    r"|\.\.\.|…",
    re.DOTALL,
)
_PATH = re.compile(r"(?:[A-Za-z]:[\\/]|~/|\.{0,2}/)[^\s]*")
_MIN_SECRET = 4


def _is_harmless(value: str) -> bool:
    """A reference, a digest, a placeholder, a setting, a path, or too short to be a secret."""
    text = value.strip().strip("\"'")
    if len(text) < _MIN_SECRET or text.lower() in _SETTINGS or _REFERENCE.fullmatch(text):
        return True
    return bool(_PATH.fullmatch(text)) and not any(
        _is_random(part) for part in re.split(r"[\\/]", text)
    )


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_.~!@#$%^&*-]{16,4096}")
_MIN_BITS = 3.2


def _is_random(text: str) -> bool:
    """Whether the text looks made by a generator: long, without words, many different signs."""
    if _UUID.fullmatch(text) or not _OPAQUE.fullmatch(text):
        return False
    if _HEX.fullmatch(text):
        return _bits_per_sign(text) >= 2.5
    kinds = sum(bool(re.search(kind, text)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return kinds == 3 and _bits_per_sign(text) >= _MIN_BITS


def _bits_per_sign(text: str) -> float:
    """Shannon entropy of the signs of the text, in bits."""
    length = len(text)
    return -sum(n / length * math.log2(n / length) for n in Counter(text).values())


# ------------------------------------------------------------------------------ 4. assignments

_EQUALS = re.compile(
    r"(?<![\w.-])([A-Za-z_][\w.-]{1,80})[\"']?\s*(?::=|=|:)\s*[\"']?([^\s\"',;&)}\]]{6,})"
)
_OPTION = re.compile(r"(?<!\S)--([A-Za-z][\w-]{1,60})\s+[\"']?([^\s\"'-][^\s\"']{5,})")


def _assignment_in(text: str) -> str | None:
    """What a text assigns: ``password=…``, ``AccountKey=…;``, ``--token …``."""
    for key, value in _assignments(text):
        kind = _class_of(key)
        if kind is None or _is_harmless(value):
            continue
        if _is_random(value) or (kind != "a token" and _is_mixed(value)):
            return f"{kind} in text"
    return None


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for pattern in (_EQUALS, _OPTION):
        yield from ((match[1], match[2]) for match in pattern.finditer(text))


def _is_mixed(text: str) -> bool:
    """Letters with digits or signs among them, as passwords have and words have not."""
    return bool(re.search("[A-Za-z]", text)) and bool(re.search(r"[0-9!#$%^&*+=~]", text))
