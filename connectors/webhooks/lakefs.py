"""lakeFS: actions that post what happened to a repository, with a static bearer token.

::

    hooks: [{id: asof, type: webhook, properties: {url: "https://…/ingest/lakefs",
             headers: {Authorization: "Bearer {{ ENV.LAKEFSACTION_TOKEN }}"}}}]

A commit, merge, revert or cherry-pick that has happened is a version of the repository's data; what
else is sent is kept as it is. lakeFS signs nothing and sends each event once: a branch that was
reset is not told at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from connectors.arriving import Recording, instant, mark_of, name_text, version_text
from connectors.webhooks.hook import (
    Headers,
    Hook,
    body_id,
    observation,
    read_object,
    verify_bearer,
)

__all__ = ["LAKEFS"]

SYSTEM: Final = "lakefs"
COMMITTED: Final = ("post-commit", "post-merge", "post-revert", "post-cherry-pick")
_COMMIT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def _translate(headers: Headers, body: bytes) -> list[Recording]:
    told = read_object(body)
    commit, event = told.get("commit_id"), told.get("event_type")
    if event in COMMITTED and isinstance(commit, str) and _COMMIT.fullmatch(commit):
        return [_committed(told, commit)]
    return [observation(SYSTEM, name_text(told.get("repository_id")), told, body_id(body))]


def _committed(told: Mapping[str, Any], commit: str) -> Recording:
    repository, branch = version_text(told.get("repository_id")), told.get("branch_id")
    data: dict[str, Any] = {
        "kind": "dataset",
        "name": f"{SYSTEM}/{repository}",
        "version": commit,
        "digest": f"sha256:{commit}",
        "restorable": "recreatable",
        "restorable_because": "the repository has the commit until it collects garbage",
        "metadata": {
            "digest_of": "the commit, as lakeFS gives it",
            "branch": branch,
            "event": told["event_type"],
            "message": told.get("commit_message"),
            "commit": told.get("commit_metadata"),
        },
        "source": {"system": SYSTEM, "ref": f"{repository} {branch} {commit}"},
    }
    if told.get("event_time") is not None:
        data["effective_at"] = instant(told["event_time"], "/event_time")
    committer = told.get("committer")
    if isinstance(committer, str) and committer.strip():
        data["source"] |= {"claimed_actor": committer[:200], "authenticated_by": "webhook"}
    key = f"{SYSTEM}/{mark_of(repository, told['event_type'], branch, commit)}"
    return Recording(key=key, events=[{"type": "asset.version.recorded/1", "data": data}])


LAKEFS: Final = Hook(verify_bearer, _translate)
