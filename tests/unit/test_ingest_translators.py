"""What systems send, in our words: pure translators, and the proofs of who sent it."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest

from connectors import cloudevents, openlineage
from connectors.arriving import Recording, mark_of, name_text, version_text, whole_or_digest
from connectors.webhooks import HOOKS
from ledger.errors import MalformedError, RefusedError
from ledger.events.lines import draft_of

NOW = 1_795_262_400_000_000
SECONDS = str(NOW // 1_000_000)
BEARERS = ("eventgrid", "kubernetes", "lakefs", "registry")
BODY = b'{"type": "x", "repository_id": "lake"}'
RUN = {
    "eventType": "START",
    "eventTime": "2026-11-20T09:00:00Z",
    "run": {"runId": "r"},
    "job": {"namespace": "n", "name": "j"},
}


def signed(secret: bytes, message: bytes, digest: str = "sha256") -> bytes:
    return hmac.new(secret, message, digest).digest()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def headers_of(system: str, secret: str, body: bytes = BODY, at: str = SECONDS) -> dict[str, str]:
    """What the system sends with a body, by its documentation."""
    key = secret.encode()
    stamped = f"d-1.{at}.".encode() + body
    return {
        "github": {"x-hub-signature-256": "sha256=" + signed(key, body).hex()},
        "gitea": {"x-gitea-signature": signed(key, body).hex()},
        "forgejo": {"x-forgejo-signature": signed(key, body).hex()},
        "gitlab": {"x-gitlab-token": secret},
        **{name: {"authorization": f"Bearer {secret}"} for name in BEARERS},
        "mlflow": {
            "x-mlflow-delivery-id": "d-1",
            "x-mlflow-timestamp": at,
            "x-mlflow-signature": "v1," + base64_of(signed(key, stamped)),
        },
        "standard": {
            "webhook-id": "d-1",
            "webhook-timestamp": at,
            "webhook-signature": "v1," + base64_of(signed(key, stamped)),
        },
        "terraform": {"x-tfe-notification-signature": signed(key, body, "sha512").hex()},
        "wandb": {"x-wandb-signature": base64_of(signed(key, body))},
    }[system]


@pytest.mark.parametrize("system", sorted(HOOKS))
def test_a_system_proves_itself_with_one_of_its_secrets(system: str) -> None:
    hook = HOOKS[system]
    for secret in ("new!", "old!"):
        headers = headers_of(system, secret)
        assert hook.verify(headers, BODY, ("new!", "old!"), NOW).id
    for wrong in (headers_of(system, "guess"), {}, dict.fromkeys(headers, "")):
        with pytest.raises(RefusedError):
            hook.verify(wrong, BODY, ("new!", "old!"), NOW)
    for name, value in headers.items():
        for other in ("v1,\xe9\xff", "\xe9", value[:-2], value + "A", value.swapcase()):
            if other == value:  # digits have no other case
                continue
            with pytest.raises(RefusedError):
                hook.verify(headers | {name: other}, BODY, ("new!", "old!"), NOW)
    with pytest.raises(RefusedError):
        hook.verify(headers, BODY, (), NOW)


@pytest.mark.parametrize("system", sorted(set(HOOKS) - {"gitlab", *BEARERS}))
def test_a_signature_holds_for_its_body_only(system: str) -> None:
    with pytest.raises(RefusedError):
        HOOKS[system].verify(headers_of(system, "s"), BODY + b" ", ("s",), NOW)


@pytest.mark.parametrize("system", ["mlflow", "standard"])
def test_a_signed_time_is_of_now(system: str) -> None:
    for seconds, good in ((-301, False), (-299, True), (299, True), (301, False)):
        at = str(int(SECONDS) + seconds)
        headers = headers_of(system, "s", at=at)
        if good:
            assert HOOKS[system].verify(headers, BODY, ("s",), NOW).id == "d-1"
        else:
            with pytest.raises(RefusedError, match="five minutes"):
                HOOKS[system].verify(headers, BODY, ("s",), NOW)
    with pytest.raises(RefusedError, match="time is missing"):
        HOOKS[system].verify(headers_of(system, "s", at="soon"), BODY, ("s",), NOW)


def test_wandb_and_hex() -> None:
    made = signed(b"s", BODY).hex()
    for given in (made, f"sha256={made}"):
        assert HOOKS["wandb"].verify({"x-wandb-signature": given}, BODY, ("s",), NOW).id


# ---------------------------------------------------------------------------------- what they say


def push(**more: Any) -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "before": "1" * 40,
        "after": "2" * 40,
        "repository": {"full_name": "acme/shop"},
    } | more


def told(system: str, body: dict[str, Any], **headers: str) -> Recording:
    (found,) = HOOKS[system].translate(headers, json.dumps(body).encode())
    for event in found.events:
        draft_of(dict(event), "service:x", NOW)  # the ledger's door takes it
    return found


def test_two_pushes_never_meet_in_one_key() -> None:
    long = "refs/heads/" + "x" * 240
    keys = {
        told("github", push(**given)).key
        for given in (
            {},
            {"ref": long},
            {"ref": long, "after": "3" * 40},
            {"ref": long + "y"},
            {"before": "4" * 40},
            {"repository": {"full_name": "acme/other"}},
        )
    }
    assert len(keys) == 6
    assert all(len(key) < 100 for key in keys)
    assert told("github", push()).key == told("github", push(pusher={"name": "a"})).key


def test_a_push_names_commit_place_and_who_claims_it() -> None:
    body = push(
        project={"name": "x"},
        user_username="lab",
        repository={"full_name": "acme/shop", "clone_url": 7, "html_url": "https://git/x"},
        commits=[{"id": "2" * 40}, 5],
    )
    data = told("gitlab", body).events[0]["data"]
    assert (data["kind"], data["name"], data["version"]) == ("code", "acme/shop", "2" * 40)
    assert data["location"] == "https://git/x" and data["source"]["claimed_actor"] == "lab"
    assert data["metadata"]["commits"] == ["2" * 40]


@pytest.mark.parametrize(
    "body",
    [
        push(after="0" * 40),
        push(after="nohex"),
        push(after="2" * 41),
        push(after=7),
        push(ref=None),
        push(repository=7, after="0" * 64),
        {"zen": "Design for failure."},
    ],
)
def test_what_is_no_push_is_kept_as_it_is(body: dict[str, Any]) -> None:
    recording = told("github", body)
    assert recording.events[0]["type"] == "observation.recorded/1"
    assert recording.events[0]["data"]["observed"] == [{"details": body}]


def lake(**more: Any) -> dict[str, Any]:
    return {
        "event_type": "post-commit",
        "event_time": "2026-11-20T09:00:00Z",
        "repository_id": "lake",
        "branch_id": "main",
        "commit_id": "a" * 64,
        "commit_message": "more rows",
        "committer": "alice",
        "commit_metadata": {},
    } | more


def test_a_commit_of_lakefs_is_a_version_of_its_data() -> None:
    data = told("lakefs", lake()).events[0]["data"]
    assert (data["name"], data["version"]) == ("lakefs/lake", "a" * 64)
    assert data["source"]["claimed_actor"] == "alice"
    assert data["effective_at"] == "2026-11-20T09:00:00.000000Z"
    assert "effective_at" not in told("lakefs", lake(event_time=None)).events[0]["data"]
    assert "claimed_actor" not in told("lakefs", lake(committer=" ")).events[0]["data"]["source"]
    for other in (lake(event_type="pre-commit"), lake(commit_id="HEAD"), lake(commit_id=None)):
        assert told("lakefs", other).events[0]["type"] == "observation.recorded/1"
    with pytest.raises(MalformedError, match="event_time"):
        told("lakefs", lake(event_time="noon"))
    again = {told("lakefs", lake(event_time=f"2026-11-20T09:00:0{n}Z")).key for n in range(2)}
    assert len(again) == 1, "a commit is one version, whenever it is told"


def test_ids_of_deliveries_are_the_senders_own_however_long() -> None:
    body = {"type": "x"}
    first, second = (told("standard", body, **{"webhook-id": "m" * 150 + n}) for n in "12")
    assert first.key != second.key and first.of_sender
    assert not told("github", push()).of_sender, "a commit is the same from whoever tells it"


# ------------------------------------------------------------------------------------ OpenLineage


def test_an_event_that_finds_its_key_used_is_kept_all_the_same() -> None:
    (start,) = openlineage.translate(RUN)
    (running,) = openlineage.translate(RUN | {"eventType": "RUNNING"})
    inferred, end = openlineage.translate(RUN | {"eventType": "COMPLETE"})
    assert start.key == running.key == inferred.key != end.key
    assert inferred.otherwise is None, "its end holds the original"
    kept = [one.otherwise for one in (start, running, end)]
    assert all(kept) and len({one.key for one in kept if one is not None}) == 3
    for one in kept:
        assert one is not None and one.events[0]["type"] == "observation.recorded/1"
        assert one.events[0]["data"]["observed"][0]["details"]["run"] == {"runId": "r"}


def test_dataset_events() -> None:
    def event(number: int, version: str | None) -> dict[str, Any]:
        facets: dict[str, Any] = {"schema": {"fields": [number]}}
        facets |= {"version": {"datasetVersion": version}} if version else {}
        dataset = {"namespace": "n", "name": "t", "facets": facets}
        return {"eventTime": "2026-11-20T09:00:00Z", "dataset": dataset}

    (versioned,), (other,) = (openlineage.translate(event(n, "v1")) for n in (1, 2))
    assert versioned.key == other.key and versioned.otherwise != other.otherwise
    assert versioned.events[0]["data"]["version"] == "v1"
    (plain,), (changed,) = (openlineage.translate(event(n, None)) for n in (1, 2))
    assert plain.key != changed.key
    assert plain.events[0]["stream"] == "observed/openlineage/n/t"


def test_what_is_too_large_is_recorded_with_its_digest() -> None:
    facets = {"sql": {"query": "x" * 600_000}}
    large = RUN | {"eventType": "COMPLETE", "run": {"runId": "r", "facets": facets}}
    for recording in openlineage.translate(large):
        for event in recording.events:
            draft_of(dict(event), "user:x", NOW)
    original = recording.events[0]["data"]["source"]["details"]["event"]
    assert original["digest"].startswith("sha256:") and original["bytes"] > 600_000
    small = {"a": 1}
    assert whole_or_digest(small) == small


def test_names_of_any_length_stay_apart_and_fit() -> None:
    def version(name: str) -> Any:
        outputs = [{"namespace": "s3://b", "name": name}]
        found = openlineage.translate(RUN | {"eventType": "COMPLETE", "outputs": outputs})
        for recording in found:
            for event in recording.events:
                draft_of(dict(event), "user:x", NOW)
        return found[1].events[0]["data"]["name"]

    long = "ä" * 700
    assert version(long + "1") != version(long + "2")
    assert version("plain") == "s3://b/plain"


def test_names() -> None:
    assert name_text(" a\n b ") == "a  b" and name_text("\x00") == "unnamed"
    assert name_text(7) == "unnamed" and version_text("a@b") == "a_b"
    assert len(name_text("ä" * 1_000).encode()) <= 400
    assert name_text("x" * 400) == "x" * 400
    assert mark_of("a", "b") != mark_of("ab") and mark_of("a", "b") == mark_of("a", "b")


# ------------------------------------------------------------------------------------ CloudEvents


@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_a_cloudevent_needs_its_attributes(missing: str) -> None:
    event = {"id": "1", "source": "/s", "type": "com.x", "specversion": "1.0"}
    assert cloudevents.translate(event).events[0]["data"]["observed"] == [{"details": event}]
    with pytest.raises(MalformedError) as raised:
        cloudevents.translate({name: value for name, value in event.items() if name != missing})
    assert raised.value.where == f"/{missing}"


def test_a_cloudevent_of_ours_and_one_of_another_version() -> None:
    event = {"id": "1", "source": "/s", "type": "asof.note.added/1", "specversion": "1.0"}
    ours = cloudevents.translate(event | {"data": {"text": "go"}, "subject": "note/x"})
    assert ours.events == [{"type": "note.added/1", "data": {"text": "go"}, "stream": "note/x"}]
    with pytest.raises(MalformedError, match=r"1\.0"):
        cloudevents.translate(event | {"specversion": "0.3"})
    with pytest.raises(MalformedError, match="/data"):
        cloudevents.translate(event | {"data": "text"})


# ------------------------------------------------------------------- systems that sign nothing

PUSHED: dict[str, Any] = {
    "id": "f3b1017d",
    "timestamp": "2026-11-20T09:00:00Z",
    "action": "push",
    "target": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{'c' * 64}",
        "repository": "ml/serve",
        "tag": "prod",
    },
    "request": {"host": "registry.example.com:5001", "useragent": "skopeo"},
    "actor": {"name": "ada"},
}


def all_told(system: str, body: object) -> list[Recording]:
    """The recordings, each seen to fit the vocabulary."""
    found = HOOKS[system].translate({}, json.dumps(body).encode())
    for recording in found:
        for event in recording.events:
            draft_of(dict(event), "service:x", NOW)
    return found


def test_the_push_of_a_manifest_is_a_version_of_an_image() -> None:
    layer = PUSHED | {"id": "2", "target": {"mediaType": "application/octet-stream"}}
    pull, nameless = PUSHED | {"id": "3", "action": "pull"}, {"action": "push"}
    image, *others = all_told("registry", {"events": [PUSHED, layer, pull, nameless]})
    (event,) = image.events
    assert event["type"] == "asset.version.recorded/1"
    data = event["data"]
    assert (data["kind"], data["name"]) == ("image", "registry.example.com:5001/ml/serve")
    assert data["digest"] == f"sha256:{'c' * 64}" and data["metadata"]["tag"] == "prod"
    assert data["source"]["claimed_actor"] == "ada"
    assert data["effective_at"].startswith("2026-11-20T09:00:00")
    assert {one.events[0]["type"] for one in others} == {"observation.recorded/1"}
    assert len({one.key for one in (image, *others)}) == 4
    again, other = all_told("registry", {"events": [PUSHED, PUSHED | {"id": "4"}]})
    assert again.key == image.key != other.key and again.of_sender
    for kind in ("docker.distribution.manifest.list.v2", "oci.image.index.v1"):
        target = PUSHED["target"] | {"mediaType": f"application/vnd.{kind}+json"}
        (one,) = all_told("registry", {"events": [PUSHED | {"target": target}]})
        assert one.events[0]["type"] == "asset.version.recorded/1", kind
    for bad in ({}, {"events": 7}, {"events": [7]}):
        with pytest.raises(MalformedError, match="list of objects"):
            all_told("registry", bad)
    with pytest.raises(MalformedError) as caught:
        all_told("registry", {"events": [PUSHED | {"timestamp": "yesterday"}]})
    assert caught.value.where == "/events/0/timestamp"


def test_an_audit_of_kubernetes_holds_no_secret() -> None:
    item = {
        "auditID": "49cdbbc0",
        "stage": "ResponseComplete",
        "verb": "create",
        "user": {"username": "admin"},
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "cfg"},
        "requestObject": {"data": {"db_password": "hunter2-hunter2"}},
    }
    secret = item | {
        "auditID": "5",
        "objectRef": {"resource": "secrets", "namespace": "default", "name": "s"},
        "responseObject": {"data": {"x": "c2VjcmV0IQ=="}},
    }
    plain = {"auditID": "6", "stage": "RequestReceived", "requestURI": "/healthz"}
    body = {"kind": "EventList", "items": [item, secret, plain, item | {"stage": "Panic"}]}
    found = all_told("kubernetes", body)
    assert [one.events[0]["data"]["target"] for one in found] == [
        "default/configmaps/cfg",
        "default/secrets/s",
        "/healthz",
        "default/configmaps/cfg",
    ]
    text = json.dumps([one.events for one in found])
    assert "hunter2" not in text and "c2VjcmV0IQ" not in text and "admin" in text
    assert len({one.key for one in found}) == 4, "by audit id and stage"


def test_event_grid_is_greeted_and_kept() -> None:
    hook, code = HOOKS["eventgrid"], "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"
    handshake = [
        {
            "id": "1",
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "subject": "",
            "data": {"validationCode": code},
        }
    ]
    headers = {"aeg-event-type": "SubscriptionValidation"}
    body = json.dumps(handshake).encode()
    assert hook.greet(headers, body) == {"validationResponse": code}
    assert hook.greet({"aeg-event-type": "Notification"}, body) is None
    with pytest.raises(MalformedError, match="validation code"):
        hook.greet(headers, b"[{}]")
    event = {"id": "e-1", "subject": "models/m:20", "eventType": "Registered", "data": {}}
    one, other = all_told("eventgrid", [event, event | {"id": "e-2"}])
    assert one.events[0]["data"]["target"] == "models/m:20" and one.key != other.key
    assert all_told("eventgrid", [event | {"data": {"n": 1}}])[0].key == one.key
    for bad in ({}, [7], 7):
        with pytest.raises(MalformedError):
            all_told("eventgrid", bad)
    assert all(HOOKS[system].greet({}, b"") is None for system in HOOKS)
