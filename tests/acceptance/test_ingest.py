"""Ingest by the senders' own clients: openlineage-python, dbt, CloudEvents, signed webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import Running, prepare, started

L = "/v1/ledgers/acme"
SECRETS = {
    "HOOK_GITHUB": "octo",
    "HOOK_MLFLOW": "flow",
    "HOOK_OLD": "before",
    "HOOK_STD": "whsec_c3Rk",
    "HOOK_LAKE": "lake-token",
}
CONFIG = """
[ledgers.acme]
store = "{store}"
keys = "keys"

[ingest]
origins = ["eventgrid.example.com"]

[ingest.github]
secret_env = "HOOK_GITHUB"
old_secret_env = "HOOK_OLD"

[ingest.registry]
system = "mlflow"
secret_env = "HOOK_MLFLOW"

[ingest.standard]
secret_env = "HOOK_STD"

[ingest.other]
system = "standard"
secret_env = "HOOK_STD"

[ingest.lake]
system = "lakefs"
secret_env = "HOOK_LAKE"

[ingest.images]
system = "registry"
secret_env = "HOOK_LAKE"

[ingest.azure]
system = "eventgrid"
secret_env = "HOOK_LAKE"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("ingest"), roles=("recorder", "auditor", "operator"))
    config = CONFIG.format(store=made.environment["ASOF_STORE"])
    with started(made, config=config, environment=SECRETS) as running:
        yield running


