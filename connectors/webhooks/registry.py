"""Container registries (Docker Distribution): notifications of pushes, with a static bearer token.

::

    notifications:
      endpoints:
        - {name: asof, url: "https://…/ingest/registry", headers: {Authorization: ["Bearer …"]},
           ignore: {mediatypes: [application/octet-stream], actions: [pull]}}

An envelope holds events that have nothing to do with each other; each is known by its own id. The
push of a manifest is a version of `image/<host>/<repository>` by its digest; whatever else is sent
is kept as it is. A registry signs nothing, promises no order, and without authentication of its own
it names no actor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from connectors.arriving import Recording, instant, mark_of, name_text
from connectors.webhooks.hook import (
    Headers,
    Hook,
    observation,
    read_members,
    read_object,
    verify_bearer,
)

__all__ = ["REGISTRY"]

SYSTEM: Final = "registry"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_MANIFEST: Final = re.compile(r"application/vnd\.[a-z.]*(?:manifest|index)[a-z.]*\.v\d(?:\+json)?")


def _translate(headers: Headers, body: bytes) -> list[Recording]:
    events = read_members(read_object(body), "events")
    return [_event(event, f"/events/{place}") for place, event in enumerate(events)]


def _event(told: Mapping[str, Any], where: str) -> Recording:
    target, request = _part(told, "target"), _part(told, "request")
    host, repository = name_text(request.get("host"), SYSTEM), name_text(target.get("repository"))
    name = name_text(f"{host}/{repository}")
    digest = _DIGEST.fullmatch(str(target.get("digest")))
    is_manifest = _MANIFEST.fullmatch(str(target.get("mediaType"))) is not None
    known = told.get("id")
    key = str(known) if isinstance(known, str) and known else mark_of(told)
    if told.get("action") != "push" or digest is None or not is_manifest:
        return observation(SYSTEM, name, told, key)
    data: dict[str, Any] = {
        "kind": "image",
        "name": name.replace("@", "_"),
        "version": digest[1],
        "digest": digest[0],
        "location": f"docker://{name}@{digest[0]}",
        "restorable": "recreatable",
        "restorable_because": "the registry has the manifest until it collects garbage",
        "metadata": {"tag": target.get("tag"), "media_type": target["mediaType"]},
        "source": {"system": SYSTEM, "ref": name_text(key)},
    }
    if told.get("timestamp") is not None:
        data["effective_at"] = instant(told["timestamp"], f"{where}/timestamp")
    actor = _part(told, "actor").get("name")
    if isinstance(actor, str) and actor.strip():
        data["source"] |= {"claimed_actor": actor[:200], "authenticated_by": "webhook"}
    return Recording(
        key=f"{SYSTEM}/{mark_of(key)}",
        events=[{"type": "asset.version.recorded/1", "data": data}],
        of_sender=True,
    )


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, Mapping) else {}


REGISTRY: Final = Hook(verify_bearer, _translate)
