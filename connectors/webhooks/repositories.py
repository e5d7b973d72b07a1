"""Pushes to hosted git repositories: GitHub, GitLab, Gitea and Forgejo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from connectors.arriving import Recording, mark_of, name_text, version_text
from connectors.webhooks.hook import (
    Delivery,
    Headers,
    Hook,
    body_id,
    observation,
    proved_by_hmac,
    proved_by_token,
    read_object,
)

__all__ = ["GITEA", "GITHUB", "GITLAB"]

ZERO: Final = "0"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)


def _verify_github(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    given = headers.get("x-hub-signature-256", "")
    proved_by_hmac(given.removeprefix("sha256="), body, secrets)
    return Delivery(headers.get("x-github-delivery") or body_id(body))


def _verify_gitea(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    given = headers.get("x-gitea-signature") or headers.get("x-forgejo-signature") or ""
    proved_by_hmac(given, body, secrets)
    return Delivery(
        headers.get("x-gitea-delivery") or headers.get("x-forgejo-delivery") or body_id(body)
    )


def _verify_gitlab(headers: Headers, body: bytes, secrets: Sequence[str], now: int) -> Delivery:
    proved_by_token(headers.get("x-gitlab-token", ""), secrets)
    return Delivery(headers.get("x-gitlab-event-uuid") or body_id(body))


def _translated(system: str, headers: Headers, body: bytes) -> list[Recording]:
    """A push is the version that a branch holds now; what else is sent is kept as it is."""
    told = read_object(body)
    repository = told.get("repository") or told.get("project") or {}
    place = repository if isinstance(repository, Mapping) else {}
    name = name_text(
        place.get("full_name") or place.get("path_with_namespace") or place.get("name")
    )
    after, ref = told.get("after"), told.get("ref")
    if isinstance(ref, str) and _is_commit(after):
        return [_pushed(system, name, place, told, after, ref)]
    return [observation(system, name, told, body_id(body))]


def _pushed(
    system: str,
    name: str,
    place: Mapping[str, Any],
    told: Mapping[str, Any],
    after: str,
    ref: str,
) -> Recording:
    commit = version_text(after)
    urls = (place.get(name) for name in ("clone_url", "git_http_url", "html_url"))
    location = next((url for url in urls if isinstance(url, str) and url), None)
    who = told.get("pusher") or told.get("sender") or {}
    login = who.get("login") or who.get("name") if isinstance(who, Mapping) else who
    login = login or told.get("user_username")  # GitLab's
    data: dict[str, Any] = {
        "kind": "code",
        "name": name.replace("@", "_"),
        "version": commit,
        "digest": f"sha1:{commit}" if len(commit) == 40 else f"sha256:{commit}",
        "restorable": "recreatable",
        "restorable_because": "the hosted repository has the commit",
        "metadata": {"ref": ref, "before": told.get("before"), "commits": _commits(told)},
        "source": {"system": system, "ref": f"{name} {ref} {commit}"},
    }
    if location is not None:
        data["location"] = location
    if isinstance(login, str) and login.strip():
        data["source"]["claimed_actor"] = login[:200]
        data["source"]["authenticated_by"] = "webhook"
    key = f"{system}/{mark_of(name, ref, told.get('before'), commit)}"
    return Recording(key=key, events=[{"type": "asset.version.recorded/1", "data": data}])


def _is_commit(after: object) -> TypeGuard[str]:
    """A branch that was deleted is told as zeros."""
    return isinstance(after, str) and bool(_COMMIT.fullmatch(after)) and after.strip(ZERO) != ""


def _commits(told: Mapping[str, Any]) -> list[Any]:
    found = told.get("commits")
    if not isinstance(found, list):
        return []
    return [one.get("id") for one in found[:100] if isinstance(one, Mapping)]


GITHUB: Final = Hook(_verify_github, lambda headers, body: _translated("github", headers, body))
GITEA: Final = Hook(_verify_gitea, lambda headers, body: _translated("gitea", headers, body))
GITLAB: Final = Hook(_verify_gitlab, lambda headers, body: _translated("gitlab", headers, body))