def entries(running: Running, query: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Entries that pass, once there are so many: what is taken in is recorded a moment later."""
    until = time.monotonic() + 10
    with running.client("auditor") as auditor:
        while True:
            found = auditor.get(f"{L}/entries", params={"q": query, "limit": 1000}).json()[
                "entries"
            ]
            if len(found) >= count or time.monotonic() > until:
                listed: list[dict[str, Any]] = found
                return listed
            time.sleep(0.05)


def settled(running: Running) -> list[dict[str, Any]]:
    """What is dead, once nothing waits any more."""
    with running.client("auditor") as auditor:
        until = time.monotonic() + 10
        while auditor.get(f"{L}/ingest/spool?state=waiting").json()["deliveries"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        found: list[dict[str, Any]] = auditor.get(f"{L}/ingest/spool").json()["deliveries"]
        return found


# --------------------------------------------------------------------------------- OpenLineage


def test_a_run_from_the_real_openlineage_client(running: Running) -> None:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )
    from openlineage.client.facet_v2 import dataset_version_dataset
    from openlineage.client.transport.http import (
        ApiKeyTokenProvider,
        HttpCompression,
        HttpConfig,
        HttpTransport,
    )

    token = ApiKeyTokenProvider({"apiKey": running.prepared.tokens["recorder"]})
    transport = HttpTransport(
        HttpConfig(
            url=running.url,
            endpoint="openlineage/api/v1/lineage",
            auth=token,
            compression=HttpCompression.GZIP,
        )
    )
    client = OpenLineageClient(transport=transport)
    run_id, name = str(uuid.uuid4()), f"train-{uuid.uuid4().hex[:8]}"
    facet = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion="55405a0b")
    source = InputDataset("s3://bucket", name, facets={"version": facet})
    made = OutputDataset("s3://bucket", f"{name}-out")
    for state in (RunState.START, RunState.RUNNING, RunState.COMPLETE, RunState.COMPLETE):
        client.emit(
            RunEvent(
                eventType=state,
                eventTime=datetime.now(UTC).isoformat(),
                run=Run(run_id),
                job=Job("ml", name),
                inputs=[source],
                outputs=[made] if state is RunState.COMPLETE else [],
                producer="https://example.com/producer",
            )
        )
    client.close()
    told = entries(running, f"stream:run/{run_id}", count=2)
    assert [entry["type"] for entry in told] == ["run.started/1", "run.finished/1"]
    others = entries(running, f"stream:observed/openlineage/ml/{name}", count=2)
    kinds = [one["data"]["observed"][0]["details"]["eventType"] for one in others]
    assert kinds == ["RUNNING", "COMPLETE"], "what finds its key used is kept all the same"
    start, end = told[0]["data"], told[1]["data"]
    assert (start["pipeline"], start["stage"]) == (name, "ml")
    assert start["inputs"] == [f"dataset/s3://bucket/{name}@55405a0b"]
    assert end["status"] == "succeeded"
    assert end["outputs"] == [f"dataset/s3://bucket/{name}-out@run-{run_id}"]
    original = start["source"]["details"]["event"]
    assert original["producer"] == "https://example.com/producer", "the event is kept whole"
    assert len(entries(running, f"stream:asset/dataset/s3://bucket/{name}")) == 1
    assert not settled(running)


def test_dbt_builds_through_openlineage(running: Running, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "orders.sql").write_text("select 1 as id")
    (tmp_path / "models" / "daily.sql").write_text("select id from {{ ref('orders') }}")
    (tmp_path / "dbt_project.yml").write_text(
        "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\n"
    )
    (tmp_path / "profiles.yml").write_text(
        "shop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: shop.duckdb\n"
    )
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dbt-ol"), "run", "--profiles-dir", "."],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OPENLINEAGE_URL": running.url,
            "OPENLINEAGE_ENDPOINT": "openlineage/api/v1/lineage",
            "OPENLINEAGE_API_KEY": running.prepared.tokens["recorder"],
            "OPENLINEAGE_NAMESPACE": "dbt-tests",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = entries(running, "type:run.finished actor:user:recorder stage:dbt-tests", count=2)
    told = json.dumps([entry["data"] for entry in runs])
    assert "shop" in told and '"status": "succeeded"' in told
    made = [ref for entry in runs for ref in entry["data"].get("outputs", [])]
    assert any("daily" in ref for ref in made), made
    assert not settled(running)


def test_a_batch_says_which_of_its_events_are_wrong(running: Running) -> None:
    good = {
        "eventType": "COMPLETE",
        "eventTime": "2026-11-20T09:00:00Z",
        "run": {"runId": str(uuid.uuid4())},
        "job": {"namespace": "n", "name": "j"},
    }
    bad = [
        good | {"eventTime": "yesterday"},
        good | {"eventType": "DONE"},
        good | {"run": {}},
        {"eventTime": "2026-11-20T09:00:00Z"},
        7,
    ]
    with running.client("recorder") as client:
        url = "/openlineage/api/v1/lineage"
        told = client.post(f"{url}/batch", json=[good, *bad]).json()
        assert told["status"] == "partial_success"
        assert told["summary"]["successful"] == 1 and told["summary"]["non_retriable"] == 5
        assert [one["index"] for one in told["failed_events"]] == [1, 2, 3, 4, 5]
        one = client.post(url, json=bad[0])
        assert one.status_code == 422 and one.json()["pointer"] == "/eventTime"
        assert client.post(f"{url}/batch", json={}).status_code == 400
        again = client.post(url, json=good)
        assert again.json() == {"received": 1, "new": 0}
    late = good | {"eventType": "START", "eventTime": "2026-11-20T08:00:00Z"}
    with running.client("recorder") as client:
        assert client.post(url, json=late).json()["new"] == 1
    assert not settled(running)
    told = entries(running, f"stream:run/{good['run']['runId']}", count=2)
    assert [(entry["type"], entry["data"].get("inferred")) for entry in told] == [
        ("run.started/1", True),
        ("run.finished/1", None),
    ], "a beginning that comes after the end is not a second beginning"
    kept = entries(running, "stream:observed/openlineage/n/j")
    assert kept[-1]["data"]["observed"][0]["details"]["eventType"] == "START", "and is not lost"


# --------------------------------------------------------------------------------- CloudEvents


def test_cloudevents_of_the_real_sdk(running: Running) -> None:
    from cloudevents.core.bindings.http import to_binary, to_structured
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    stream = f"note/{uuid.uuid4().hex}"

    def event(number: int, **more: Any) -> CloudEvent:
        attributes = {
            "id": f"{stream}-{number}",
            "source": "/ci/build",
            "type": "asof.note.added/1",
            "subject": stream,
            "specversion": "1.0",
            "datacontenttype": "application/json",
        }
        return CloudEvent(attributes | more, {"text": f"note {number}"})

    with running.client("recorder") as client:
        for made in (
            to_structured(event(1), JSONFormat()),
            to_binary(event(2), JSONFormat()),
            to_structured(event(1), JSONFormat()),
        ):
            done = client.post(f"{L}/ingest/cloudevents", content=made.body, headers=made.headers)
            assert done.status_code == 202, done.text
        batch = [json.loads(to_structured(event(n), JSONFormat()).body) for n in (3, 4)]
        done = client.post(
            f"{L}/ingest/cloudevents",
            content=json.dumps(batch),
            headers={"Content-Type": "application/cloudevents-batch+json"},
        )
        assert done.json() == {"received": 2, "new": 2}
        stolen = event(5, type="asof.access.granted/1", subject="access/roles")
        made = to_structured(stolen, JSONFormat())
        refused = client.post(f"{L}/ingest/cloudevents", content=made.body, headers=made.headers)
        assert refused.status_code == 403
        foreign = to_structured(event(6, type="com.example.built"), JSONFormat())
        client.post(f"{L}/ingest/cloudevents", content=foreign.body, headers=foreign.headers)
    texts = [one["data"]["text"] for one in entries(running, f"stream:{stream}", count=4)]
    assert texts == ["note 1", "note 2", "note 3", "note 4"]
    seen = entries(running, "type:observation.* stream:observed/cloudevents/*")
    assert seen[-1]["data"]["observed"][0]["details"]["type"] == "com.example.built"
    with running.client() as anyone:
        url = f"{L}/ingest/cloudevents"
        origin = {"WebHook-Request-Origin": "eventgrid.example.com"}
        agreed = anyone.options(url, headers=origin)
        assert agreed.headers["webhook-allowed-origin"] == "eventgrid.example.com"
        assert anyone.options(url, headers={"WebHook-Request-Origin": "x"}).status_code == 403
        assert anyone.post(url, json={}).status_code == 401


# ------------------------------------------------------------------------------------ webhooks


def github(secret: str, body: bytes) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": uuid.uuid4().hex,
        "X-GitHub-Event": "push",
        "Content-Type": "application/json",
    }


def mlflow(body: bytes, *, at: float = 0.0, delivery: str = "") -> dict[str, str]:
    stamp, name = str(int(time.time() + at)), delivery or uuid.uuid4().hex
    message = f"{name}.{stamp}.".encode() + body
    made = base64.b64encode(hmac.new(b"flow", message, hashlib.sha256).digest()).decode()
    return {
        "X-MLflow-Signature": f"v1,{made}",
        "X-MLflow-Delivery-Id": name,
        "X-MLflow-Timestamp": stamp,
        "Content-Type": "application/json",
    }


def test_a_push_becomes_a_version_of_the_code(running: Running) -> None:
    commit, repository = uuid.uuid4().hex + "0" * 8, f"acme/{uuid.uuid4().hex[:8]}"
    push = {
        "ref": "refs/heads/main",
        "before": "1" * 40,
        "after": commit,
        "repository": {
            "full_name": repository,
            "clone_url": f"https://git.example.com/{repository}.git",
        },
        "pusher": {"name": "octocat"},
        "commits": [{"id": commit}],
    }
    body = json.dumps(push).encode()
    url = f"{L}/ingest/github"
    with running.client() as client:
        for headers in (github("octo", body), github("before", body)):  # the old secret still holds
            done = client.post(url, content=body, headers=headers)
            assert done.status_code == 202, done.text
        again = client.post(url, content=body, headers=headers)
        assert again.json()["new"] == 0, "a delivery that comes again is known"
        for wrong in (
            github("guess", body),
            {"Content-Type": "application/json"},
            github("octo", body) | {"X-Hub-Signature-256": "sha256="},
        ):
            assert client.post(url, content=body, headers=wrong).status_code == 401
        assert client.post(f"{url}x", content=body, headers=headers).status_code == 401
        elsewhere = client.post("/v1/ledgers/other/ingest/github", content=body, headers=headers)
        assert elsewhere.status_code == 401
        changed = client.post(url, content=body.replace(b"main", b"evil"), headers=headers)
        assert changed.status_code == 401
    (told,) = entries(running, f"stream:asset/code/{repository}")
    assert told["actor"] == "service:github" and told["data"]["version"] == commit
    assert told["data"]["source"]["claimed_actor"] == "octocat"


def test_a_signed_time_that_is_off_is_a_replay(running: Running) -> None:
    body = json.dumps({"entity": "model_version", "action": "created", "data": {"v": "3"}}).encode()
    url = f"{L}/ingest/registry"
    with running.client() as client:
        mine = mlflow(body)
        assert client.post(url, content=body, headers=mine).json() == {"received": 1, "new": 1}
        assert client.post(url, content=body, headers=mine).json() == {"received": 1, "new": 0}
        for at in (-301, 301):
            assert client.post(url, content=body, headers=mlflow(body, at=at)).status_code == 401
        unsigned = mlflow(body) | {"X-MLflow-Timestamp": str(int(time.time()) - 9)}
        assert client.post(url, content=body, headers=unsigned).status_code == 401
    (told,) = entries(running, "stream:observed/mlflow/*")
    assert told["data"]["observed"][0]["details"]["action"] == "created"


def test_standard_webhooks_of_the_real_library(running: Running) -> None:
    from standardwebhooks.webhooks import Webhook

    body = json.dumps({"type": "model.ready", "data": {}})
    sent, name = datetime.now(UTC), f"msg_{uuid.uuid4().hex}"
    signature = Webhook(SECRETS["HOOK_STD"]).sign(name, sent, body)
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(sent.timestamp())),
        "webhook-signature": signature,
        "Content-Type": "application/json",
    }
    with running.client() as client:
        url = f"{L}/ingest/standard"
        assert client.post(url, content=body, headers=headers).status_code == 202
        forged = headers | {"webhook-signature": signature[:-4] + "AAA="}
        assert client.post(url, content=body, headers=forged).status_code == 401
    assert entries(running, "stream:observed/standard/model.ready")


def test_two_senders_who_count_alike_do_not_meet(running: Running) -> None:
    from standardwebhooks.webhooks import Webhook

    sent, kind = datetime.now(UTC), f"kind-{uuid.uuid4().hex[:8]}"
    with running.client() as client:
        for source in ("standard", "other"):
            body = json.dumps({"type": kind, "from": source})
            headers = {
                "webhook-id": "1",
                "webhook-timestamp": str(int(sent.timestamp())),
                "webhook-signature": Webhook(SECRETS["HOOK_STD"]).sign("1", sent, body),
                "Content-Type": "application/json",
            }
            for new in (1, 0):
                done = client.post(f"{L}/ingest/{source}", content=body, headers=headers)
                assert done.json() == {"received": 1, "new": new}
    told = entries(running, f"stream:observed/standard/{kind}", count=2)
    assert [one["actor"] for one in told] == ["service:standard", "service:other"]


def test_a_commit_of_lakefs_by_its_bearer_token(running: Running) -> None:
    commit, repository = uuid.uuid4().hex * 2, f"lake-{uuid.uuid4().hex[:8]}"
    event = {
        "event_type": "post-commit",
        "event_time": "2026-11-20T09:00:00Z",
        "repository_id": repository,
        "branch_id": "main",
        "commit_id": commit,
        "committer": "alice",
    }
    with running.client() as client:
        for given in ("Bearer guess", "Bearer", "Basic lake-token", "lake-token"):
            refused = client.post(f"{L}/ingest/lake", json=event, headers={"Authorization": given})
            assert refused.status_code == 401, given
        headers = {"Authorization": "Bearer lake-token"}
        done = client.post(f"{L}/ingest/lake", json=event, headers=headers)
        assert done.status_code == 202, done.text
        assert client.post(f"{L}/ingest/lake", json=event).status_code == 401
    (told,) = entries(running, f"stream:asset/dataset/lakefs/{repository}")
    assert told["data"]["version"] == commit and told["actor"] == "service:lake"


def test_a_registry_and_event_grid_by_their_bearer_tokens(running: Running) -> None:
    repository, digest = f"ml/{uuid.uuid4().hex}", f"sha256:{uuid.uuid4().hex * 2}"
    manifest = "application/vnd.oci.image.manifest.v1+json"
    target = {"mediaType": manifest, "digest": digest, "repository": repository, "tag": "prod"}
    pushed = {"id": uuid.uuid4().hex, "action": "push", "target": target, "request": {"host": "r"}}
    handshake = [
        {
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "data": {"validationCode": "512d38b6"},
        }
    ]
    envelope = {"Content-Type": "application/vnd.docker.distribution.events.v1+json"}
    greeting = {"aeg-event-type": "SubscriptionValidation"}
    with running.client(headers={"Authorization": "Bearer lake-token"}) as client:
        images, azure = f"{L}/ingest/images", f"{L}/ingest/azure"
        for _ in range(2):
            done = client.post(images, content=json.dumps({"events": [pushed]}), headers=envelope)
            assert done.status_code == 202, done.text
        greeted = client.post(azure, json=handshake, headers=greeting)
        assert greeted.status_code == 200 and greeted.json() == {"validationResponse": "512d38b6"}
        wrong = {"Authorization": "Bearer guess"}
        assert client.post(azure, json=handshake, headers=greeting | wrong).status_code == 401
        assert client.post(azure, json=[{}], headers=greeting).status_code == 400
        event = {"id": uuid.uuid4().hex, "subject": repository, "eventType": "x", "data": {}}
        assert client.post(azure, json=[event]).status_code == 202
    (told,) = entries(running, f"stream:asset/image/r/{repository}")
    assert told["data"]["digest"] == digest and told["actor"] == "service:images"
    assert len(entries(running, f"stream:observed/eventgrid/{repository}")) == 1


def test_what_can_never_be_recorded_is_dead_and_says_why(running: Running) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    content = json.dumps({"entity": "x", "data": {"aws_secret_access_key": secret}}).encode()
    before = len(settled(running))
    with running.client() as client:
        mine = mlflow(content)
        for new in (1, 0):
            done = client.post(f"{L}/ingest/registry", content=content, headers=mine)
            assert done.status_code == 202 and done.json()["new"] == new, "it happened: it is taken"
        broken = b'{"entity": "x", "entity": "y"}'
        done = client.post(f"{L}/ingest/registry", content=broken, headers=mlflow(broken))
        assert done.status_code == 202
    first, second = settled(running)[before:]
    assert first["state"] == "dead" and "/aws_secret_access_key" in first["reason"]
    assert secret not in json.dumps(first) and first["system"] == "mlflow"
    assert "entity" in second["reason"], second
    assert secret not in running.log.read_text()
    where = f"{L}/ingest/spool/{first['id']}/retry"
    with running.client("operator") as operator, running.client("auditor") as auditor:
        assert auditor.post(where).status_code == 403
        assert operator.post(where).status_code == 202
        assert settled(running)[before:] == [first, second], "nothing was mended: it is dead again"
        assert operator.post(f"{L}/ingest/spool/999999/retry").status_code == 404


# ----------------------------------------------------------------------------------- durability


def test_what_was_answered_with_2xx_survives_a_kill(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("recorder", "auditor"))
    sent: list[str] = []
    for _ in range(2):
        with started(made) as running, running.client("recorder") as client:
            for _ in range(20):
                run_id = str(uuid.uuid4())
                event = {
                    "eventType": "COMPLETE",
                    "eventTime": "2026-11-20T09:00:00Z",
                    "run": {"runId": run_id},
                    "job": {"namespace": "n", "name": "killed"},
                }
                done = client.post("/openlineage/api/v1/lineage", json=event)
                assert done.status_code == 201
                sent.append(run_id)
            running.kill()
    with started(made) as running:
        assert not settled(running)
        ends = entries(running, "type:run.finished", count=len(sent))
    assert sorted(entry["data"]["run"] for entry in ends) == sorted(sent), "each once, none lost"
