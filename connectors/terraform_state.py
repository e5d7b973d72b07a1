"""Terraform and OpenTofu as a state backend sees them: what happened to a state, in our words.

::

    translate(headers, body)        # recordings of one fact of the backend

A state that was kept is a version of `infrastructure/terraform/<state>`: its digest, serial,
lineage, the number of resources, and no value of it. A lock is an apply (a plan, …) that has begun
and who said so; an unlock that it has ended, and how many versions came of it; these, a deletion
and a state that was sent without the lock are observations of the backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.arriving import Envelope, Recording, mark_of, member, name_text, version_text
from ledger.canonical import parse_json_object
from ledger.errors import MalformedError
from ledger.secrets import find_secrets

__all__ = ["translate"]

SYSTEM: Final = "terraform"
SAID: Final = {"ID": "id", "Operation": "operation", "Version": "version", "Created": "created"}
MOST_SAID: Final = 200
TOLD: Final = ("serial", "lineage", "terraform_version", "resources", "under_lock")


def translate(headers: Mapping[str, str], body: bytes) -> list[Recording]:
    """The recordings of a fact. Raises MalformedError for what the backend does not tell."""
    told = parse_json_object(body, max_bytes=max(len(body), 1))
    if told.get("fact") == "state":
        return [_kept(told)]
    if told.get("fact") in ("lock", "unlock", "delete", "refused"):
        return [_observed(told, str(told["fact"]))]
    raise MalformedError("is no fact of the state backend", where="/fact")


def _kept(told: Mapping[str, Any]) -> Recording:
    """Known by lineage, serial and digest. What comes to hold again (a state that was pushed back)
    is an observation of the version that there is."""
    name, version = f"{SYSTEM}/{_name(told)}", version_text(told.get("version"))
    data: dict[str, Any] = {
        "kind": "infrastructure",
        "name": name,
        "version": version,
        "digest": told.get("digest"),
        "size": told.get("size"),
        "restorable": "verify_only",
        "restorable_because": "putting a state back changes nothing that was built: apply the "
        "configuration of that time",
        "metadata": {key: told.get(key) for key in TOLD} | {"lock": _lock(told)},
        "source": _source(told, f"{_name(told)} {version}"),
        "effective_at": told.get("at"),
    }
    again = {
        "asset_version": f"infrastructure/{name}@{version}",
        "digest": told.get("digest"),
    }
    return Recording(
        key=f"{SYSTEM}/{mark_of(name, told.get('lineage'), told.get('serial'), data['digest'])}",
        events=[{"type": "asset.version.recorded/1", "data": data}],
        otherwise=_observed(told, "again", **again),
    )


def _observed(told: Mapping[str, Any], what: str, **more: Any) -> Recording:
    details: dict[str, Any] = {"event": what, "lock": _lock(told)}
    details |= {key: told[key] for key in (*TOLD, "held_by", "forced", "versions") if key in told}
    seen: dict[str, Any] = {"details": details, **more}
    if what == "refused":
        seen["digest"] = told.get("digest")
    event: Envelope = {
        "type": "observation.recorded/1",
        "stream": f"observed/{SYSTEM}/{_name(told)}",
        "data": {
            "system": SYSTEM,
            "target": _name(told),
            "observed": [seen],
            "differs_from_declared": what == "refused",
            "effective_at": told.get("at"),
            "source": _source(told, _name(told)),
        },
    }
    return Recording(key=f"{SYSTEM}/{mark_of(what, told.get('mark'))}", events=[event])


def _name(told: Mapping[str, Any]) -> str:
    return version_text(told.get("state"))


def _lock(told: Mapping[str, Any]) -> dict[str, str] | None:
    """What its holder said of it, without the free texts."""
    if told.get("lock") is None:
        return None
    lock = member(told, "lock", "")
    return {ours: _said(lock[theirs]) for theirs, ours in SAID.items() if lock.get(theirs)}


def _source(told: Mapping[str, Any], ref: str) -> dict[str, Any]:
    """Who it was is what Terraform says of itself: `user@host`, and nobody has looked. Whoever
    takes a lock away, or sends a state without it, is not who holds it."""
    source: dict[str, Any] = {"system": SYSTEM, "ref": ref}
    who = member(told, "lock", "").get("Who")
    other = told.get("fact") == "refused" or told.get("forced") is True
    if isinstance(who, str) and who.strip() and not other:
        source |= {"claimed_actor": _said(who), "authenticated_by": "none"}
    return source


def _said(text: object) -> str:
    """A short text of the sender. One that looks like a secret would keep the fact out."""
    found = name_text(text)[:MOST_SAID].strip()
    return "withheld: it looks like a secret" if any(find_secrets({"said": found})) else found
