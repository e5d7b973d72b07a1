"""What is told of a state and of a lock: who, what kind, how much; never a value of the state.

::

    told = told_of(body)               # serial, lineage, terraform_version, digest, size, resources
    lock = parse_lock(body)            # Terraform's LockInfo: ID, Operation, Who, …

A state is read as leniently as can be: it says what has been built already, so that there is
nothing left to refuse. What cannot be told safely (a lineage that is no name, a version that looks
like a secret) is left out. A lock is asked for before anything happens, and is read strictly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from ledger.canonical import parse_json_object
from ledger.errors import MalformedError
from ledger.secrets import find_secrets

__all__ = ["MOST_LOCK_BYTES", "Lock", "StateTold", "parse_lock", "safe", "stream_of", "told_of"]

MOST_LOCK_BYTES: Final = 64 << 10
MOST_ID: Final = 200
MOST_MEMBER: Final = 4_000
SAFE_SERIAL: Final = 2**53 - 1
DIGEST_DIGITS: Final = 16
MEMBERS: Final = ("Operation", "Info", "Who", "Version", "Created", "Path")

_ID: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class StateTold:
    """What the ledger may know of a state. None: the state does not say, or not safely."""

    serial: int | None
    lineage: str | None
    terraform_version: str | None
    resources: int | None
    digest: str
    size: int

    @property
    def version(self) -> str:
        """The version's name: serial and the beginning of the digest, which two states of one
        serial do not share."""
        begun = "unnumbered" if self.serial is None else str(self.serial)
        return f"{begun}-{self.digest[:DIGEST_DIGITS]}"


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock: its id, and whatever else its holder says of it."""

    id: str
    members: dict[str, str]

    def as_terraform(self) -> dict[str, str]:
        """As it was given; with all of it Terraform can say who holds the lock."""
        return {"ID": self.id, **self.members}


def told_of(body: bytes) -> StateTold:
    """What is told of a state. Raises MalformedError where it is no JSON object: the next `GET`
    would give Terraform something that it cannot read.
    """
    state = _parsed(body)
    if not isinstance(state, dict):
        raise MalformedError("a state is a JSON object in UTF-8", where="/")
    serial = state.get("serial")
    return StateTold(
        serial=serial if type(serial) is int and 0 <= serial <= SAFE_SERIAL else None,
        lineage=safe(state.get("lineage")),
        terraform_version=safe(state.get("terraform_version")),
        resources=_resources(state.get("resources")),
        digest=sha256(body).hexdigest(),
        size=len(body),
    )


def stream_of(state: str) -> str:
    """Where the ledger has the versions of a state (`connectors.terraform_state`)."""
    return f"asset/infrastructure/terraform/{state}"


def parse_lock(body: bytes) -> Lock:
    """The lock that a body asks for, or gives back. Raises MalformedError with the place."""
    given = parse_json_object(body, max_bytes=MOST_LOCK_BYTES)
    lock_id = given.get("ID")
    if not isinstance(lock_id, str) or not _ID.fullmatch(lock_id):
        raise MalformedError(f"must be 1 to {MOST_ID} visible ASCII characters", where="/ID")
    members: dict[str, str] = {}
    for name in MEMBERS:
        value = given.get(name, "")
        if not isinstance(value, str) or len(value) > MOST_MEMBER:
            raise MalformedError(
                f"must be a text of at most {MOST_MEMBER} characters", where=f"/{name}"
            )
        members[name] = value
    if not _TIME.fullmatch(members["Created"]):
        del members["Created"]  # Go reads no lock at all with a time that is none
    return Lock(lock_id, members)


def safe(value: object) -> str | None:
    """A short name that may stand in the ledger; None for anything else, or what looks like a
    secret."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        return None
    return None if any(find_secrets({"told": value})) else value


def _parsed(body: bytes) -> Any:
    """What the body is as JSON; None for what is none. What the fast reader does not take (a number
    that is larger than any float) the other one does, ten times as slowly."""
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        return json.loads(body.decode("utf-8"), parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def _whole(digits: str) -> int | str:
    """Attributes hold numbers of any length; what is longer than a serial stays text."""
    return int(digits) if len(digits) <= len(str(SAFE_SERIAL)) else digits


def _resources(value: object) -> int | None:
    """How many resources the state manages, each instance counted; None where it does not say, as
    one that OpenTofu encrypted."""
    if not isinstance(value, list):
        return None
    return sum(_instances(one) for one in value)


def _instances(resource: Any) -> int:
    if not isinstance(resource, dict) or resource.get("mode") == "data":
        return 0
    instances = resource.get("instances")
    return len(instances) if isinstance(instances, list) else 0
