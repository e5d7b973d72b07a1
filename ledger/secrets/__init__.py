"""Secrets in what is captured: found before they are stored, because what is stored stays for ever.

::

    refuse_secrets({"db_password": "hunter2!"})
    MalformedError: /db_password: looks like a password; … store a reference to it, or its digest

A value counts as a secret

1. if it holds a well-known shape: a private key, a token of a known service, a URL with a password;
2. if its key names a secret (password, client_secret, api_key, …) and it is not a reference, a
   digest, a placeholder, a setting or a path;
3. if its key may name a secret (token, auth, …) and it looks random;
4. if it is text that assigns one: ``password=…``, ``--token …``, ``Authorization: Bearer …``.

Nothing else is suspected, however random it looks: digests, commit ids and checksums are what a
ledger is made of. One compiled pattern over the whole payload decides in about a microsecond that
there is nothing to look at; only otherwise each value is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import SchemaValidator, core_schema

from ledger.errors import MalformedError
from ledger.secrets.keys import KEY_HINTS, PASSWORD, TOKEN, class_of_key
from ledger.secrets.shapes import SHAPE_HINTS, assignments_in, shape_in
from ledger.secrets.values import is_harmless, is_mixed, is_random

__all__ = ["Secret", "find_secrets", "may_hold_secrets", "refuse_secrets", "scrub_secrets"]


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret seems to be, and what it looks like. It does not hold the value."""

    pointer: str
    looks_like: str


_first_look: Final = SchemaValidator(
    core_schema.str_schema(pattern=f"(?i-u:{KEY_HINTS})|{SHAPE_HINTS}")
).isinstance_python


def may_hold_secrets(payload: bytes | str) -> bool:
    """False: there is none. True: `find_secrets` has to look. About 1 µs for 400 bytes."""
    return _first_look(payload if isinstance(payload, str) else payload.decode())


def refuse_secrets(data: Mapping[str, Any]) -> None:
    """Raises MalformedError with a pointer if `data` holds a secret."""
    for secret in find_secrets(data):
        raise MalformedError(
            f"looks like {secret.looks_like}; a ledger never forgets: store a reference to it"
            " (vault:…, env:NAME) or its digest (sha256:…) instead",
            where=secret.pointer,
        )


def find_secrets(data: Any, pointer: str = "", key: str = "") -> Iterator[Secret]:
    """Every place in `data` that seems to hold a secret, in order; `key` is the place's name."""
    if isinstance(data, Mapping):
        yield from _find_in_members(data, pointer, key)
    elif isinstance(data, (list, tuple)):
        for i, item in enumerate(data):
            yield from find_secrets(item, f"{pointer}/{i}", key)
    elif isinstance(data, str):
        looks_like = _secret_in(data) or _secret_under(key, data)
        if looks_like:
            yield Secret(pointer, looks_like)
    elif type(data) is int and data > 999 and class_of_key(key) == PASSWORD:
        yield Secret(pointer, PASSWORD)


def scrub_secrets(data: Any, key: bytes) -> tuple[Any, list[Secret]]:
    """`data` with each secret replaced by ``redacted:<HMAC-SHA256>``, and what was replaced.

    Under one `key` equal secrets get equal marks, so that "it did not change" can still be shown.
    A member whose name is itself a secret is dropped.
    """
    found = list(find_secrets(data))
    return _scrubbed(data, "", {secret.pointer for secret in found}, key), found


def _scrubbed(value: Any, pointer: str, places: set[str], key: bytes) -> Any:
    if pointer in places:
        return "redacted:" + hmac.digest(key, str(value).encode(), "sha256").hex()
    if isinstance(value, Mapping):
        return {
            name: _scrubbed(member, f"{pointer}/{_escaped(name)}", places, key)
            for name, member in value.items()
            if not _secret_in(name)
        }
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, f"{pointer}/{i}", places, key) for i, item in enumerate(value)]
    return value


_NAME_MEMBERS: Final = ("name", "key", "Name", "Key")
_VALUE_MEMBERS: Final = ("value", "Value")


def _find_in_members(members: Mapping[Any, Any], pointer: str, parent: str) -> Iterator[Secret]:
    """The members' secrets. A `value` goes by what its neighbour `name` says, or its parent.

    So ``{"name": "DB_PASSWORD", "value": …}`` counts, and ``{"password": {"value": …}}``.
    """
    named = next((members[n] for n in _NAME_MEMBERS if isinstance(members.get(n), str)), parent)
    for name, member in members.items():
        place = f"{pointer}/{_escaped(name)}"
        if looks_like := _secret_in(name):
            yield Secret(place, f"{looks_like} as the name of a member")
        yield from find_secrets(member, place, named if name in _VALUE_MEMBERS else name)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _secret_in(text: str) -> str | None:
    """What the text holds wherever it stands: a shape, or an assignment."""
    return (shape_in(text) or _assigned_in(text)) if _first_look(text) else None


def _assigned_in(text: str) -> str | None:
    for key, value in assignments_in(text):
        kind = class_of_key(key)
        if kind is None or is_harmless(value):
            continue
        if is_random(value) or (kind != TOKEN and is_mixed(value)):
            return f"{kind} in text"
    return None


def _secret_under(key: str, value: str) -> str | None:
    """What the value is because of its key."""
    kind = class_of_key(key)
    if kind is None or is_harmless(value):
        return None
    if kind == TOKEN and not any(is_random(word) for word in value.split()):
        return None
    return kind
