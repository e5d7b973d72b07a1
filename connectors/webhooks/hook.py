"""What every system's webhook is made of: a proof, an id, and a translation."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.arriving import Recording, mark_of, name_text, whole_or_digest
from ledger.canonical import parse_json_object
from ledger.errors import MalformedError, RefusedError

__all__ = [
    "Delivery",
    "Hook",
    "body_id",
    "fresh",
    "observation",
    "proved_by_hmac",
    "proved_by_token",
    "read_members",
    "read_object",
    "verify_bearer",
]

TOLERANCE_SECONDS: Final = 300

Headers = Mapping[str, str]
"""Names in lower case."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery that has proved who sent it: its id, by which it is known when it comes
    again.
    """

    id: str


@dataclass(frozen=True, slots=True)
class Hook:
    """A system: `verify` raises RefusedError, `translate` MalformedError."""

    verify: Callable[[Headers, bytes, Sequence[str], int], Delivery]
    translate: Callable[[Headers, bytes], list[Recording]]
    greet: Callable[[Headers, bytes], dict[str, str] | None] = lambda headers, body: None
    """The answer to a handshake; None where the delivery is none. Called once it is proved."""


def verify_bearer(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    """The verification of systems that sign nothing: a token that never changes, and an id by what
    was sent. Raises RefusedError.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    proved_by_token(given.strip() if scheme.lower() == "bearer" else "", secrets)
    return Delivery(body_id(body))


def proved_by_hmac(
    given: str, message: bytes, secrets: Sequence[str], *, digest: str = "sha256"
) -> None:
    """Whether `given` is the HMAC of the message under one of the secrets, in hex or base64. Every
    secret is tried, so that the time tells nothing. Raises RefusedError.
    """
    good = False
    for secret in secrets:
        made = hmac.new(secret.encode(), message, digest).digest()
        for form in (made.hex(), base64.b64encode(made).decode()):
            good |= hmac.compare_digest(form.encode(), given.encode("utf-8", "replace"))
    if not good:
        raise RefusedError("the signature is missing or not that of a known secret")


def proved_by_token(given: str, secrets: Sequence[str]) -> None:
    """Whether `given` is one of the secrets. Raises RefusedError."""
    good = False
    for secret in secrets:
        good |= hmac.compare_digest(secret.encode(), given.encode("utf-8", "replace"))
    if not good:
        raise RefusedError("the token is missing or none that is known")


def fresh(timestamp: str, now: int) -> None:
    """Whether a signed time (seconds) is within five minutes of now. Raises RefusedError."""
    if not timestamp.isdecimal() or len(timestamp) > 12:
        raise RefusedError("the signed time is missing")
    if abs(int(timestamp) - now // 1_000_000) > TOLERANCE_SECONDS:
        raise RefusedError("the signed time is more than five minutes off: a replay, or a clock")


def observation(system: str, target: str, body: Mapping[str, Any], key: str) -> Recording:
    """What a system says, kept whole. `key` is the sender's own: its delivery's id, or the digest
    of what it sent.
    """
    named = name_text(target)
    told = {
        "type": "observation.recorded/1",
        "stream": f"observed/{system}/{named}",
        "data": {
            "system": system,
            "target": named,
            "observed": [{"details": whole_or_digest(body)}],
            "differs_from_declared": False,
        },
    }
    return Recording(key=f"{system}/{mark_of(key)}", events=[told], of_sender=True)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a delivery, strict. Raises MalformedError."""
    return parse_json_object(body, max_bytes=max(len(body), 1))


def read_members(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list. Raises MalformedError."""
    found = told.get(name)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise MalformedError("must be a list of objects", where=f"/{name}")
    return found


def body_id(body: bytes) -> str:
    """An id for systems that give none: the digest of what they sent."""
    return hashlib.sha256(body).hexdigest()[:40]
