"""Secrets that are known by their looks, whatever the place is called.

Each shape has a hint, a pattern that a compiled search over a whole payload can look for, and the
full pattern. No pattern may take more than linear time on hostile text: a run of signs is entered
only where it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ledger.secrets.values import is_harmless, is_random

__all__ = ["SHAPE_HINTS", "assignments_in", "shape_in"]


class _Shape(NamedTuple):
    looks_like: str
    hint: str
    pattern: str


_SHAPES: Final = (
    _Shape("a private key", "-----BEGIN ", r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"),
    _Shape("an age key", "AGE-SECRET", r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    _Shape(
        "an AWS access key",
        "AKIA|ASIA|ABIA|ACCA",
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    ),
    _Shape("a GitHub token", "gh[pousr]_", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    _Shape("a GitHub token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    _Shape("a GitLab token", "gl(?:pat|ptt|dt|rt)-", r"\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{20,}"),
    _Shape("a Grafana token", "glsa_", r"\bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
    _Shape("a Slack token", "xox[abeprs]-", r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"),
    _Shape(
        "a Slack webhook",
        "hooks[.]slack[.]com/",
        r"hooks\.slack\.com/services/T\w{1,20}/B\w{1,20}/\w{20,}",
    ),
    _Shape("a Stripe key", "[sr]k_(?:live|test)_", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _Shape("a Google API key", "AIza", r"\bAIza[\w-]{35}(?![\w-])"),
    _Shape("a Google token", "ya29[.]|GOCSPX-", r"\b(?:ya29\.|GOCSPX-)[\w-]{20,}"),
    _Shape("an npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _Shape("a PyPI token", "pypi-AgE", r"\bpypi-AgE[\w-]{16,}"),
    _Shape("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{30,}\b"),
    _Shape("a SendGrid key", "SG[.]", r"\bSG\.[\w-]{20,24}\.[\w-]{39,50}"),
    _Shape("a Twilio key", "SK[0-9a-f]{4}", r"\bSK[0-9a-f]{32}\b"),
    _Shape("a Mailgun key", "key-[0-9a-f]{4}", r"\bkey-[0-9a-f]{32}\b"),
    _Shape("a DigitalOcean token", "do[pro]_v1_", r"\bdo[pro]_v1_[0-9a-f]{64}\b"),
    _Shape("a Databricks token", "dapi[0-9a-f]", r"\bdapi[0-9a-f]{32}\b"),
    _Shape("a Vault token", "hv[sb][.]", r"\bhv[sb]\.[\w-]{24,}"),
    _Shape("a Docker token", "dckr_pat_", r"\bdckr_pat_[\w-]{20,}"),
    _Shape("a Square token", "sq0(?:atp|csp)-", r"\bsq0(?:atp|csp)-[\w-]{22,}"),
    _Shape("a Shopify token", "shp(?:at|ss|ca)_", r"\bshp(?:at|ss|ca)_[0-9a-fA-F]{32}\b"),
    _Shape("a Telegram token", ":AA", r"\b\d{8,10}:AA[\w-]{33}\b"),
    _Shape("an NVIDIA key", "nvapi-", r"\bnvapi-[\w-]{40,}"),
    _Shape("a Replicate token", "r8_", r"\br8_[A-Za-z0-9]{37}\b"),
    _Shape("a Postman key", "PMAK-", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b"),
    _Shape("a Notion token", "ntn_", r"\bntn_[A-Za-z0-9]{40,}"),
    _Shape("a Linear key", "lin_api_", r"\blin_api_[A-Za-z0-9]{40}\b"),
    _Shape("a key of asof", "lg_[a-z]+_", r"\blg_[a-z]+_[A-Za-z0-9]+_[A-Za-z0-9]{32,}"),
    _Shape("a signed token (JWT)", "eyJ", r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    _Shape(
        "a signed URL",
        "[?&](?:sig|X-Amz-Signature|X-Goog-Signature)=",
        r"[?&](?:sig|X-Amz-Signature|X-Goog-Signature)=[\w%+/=-]{20,}",
    ),
)
_RANDOM_SHAPES: Final = (  # the part in parentheses must look random, too
    _Shape(
        "an API key",
        "sk-",
        r"(?<![\w-])sk-(?:ant-|proj-|svcacct-|admin-|or-)?([\w-]{20,})",
    ),
    _Shape(
        "a credential in a header",
        "(?i-u:bearer|basic) ",
        r"(?i)\b(?:bearer|basic) +([\w.~+/=-]{16,})",
    ),
)
_URL_PASSWORD: Final = _Shape(
    "a URL with a password",
    '://[^/\\s:"@]*:[^/\\s"@]+@',
    r"://[^/\s:@\"']*:([^/\s@\"']+)@",
)

SHAPE_HINTS: Final = "|".join(shape.hint for shape in (*_SHAPES, *_RANDOM_SHAPES, _URL_PASSWORD))
"""A pattern that finds every text in which `shape_in` finds something."""

_KNOWN = tuple((shape.looks_like, re.compile(shape.pattern, re.ASCII)) for shape in _SHAPES)
_KNOWN_RANDOM = tuple((s.looks_like, re.compile(s.pattern, re.ASCII)) for s in _RANDOM_SHAPES)
_IN_URL = re.compile(_URL_PASSWORD.pattern)


def shape_in(text: str) -> str | None:
    """What the text holds that is known by its looks, or None."""
    for looks_like, pattern in _KNOWN:
        if pattern.search(text):
            return looks_like
    for looks_like, pattern in _KNOWN_RANDOM:
        if any(is_random(match[1]) for match in pattern.finditer(text)):
            return looks_like
    if any(not is_harmless(match[1]) for match in _IN_URL.finditer(text)):
        return _URL_PASSWORD.looks_like
    return None


_EQUALS = re.compile(
    r"(?<![\w.-])([A-Za-z_-][\w.-]{1,80})[\"']?[ \t]{0,8}(?::=|=|:)[ \t]{0,8}[\"']?"
    r"([^\s\"',;)}\]]{6,})"
)
_OPTION = re.compile(r"(?<!\S)--([A-Za-z][\w-]{1,60})[ \t]{1,8}[\"']?([^\s\"'-][^\s\"']{5,})")


def assignments_in(text: str) -> Iterator[tuple[str, str]]:
    """Name and value wherever the text seems to assign one: ``a=b``, ``a: b``, ``--a b``."""
    for pattern in (_EQUALS, _OPTION):
        yield from ((match[1], match[2]) for match in pattern.finditer(text))
