"""OpenLineage (spec 2-0-2): runs, jobs and dataset versions as ours; every event is kept whole.

::

    translate({"eventType": "COMPLETE", "run": {"runId": …}, "job": {…}, "outputs": [{…}]})
    [Recording(key="openlineage/<runId>/started", …), Recording(key="openlineage/<runId>/finished",
    …)]

* The job is a pipeline, its namespace the stage; a dataset is `dataset/<namespace>/<name>`.
* START and RUNNING begin a run, once; COMPLETE, FAIL and ABORT end it, and begin it too where no
  beginning has arrived (`inferred`). What comes again with something new in it, or out of order,
  finds its key used and is kept as an observation.
* A dataset's version is its version facet's; without one an output is the version of its run, and
  an input is `unversioned`. OpenLineage carries no digest of content, so ours is that of the
  identity, and the metadata says so. A dataset event without a version is an observation.
* The original event lies in `source.details` of the entry that was made of it, or is observed: no
  facet is lost. Of one that is too large for an entry the digest is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from connectors.arriving import (
    Envelope,
    Recording,
    instant,
    member,
    name_text,
    version_text,
    whole_or_digest,
)
from ledger.canonical import format_json
from ledger.errors import MalformedError

__all__ = ["translate"]

SYSTEM: Final = "openlineage"
ENDS: Final = {"COMPLETE": "succeeded", "FAIL": "failed", "ABORT": "aborted"}
BEGINS: Final = ("START", "RUNNING")
OTHERS: Final = ("OTHER",)
MOST_DATASETS: Final = 500


def translate(event: Mapping[str, Any]) -> list[Recording]:
    """What an event says. Raises MalformedError with a pointer for what is no event."""
    at = instant(event.get("eventTime"), "/eventTime")
    if "run" in event:
        return list(_run(event, at))
    if "dataset" in event:
        dataset = member(event, "dataset", "")
        if _version_of(dataset) is None:
            return [_observed(event, _name_of(dataset), at)]
        return [_dataset(dataset, "/dataset", None, at, event)]
    if "job" in event:
        return [_observed(event, _job_of(event), at)]
    raise MalformedError("an event has a run, a dataset or a job")


def _run(event: Mapping[str, Any], at: str) -> Iterator[Recording]:
    kind = event.get("eventType", "OTHER")
    if kind not in (*BEGINS, *ENDS, *OTHERS):
        raise MalformedError(
            f"{str(kind)[:40]!r} is none of {', '.join((*BEGINS, *ENDS, *OTHERS))}",
            where="/eventType",
        )
    run_id = _run_id(event)
    inputs = _datasets(event, "inputs")
    outputs = _datasets(event, "outputs")
    for place, dataset in enumerate(inputs):
        if _version_of(dataset):
            yield _dataset(dataset, f"/inputs/{place}", None, at, None)
    if kind in OTHERS:
        yield _observed(event, _job_of(event), at)
        return
    yield _started(event, run_id, inputs, at, inferred=kind in ENDS)
    if kind not in ENDS:
        return
    for place, dataset in enumerate(outputs):
        yield _dataset(dataset, f"/outputs/{place}", run_id, at, None, parents=inputs)
    data: dict[str, Any] = {
        "run": run_id,
        "status": ENDS[str(kind)],
        "outputs": [_ref(dataset, run_id) for dataset in outputs],
        "effective_at": at,
        "source": _source(event, run_id),
    }
    message = member(
        member(member(event, "run", ""), "facets", "/run"), "errorMessage", "/run/facets"
    )
    if isinstance(message.get("message"), str) and message["message"].strip():
        data["reason"] = message["message"][:2_000]
    yield Recording(
        key=f"{SYSTEM}/{run_id}/finished",
        events=[{"type": "run.finished/1", "stream": f"run/{run_id}", "data": data}],
        otherwise=_observed(event, _job_of(event), at),
    )


def _started(
    event: Mapping[str, Any],
    run_id: str,
    inputs: list[Mapping[str, Any]],
    at: str,
    *,
    inferred: bool,
) -> Recording:
    job = member(event, "job", "")
    data: dict[str, Any] = {
        "run": run_id,
        "kind": "job",
        "pipeline": name_text(job.get("name"), "unnamed"),
        "stage": version_text(job.get("namespace"), "default"),
        "inputs": [_ref(dataset, None) for dataset in inputs],
        "effective_at": at,
    }
    if inferred:  # its end is all that has arrived: the end's own entry holds the original
        data["inferred"] = True
        data["source"] = {"system": SYSTEM, "ref": run_id}
    else:
        data["source"] = _source(event, run_id)
    return Recording(
        key=f"{SYSTEM}/{run_id}/started",
        events=[{"type": "run.started/1", "stream": f"run/{run_id}", "data": data}],
        otherwise=None if inferred else _observed(event, _job_of(event), at),
    )


def _dataset(
    dataset: Mapping[str, Any],
    where: str,
    run_id: str | None,
    at: str,
    event: Mapping[str, Any] | None,
    *,
    parents: list[Mapping[str, Any]] | None = None,
) -> Recording:
    if not isinstance(dataset, Mapping):
        raise MalformedError("must be an object", where=where)
    name, version = _name_of(dataset), _version(dataset, run_id)
    identity = format_json({"name": name, "version": version})
    data: dict[str, Any] = {
        "kind": "dataset",
        "name": name,
        "version": version,
        "digest": f"sha256:{hashlib.sha256(identity).hexdigest()}",
        "restorable": "verify_only",
        "restorable_because": "OpenLineage says which version it is, and not what it holds",
        "metadata": {
            "digest_of": "namespace, name and version",
            "facets": whole_or_digest(_facets(dataset)),
        },
        "source": _source(event, name) if event else {"system": SYSTEM, "ref": run_id or name},
        "effective_at": at,
    }
    if parents:
        data["parents"] = [_ref(one, None) for one in parents]
    return Recording(
        key=f"{SYSTEM}/dataset/{_short(identity)}",
        events=[{"type": "asset.version.recorded/1", "data": data}],
        otherwise=_observed(event, name, at) if event else None,
    )


def _observed(event: Mapping[str, Any], target: str, at: str) -> Recording:
    """An event that changes nothing of ours: kept as it is."""
    told: Envelope = {
        "type": "observation.recorded/1",
        "stream": f"observed/{SYSTEM}/{target}",
        "data": {
            "system": SYSTEM,
            "target": target,
            "observed": [{"details": whole_or_digest(event)}],
            "differs_from_declared": False,
            "effective_at": at,
        },
    }
    return Recording(key=f"{SYSTEM}/event/{_short(format_json(dict(event)))}", events=[told])


def _source(event: Mapping[str, Any], ref: str) -> dict[str, Any]:
    return {"system": SYSTEM, "ref": ref, "details": {"event": whole_or_digest(event)}}


def _job_of(event: Mapping[str, Any]) -> str:
    job = member(event, "job", "")
    return name_text(f"{name_text(job.get('namespace'), 'default')}/{name_text(job.get('name'))}")


def _run_id(event: Mapping[str, Any]) -> str:
    found = member(event, "run", "").get("runId")
    if not isinstance(found, str) or not found.strip():
        raise MalformedError("must be the id of the run", where="/run/runId")
    return version_text(found)


def _datasets(event: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = event.get(name) or []
    if not isinstance(found, list) or len(found) > MOST_DATASETS:
        raise MalformedError(f"must be a list of at most {MOST_DATASETS}", where=f"/{name}")
    for place, one in enumerate(found):
        if not isinstance(one, Mapping):
            raise MalformedError("must be an object", where=f"/{name}/{place}")
    return found


def _name_of(dataset: Mapping[str, Any]) -> str:
    namespace = version_text(dataset.get("namespace"), "default").rstrip("/")
    return name_text(f"{namespace}/{version_text(dataset.get('name'))}")


def _version_of(dataset: Mapping[str, Any]) -> str | None:
    facet = member(member(dataset, "facets", ""), "version", "/facets")
    found = facet.get("datasetVersion")
    return version_text(found) if isinstance(found, str) and found.strip() else None


def _version(dataset: Mapping[str, Any], run_id: str | None) -> str:
    return _version_of(dataset) or (f"run-{run_id}" if run_id else "unversioned")


def _ref(dataset: Mapping[str, Any], run_id: str | None) -> str:
    return f"dataset/{_name_of(dataset)}@{_version(dataset, run_id)}"


def _facets(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dict(member(dataset, name, ""))
        for name in ("facets", "inputFacets", "outputFacets")
        if dataset.get(name)
    }


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:40]
