"""Kubernetes: the audit webhook, with the bearer token (or behind the client certificate) of its
kubeconfig; Kubernetes sends it over TLS only.

::

    users: [{name: asof, user: {token: …}}]
    clusters: [{name: asof, cluster: {server: "https://…/ingest/kubernetes"}}]

Each event of the list is an observation of the object that it is about, known by audit id and
stage. What an audit says of the content of a Secret stays out, and so does whatever else looks like
a secret: the policy of the cluster should not send it (`level: Metadata` for secrets).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from connectors.arriving import Recording, name_text
from connectors.webhooks.hook import (
    Headers,
    Hook,
    observation,
    read_members,
    read_object,
    verify_bearer,
)
from ledger.secrets import scrub_secrets

__all__ = ["KUBERNETES"]

SYSTEM: Final = "kubernetes"
CONTENT: Final = ("requestObject", "responseObject")

# Equal secrets get equal marks while this process lives; nobody can try guesses against them later.
_MARKS: Final = os.urandom(32)


def _translate(headers: Headers, body: bytes) -> list[Recording]:
    return [_event(item) for item in read_members(read_object(body), "items")]


def _event(told: Mapping[str, Any]) -> Recording:
    about = told.get("objectRef")
    about = about if isinstance(about, Mapping) else {}
    kept = dict(told)
    if about.get("resource") == "secrets":
        for name in CONTENT:
            if name in kept:
                kept[name] = {"left_out": "the content of a Secret"}
    parts = [str(about[name]) for name in ("namespace", "resource", "name") if about.get(name)]
    target = name_text("/".join(parts) or told.get("requestURI"))
    key = f"{told.get('auditID')} {told.get('stage')}"
    scrubbed, _ = scrub_secrets(kept, _MARKS)
    return observation(SYSTEM, target, scrubbed, key)


KUBERNETES: Final = Hook(verify_bearer, _translate)
