"""The service as its callers meet it: a real process, over each store."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute

from api.service.permissions import ROLES, permission_of
from api.service.routes import ROUTERS
from ledger.bundle import read_bundle
from ledger.errors import TamperError
from ledger.note import parse_vkey
from ledger.proof import check_proof, parse_proof
from ledger.receipt import check_receipt, parse_receipt
from ledger.verdict import Verdict
from tests.support.service import CHECKOUT, Running, prepare, started, token_for

L = "/v1/ledgers/acme"
NOTE = {"type": "note.added/1", "stream": "note/release", "data": {"text": "go"}}


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def append(client: httpx2.Client, *events: dict[str, Any], **headers: str) -> httpx2.Response:
    return client.post(f"{L}/entries", json={"events": events}, headers=key() | headers)


def binding(pipeline: str, slot: str, version: str, **more: Any) -> dict[str, Any]:
    data = {"pipeline": pipeline, "stage": "production", "slot": slot, "asset_version": version}
    return {"type": "binding.changed/1", "data": data | more}


def slug(response: httpx2.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["instance"].endswith(response.headers["x-request-id"])
    return str(body["type"]).removeprefix("/problems/")


# ----------------------------------------------------------------------------------- appending


def test_an_append_answers_with_receipts_that_prove_it(service: Running) -> None:
    with service.client("recorder") as client, service.client("auditor") as auditor:
        done = append(client, NOTE, NOTE | {"data": {"text": "again"}})
        assert done.status_code == 201
        body = done.json()
        vkey = parse_vkey(auditor.get(L).json()["vkey"])
        assert body["count"] == len(body["receipts"]) == 2 and not body["repeated"]
        for told in body["receipts"]:
            receipt = parse_receipt(_receipt(told, body["checkpoint"]))
            entry, checkpoint = check_receipt(receipt, vkey)
            assert entry.actor == "user:recorder" and checkpoint.size == body["tree_size"]
        later = auditor.get(f"{L}/entries/{body['first_index']}/receipt")
        check_receipt(parse_receipt(later.content), vkey)
        proof = auditor.get(f"{L}/entries/{body['first_index']}/proof")
        check_proof(parse_proof(proof.content), receipt_leaf(body), vkey)
        forged = dict(body["receipts"][0], leaf_hash=body["receipts"][1]["leaf_hash"])
        with pytest.raises(TamperError):  # the control: a receipt that was changed proves nothing
            check_receipt(parse_receipt(_receipt(forged, body["checkpoint"])), vkey)


def receipt_leaf(body: dict[str, Any]) -> bytes:
    return bytes.fromhex(body["receipts"][0]["leaf_hash"])


def _receipt(told: dict[str, Any], checkpoint: str) -> bytes:
    whole = told | {"checkpoint": checkpoint, "v": 1}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_same_key_gives_the_first_answer_again(service: Running) -> None:
    with service.client("recorder") as client:
        mine = key()
        first = client.post(f"{L}/entries", json=NOTE, headers=mine)
        again = client.post(f"{L}/entries", json=NOTE, headers=mine)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == first.json() | {"repeated": True}
        other = client.post(f"{L}/entries", json=NOTE | {"data": {"text": "x"}}, headers=mine)
        assert other.status_code == 422 and slug(other) == "idempotency-key-reused"
    with service.client("operator") as another:  # another principal's key is another key
        assert another.post(f"{L}/entries", json=NOTE, headers=mine).status_code == 201


def test_forms_of_a_batch(service: Running) -> None:
    with service.client("recorder") as client:
        lines = b"\n".join(json.dumps(NOTE).encode() for _ in range(3))
        told = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        done = client.post(f"{L}/entries", content=gzip.compress(lines), headers=key() | told)
        assert done.status_code == 201 and done.json()["count"] == 3
        bare = append(client, NOTE, Prefer="return=minimal")
        assert "receipts" not in bare.json()
        assert bare.headers["preference-applied"] == "return=minimal"


def test_if_match_is_the_expected_version(service: Running) -> None:
    stream = f"note/{uuid.uuid4().hex}"
    with service.client("recorder") as client:
        event = NOTE | {"stream": stream}
        assert append(client, event, **{"If-Match": '"0"'}).status_code == 201
        stale = append(client, event, **{"If-Match": '"0"'})
        assert stale.status_code == 412 and slug(stale) == "precondition-failed"
        inside = append(client, event | {"expected_version": 7})
        assert inside.status_code == 409 and slug(inside) == "conflict"


@pytest.mark.parametrize(
    ("send", "status", "problem", "says"),
    [
        (dict(json=NOTE, headers={}), 400, "idempotency-key-missing", "visible ASCII"),
        (
            dict(json=NOTE, headers={"Idempotency-Key": "a b"}),
            400,
            "malformed",
            "visible ASCII",
        ),
        (dict(content=b"{}", headers=key()), 415, "unsupported-media-type", "application/json"),
        (
            dict(
                content=b"{}",
                headers=key() | {"Content-Type": "application/json; charset=utf-16"},
            ),
            415,
            "unsupported-media-type",
            "UTF-8",
        ),
        (
            dict(
                content=b'{"type":1,"type":2}', headers=key() | {"Content-Type": "application/json"}
            ),
            400,
            "malformed",
            "",
        ),
        (
            dict(content=b'{"a":NaN}', headers=key() | {"Content-Type": "application/json"}),
            400,
            "malformed",
            "",
        ),
        (
            dict(content=b"[" * 5_000, headers=key() | {"Content-Type": "application/json"}),
            400,
            "malformed",
            "",
        ),
        (
            dict(json={"events": []}, headers=key()),
            400,
            "malformed",
            "a batch is",
        ),
        (
            dict(json=NOTE | {"type": "note.aded/1"}, headers=key()),
            422,
            "unfit-event",
            "note.added/1",
        ),
        (
            dict(json={"events": [NOTE, NOTE | {"data": {"text": 7}}]}, headers=key()),
            422,
            "unfit-event",
            "/events/1",
        ),
        (
            dict(
                json={
                    "type": "access.granted/1",
                    "stream": "access/roles",
                    "data": {"principal": "user:recorder", "role": "admin"},
                },
                headers=key(),
            ),
            403,
            "refused",
            "recorded by the service itself",
        ),
        (
            dict(
                content=gzip.compress(b" " * (9 << 20)),
                headers=key() | {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            ),
            413,
            "too-large",
            "times its size",
        ),
        (
            dict(
                content=gzip.compress(json.dumps(NOTE).encode())[:-9],
                headers=key() | {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            ),
            400,
            "malformed",
            "gzip",
        ),
        (
            dict(content=b"x" * (9 << 20), headers=key() | {"Content-Type": "application/json"}),
            413,
            "too-large",
            "bytes",
        ),
    ],
)
def test_what_is_refused_leaves_no_trace(
    sqlite_service: Running, send: dict[str, Any], status: int, problem: str, says: str
) -> None:
    with sqlite_service.client("recorder") as client, sqlite_service.client("auditor") as auditor:
        before = auditor.get(L).json()["basis"]["tree_size"]
        refused = client.post(f"{L}/entries", **send)
        assert (refused.status_code, slug(refused)) == (status, problem), refused.text
        assert says in refused.text
        assert auditor.get(L).json()["basis"]["tree_size"] == before


def keyed_routes() -> Iterator[tuple[str, str, Any]]:
    """Every POST of our own protocol: a path, a role that may, a body."""
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        wanted = permission_of(route.openapi_extra)
        ours = route.path.startswith("/v1/") and "/ingest/" not in route.path
        if "POST" in (route.methods or ()) and ours:
            path = re.sub(r"{\w+}", "1", route.path.replace("{ledger}", "acme"))
            role = next(name for name, held in ROLES.items() if held & set(wanted))
            told = (route.openapi_extra or {}).get("requestBody", {"content": {}})["content"]
            yield path, role, told.get("application/json", {}).get("example")


def test_every_post_wants_a_key(sqlite_service: Running) -> None:
    asked = list(keyed_routes())
    assert len(asked) >= 12, asked
    for path, role, body in asked:
        with sqlite_service.client(role) as client:
            refused = client.post(path, json=body)
            assert refused.status_code == 400, (path, refused.text)
            assert slug(refused) == "idempotency-key-missing", path


# ----------------------------------------------------------------------------------- questions


def test_questions_answer_as_the_command_line_does(service: Running) -> None:
    pipeline = f"p-{uuid.uuid4().hex[:8]}"
    where = f"{L}/pipelines/{pipeline}/stages/production"
    model = {"kind": "model", "name": pipeline, "digest": "sha256:" + "5f" * 32}
    with service.client("recorder") as client, service.client("auditor") as auditor:
        versions = [
            {"type": "asset.version.recorded/1", "data": model | {"version": str(n)}}
            for n in (1, 2)
        ]
        done = append(
            client,
            *versions,
            binding(pipeline, "model", f"model/{pipeline}@1", effective_at="2026-01-01T00:00:00Z"),
            binding(pipeline, "model", f"model/{pipeline}@2", effective_at="2026-02-01T00:00:00Z"),
        )
        assert done.status_code == 201, done.text
        last = done.json()["first_index"] + 3
        asked = {"at": "2026-01-15T00:00:00Z", "wait_for": str(last)}
        state = auditor.get(f"{where}/state", params=asked)
        assert state.json()["bindings"]["model"]["asset_version"] == f"model/{pipeline}@1"
        basis = state.json()["basis"]["tree_size"]
        local = service.prepared.run(
            "state",
            "-p",
            pipeline,
            "-s",
            "production",
            "--at",
            "2026-01-15T00:00:00Z",
            "--basis",
            str(basis),
            "-o",
            "json",
        )
        assert state.json() == json.loads(local) | {"mode": state.json()["mode"]}
        replayed = auditor.get(f"{where}/state", params=asked | {"replay": "true"})
        assert replayed.json()["state_digest"] == state.json()["state_digest"]
        diff = auditor.get(
            f"{where}/diff", params={"from": "2026-01-15T00:00:00Z", "to": f"index:{last}"}
        )
        assert f"model/{pipeline}@2" in diff.text
        impact = auditor.get(f"{L}/impact/model/{pipeline}@1")
        assert impact.status_code == 200 and pipeline in impact.text
        lineage = auditor.get(f"{L}/lineage/model/{pipeline}@1", params={"depth": 2})
        assert lineage.status_code == 200
        first = auditor.get(f"{where}/history", params={"limit": 1})
        link = first.links["next"]["url"]
        second = auditor.get(link)
        found = [page.json()["changes"][0]["asset_version"] for page in (first, second)]
        assert found == [f"model/{pipeline}@1", f"model/{pipeline}@2"]
        assert "next" not in second.links
        named = auditor.get(f"{L}/pipelines").json()["pipelines"]
        assert {"pipeline": pipeline, "stage": "production"} in named


def test_runs_are_told_with_their_end(service: Running) -> None:
    name = uuid.uuid4().hex[:8]
    begun = {"kind": "training", "pipeline": name, "stage": "production"}
    with service.client("recorder") as client, service.client("auditor") as auditor:
        done = append(
            client,
            {
                "type": "run.started/1",
                "stream": f"run/{name}-1",
                "data": {"run": f"{name}-1"} | begun,
            },
            {
                "type": "run.started/1",
                "stream": f"run/{name}-2",
                "data": {"run": f"{name}-2"} | begun,
            },
            {"type": "run.finished/1", "stream": f"run/{name}-1", "data": {"status": "succeeded"}},
        )
        assert done.status_code == 201, done.text
        found = auditor.get(f"{L}/runs", params={"pipeline": name}).json()["runs"]
        assert [(run["run"], run["status"]) for run in found] == [
            (f"{name}-2", "running"),
            (f"{name}-1", "succeeded"),
        ]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/pipelines/none/stages/production/state", 404, "no entry is about"),
        ("/pipelines/p/stages/s/state?at=2026-01-15T00:00:00", 400, "offset"),
        ("/pipelines/p/stages/s/state?at=2999-01-15T00:00:00Z", 400, "future"),
        (
            "/pipelines/p/stages/s/state?known_at=2001-01-15T00:00:00Z",
            400,
            "before the first entry",
        ),
        ("/pipelines/p/stages/s/state?att=now", 400, "did you mean at?"),
        ("/pipelines/p/stages/s/state?at=now&at=now", 400, "more than once"),
        ("/pipelines/p/stages/s/state?basis=0", 400, "basis"),
        ("/entries/999999", 404, "no entry 999999"),
        ("/entries/-1", 400, "index"),
        ("/entries?cursor=zz", 400, "no cursor"),
        ("/entries?q=actr:x", 400, "did you mean actor:?"),
        ("/entries?q=free", 400, "qualifier"),
        ("/entries?limit=100000", 400, "limit"),
        ("/consistency?from=1&to=999999", 404, "entries"),
        ("/nothing", 404, "nothing at this path"),
    ],
)
def test_wrong_questions_are_answered_with_the_place(
    sqlite_service: Running, path: str, status: int, says: str
) -> None:
    with sqlite_service.client("auditor") as client:
        refused = client.get(L + path)
        assert refused.status_code == status, refused.text
        assert slug(refused) and says in refused.json()["detail"]


def test_a_log_by_pages_misses_nothing_and_repeats_nothing(service: Running) -> None:
    stream = f"note/{uuid.uuid4().hex}"
    with service.client("recorder") as client, service.client("auditor") as auditor:
        append(client, *(NOTE | {"stream": stream, "data": {"text": f"={n}"}} for n in range(7)))
        for order in ("asc", "desc"):
            found: list[int] = []
            url: str | None = f"{L}/entries?q=stream:{stream}&limit=3&order={order}"
            while url is not None:
                page = auditor.get(url)
                found += [entry["index"] for entry in page.json()["entries"]]
                url = page.links.get("next", {}).get("url")
                append(client, NOTE)
            assert len(found) == 7 and found == sorted(found, reverse=order == "desc")
        cells = auditor.get(f"{L}/entries?q=stream:{stream}&format=csv")
        assert cells.headers["content-type"].startswith("text/csv") and cells.text.count("\n") == 8
        lines = auditor.get(
            f"{L}/entries?q=stream:{stream}", headers={"Accept": "application/x-ndjson"}
        )
        assert [json.loads(line)["version"] for line in lines.text.splitlines()] == list(
            range(1, 8)
        )
        image = auditor.get(f"{L}/entries", headers={"Accept": "image/png"})
        assert image.status_code == 406 and slug(image) == "not-acceptable"


def test_a_recorder_reads_only_its_own(service: Running) -> None:
    with service.client("recorder") as client, service.client("operator") as other:
        theirs = append(other, NOTE).json()["first_index"]
        mine = append(client, NOTE).json()["first_index"]
        assert client.get(f"{L}/entries/{mine}").status_code == 200
        assert client.get(f"{L}/entries/{theirs}").status_code == 404
        listed = client.get(f"{L}/entries?limit=1000&order=desc").json()["entries"]
        assert {entry["actor"] for entry in listed} == {"user:recorder"}


def test_large_answers_are_packed_and_tiles_are_not(sqlite_service: Running) -> None:
    with sqlite_service.client("recorder") as client, sqlite_service.client("auditor") as auditor:
        append(client, *([NOTE] * 40), Prefer="return=minimal")
        packed = {"Accept-Encoding": "gzip"}
        page = auditor.get(f"{L}/entries?limit=40", headers=packed)
        assert page.headers["content-encoding"] == "gzip" and len(page.json()["entries"]) == 40
        plain = auditor.get(f"{L}/entries?limit=40", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        small = auditor.get("/healthz", headers=packed)
        assert "content-encoding" not in small.headers
        tile = auditor.get("/t/acme/tile/entries/000.p/40", headers=packed)
        assert tile.status_code == 200 and "content-encoding" not in tile.headers


def test_an_answer_that_is_held_already_is_not_sent_again(sqlite_service: Running) -> None:
    with sqlite_service.client("auditor") as client:
        first = client.get(f"{L}/entries/0")
        again = client.get(f"{L}/entries/0", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304 and not again.content


# -------------------------------------------------------------------------------------- streams


def test_a_stream_resumes_behind_the_last_entry(service: Running) -> None:
    stream = f"note/{uuid.uuid4().hex}"
    with service.client("recorder") as client, service.client("auditor") as auditor:
        first = append(client, NOTE | {"stream": stream}).json()["first_index"]
        append(client, NOTE | {"stream": stream})
        url = f"{L}/stream?q=stream:{stream}"
        with auditor.stream("GET", url, headers={"Last-Event-ID": str(first)}) as live:
            assert live.headers["content-type"].startswith("text/event-stream")
            with closing(live.iter_lines()) as lines:
                seen = [_next_event(lines)]
                append(client, NOTE | {"stream": stream})
                seen.append(_next_event(lines))
        assert [event["version"] for event in seen] == [2, 3]
        beyond = auditor.get(f"{L}/stream", headers={"Last-Event-ID": "99999999"})
        assert beyond.status_code == 400 and "counted from 0" in beyond.text


def _next_event(lines: Iterator[str]) -> dict[str, Any]:
    line = next(line for line in lines if line.startswith("data: "))
    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return found


# -------------------------------------------------------------------------- evidence and rollback


def test_a_verification_runs_in_the_background(service: Running) -> None:
    with service.client("auditor") as client:
        begun = client.post(f"{L}/verifications", headers=key())
        assert begun.status_code == 202
        found = _until(lambda: _done(client, begun.headers["location"]), seconds=30)
        assert found["status"] == "done" and found["report"]["result"] == "VALID", found


def _done(client: httpx2.Client, url: str) -> Any:
    found = client.get(url).json()
    return found if found["status"] != "running" else None


def _until(look: Callable[[], Any], *, seconds: float) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass in time")


def test_a_report_is_a_bundle_that_a_stranger_checks(service: Running, tmp_path: Path) -> None:
    pipeline = f"p-{uuid.uuid4().hex[:8]}"
    with service.client("recorder") as client, service.client("compliance") as officer:
        append(client, binding(pipeline, "model", "model/forecaster@7"))
        asked = {"kind": "state", "pipeline": pipeline, "stage": "production", "ground": "audit"}
        made = officer.post(f"{L}/reports", json=asked, headers=key())
        assert made.status_code == 201, made.text
        path = tmp_path / "report.zip"
        path.write_bytes(made.content)
        vkey = parse_vkey(officer.get(L).json()["vkey"])
        assert read_bundle(path, vkey=vkey).result is Verdict.VALID
        listed = officer.get(f"{L}/reports").json()["reports"]
        assert listed[0]["stream"] == made.headers["asof-report"]
        assert listed[0]["actor"] == "user:compliance"
        wrong = officer.post(f"{L}/reports", json={"kind": "poem"}, headers=key())
        assert wrong.status_code == 400 and wrong.json()["pointer"] == "/kind"


def test_who_asks_for_a_rollback_cannot_approve_it(service: Running) -> None:
    pipeline = f"p-{uuid.uuid4().hex[:8]}"
    with (
        service.client("operator") as operator,
        service.client("approver") as approver,
        service.client("auditor") as auditor,
    ):
        model = {"kind": "model", "name": pipeline, "location": f"file:///srv/{pipeline}"}
        source = {"system": "files", "ref": "x"}
        versions = [
            {
                "type": "asset.version.recorded/1",
                "data": model | {"version": n, "digest": f"sha256:{n * 64}", "source": source},
            }
            for n in "12"
        ]
        done = append(operator, *versions, binding(pipeline, "model", f"model/{pipeline}@1"))
        first = done.json()["first_index"] + 2
        append(operator, binding(pipeline, "model", f"model/{pipeline}@2"))
        body = {"pipeline": pipeline, "stage": "production", "to": f"index:{first}"}
        mine = key()
        made = operator.post(f"{L}/rollbacks", json=body, headers=mine)
        assert made.status_code == 201, made.text
        again = operator.post(f"{L}/rollbacks", json=body, headers=mine)
        assert again.json() == made.json() and again.headers["idempotent-replayed"] == "true"
        other = operator.post(f"{L}/rollbacks", json=body | {"reason": "x"}, headers=mine)
        assert other.status_code == 422 and slug(other) == "idempotency-key-reused"
        where, digest = made.headers["location"], made.json()["plan_digest"]
        own = operator.post(f"{where}/approvals", json={"plan_digest": digest}, headers=key())
        assert own.status_code == 403 and slug(own) == "not-allowed"
        early = operator.post(f"{where}/execution", headers=key())
        assert early.status_code == 403 and slug(early) == "refused"
        wrong = approver.post(
            f"{where}/approvals", json={"plan_digest": "sha256:" + "0" * 64}, headers=key()
        )
        assert wrong.status_code in (403, 409), wrong.text
        mine = key()
        for _ in range(2):  # an answer that was lost is asked for again
            done = approver.post(f"{where}/approvals", json={"plan_digest": digest}, headers=mine)
            assert done.status_code == 201 and done.json()["status"] == "approved"
        unsafe = operator.post(f"{where}/execution", headers=key())
        assert unsafe.status_code == 403 and "rollback_roots" in unsafe.text
        assert auditor.get(where).json()["approval"]["by"] == "user:approver"


def test_tiles_are_those_of_an_export(service: Running, tmp_path: Path) -> None:
    with service.client("recorder") as client, service.client("auditor") as auditor:
        append(client, *([NOTE] * 300), Prefer="return=minimal")
        service.prepared.run("export", "--out", str(tmp_path / "out"), "-q")
        paths = [
            path.relative_to(tmp_path / "out")
            for path in (tmp_path / "out" / "tile").rglob("*")
            if path.is_file()
        ]
        assert len(paths) >= 5
        for path in paths:
            found = auditor.get(f"/t/acme/{path}")
            assert found.content == (tmp_path / "out" / path).read_bytes(), path
            assert "immutable" in found.headers["cache-control"]
            assert "private" in found.headers["cache-control"], "a token was needed for it"
        kept = (tmp_path / "out" / "checkpoint").read_bytes()
        now = auditor.get("/t/acme/checkpoint")
        assert now.headers["content-type"] == "text/plain; charset=utf-8"
        assert now.headers["cache-control"] == "private, max-age=5"
        assert now.content.split(b"\n")[0] == kept.split(b"\n")[0]
        for wrong in ("0/x1", "0/1", "9/000", "64/000", "0/000.p/0", "0/000.p/256", "entries/x"):
            assert auditor.get(f"/t/acme/tile/{wrong}").status_code == 404, wrong
        assert auditor.get("/t/acme/tile/0/x999/999").status_code == 404


# -------------------------------------------------------------------------------------- access


def test_nobody_is_let_in_without_a_valid_token(service: Running) -> None:
    good = service.prepared.tokens["auditor"]
    bad = [
        "",
        "Bearer",
        "Bearer nonsense",
        f"Basic {good}",
        f"Bearer {good[:-1]}x",
        f"Bearer {good[:30]}{'A' if good[30] != 'A' else 'B'}{good[31:]}",
        "Bearer asof_live_" + "A" * 62,
        f"Bearer {good} {good}",
    ]
    with service.client() as client:
        for given in bad:
            headers = {"Authorization": given} if given else {}
            refused = client.get(L, headers=headers)
            assert refused.status_code == 401 and slug(refused) == "unauthenticated", given
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/v1/nothing").status_code == 401
        fine = client.get(L, headers={"Authorization": f"bearer {good}"})
        assert fine.status_code == 200  # the control
    with service.client("auditor") as known:
        assert known.get("/v1/ledgers/other").status_code == 404
        assert known.get("/v1/nothing").status_code == 404
        wrong = known.post(f"{L}/entries/3")
        assert wrong.status_code == 405 and wrong.headers["allow"] == "GET"


def test_a_token_lives_until_it_is_revoked(service: Running) -> None:
    who = f"service:{uuid.uuid4().hex[:8]}"
    with service.client("admin") as admin, service.client() as client:
        role = {"principal": who, "role": "auditor"}
        assert admin.post(f"{L}/access/grants", json=role, headers=key()).status_code == 201
        mine, body = key(), {"principal": who}
        made = admin.post(f"{L}/access/tokens", json=body, headers=mine).json()
        again = admin.post(f"{L}/access/tokens", json=body, headers=mine)
        assert again.json() == made | {"token": None}, "the same one, and it is shown once"
        assert again.status_code == 201 and again.headers["idempotent-replayed"] == "true"
        first = {"Authorization": f"Bearer {made['token']}"}
        assert client.get("/v1/whoami", headers=first).json()["principal"] == who
        url = f"{L}/access/tokens/{made['id']}"
        second = admin.post(f"{url}/rotation", headers=key()).json()
        rotated = {"Authorization": f"Bearer {second['token']}"}
        assert {client.get(L, headers=one).status_code for one in (first, rotated)} == {200}
        assert admin.delete(url).status_code == 200
        assert client.get(L, headers=first).status_code == 401
        assert client.get(L, headers=rotated).status_code == 200
        told = {one["id"]: one for one in admin.get(f"{L}/access/tokens").json()["tokens"]}
        assert told[made["id"]]["status"] == "revoked" and told[second["id"]]["status"] == "live"
        assert made["token"] not in json.dumps(told)
        assert admin.post(f"{L}/access/revocations", json=role, headers=key()).status_code == 201
        assert client.get(L, headers=rotated).status_code == 401
        assert admin.post(f"{L}/access/grants", json=role, headers=key()).status_code == 201
        revived = client.get(L, headers=rotated)
        assert revived.status_code == 401, "coming back does not revive old tokens"


def test_an_administrator_cannot_serve_itself(service: Running) -> None:
    with service.client("admin") as admin, service.client("auditor") as auditor:
        body = {"principal": "user:admin", "role": "approver"}
        own = admin.post(f"{L}/access/grants", json=body, headers=key())
        assert own.status_code == 403 and slug(own) == "refused"
        last = {"principal": "user:admin", "role": "admin"}
        assert admin.post(f"{L}/access/revocations", json=last, headers=key()).status_code == 403
        assert admin.get(f"{L}/entries").status_code == 403
        assert auditor.post(f"{L}/access/grants", json=body, headers=key()).status_code == 403
        changes = auditor.get(f"{L}/entries?q=stream:access/roles&limit=1000").json()["entries"]
        assert changes and all(entry["data"]["principal"] for entry in changes)


def test_a_token_of_another_process_ends_within_a_second(sqlite_service: Running) -> None:
    from ledger.opening import open_ledger

    made = sqlite_service.prepared
    keys = made.folder / "keys"
    from api.service.access.changing import revoke_token
    from api.service.access.registry import Registry
    from api.service.access.tokens import id_of, load_pepper

    with open_ledger(made.environment["ASOF_STORE"], keys=keys) as ledger:
        registry = Registry(ledger.reader, load_pepper(keys))
        token = token_for(ledger, registry, "user:passing", "auditor")
        headers = {"Authorization": f"Bearer {token}"}
        with sqlite_service.client() as client:
            _until(lambda: client.get(L, headers=headers).status_code == 200 or None, seconds=5)
            registry.refresh()
            now = time.time_ns() // 1000
            ended = revoke_token(registry, id_of(token) or "", by="user:root", now=now)
            ledger.writer.append(ended.drafts)
            _until(lambda: client.get(L, headers=headers).status_code == 401 or None, seconds=5)


def test_the_setup_link_works_once(tmp_path: Path) -> None:
    with started(prepare(tmp_path, roles=("auditor",))) as running:

        def line() -> str | None:  # it is said after the address, at which requests may arrive
            said = running.log.read_text().splitlines()
            return next((one.strip() for one in said if "/setup?" in one), None)

        link = httpx2.URL(_until(line, seconds=10))
        given = dict(link.params)
        with running.client() as client:
            page = client.get(link)
            assert page.status_code == 200 and "Nobody administers" in page.text
            assert client.get("/setup?ledger=acme&key=wrong").status_code == 403
            made = client.post("/setup", data=given | {"principal": "user:ada"})
            assert made.status_code == 200, made.text
            token = made.text.partition("<code>")[2].partition("</code>")[0]
            told = client.get("/v1/whoami", headers={"Authorization": f"Bearer {token}"}).json()
            assert told["ledgers"]["acme"]["roles"] == ["admin"]
            assert client.get(link).status_code == 403
            again = client.post("/setup", data=given | {"principal": "user:eve"})
            assert again.status_code == 403
        assert token not in running.log.read_text()


# ---------------------------------------------------------------------------------- the process


def test_health_readiness_and_figures(service: Running) -> None:
    with service.client() as anyone, service.client("admin") as admin:
        assert anyone.get("/healthz").json() == {"status": "ok"}
        assert anyone.get("/readyz").json() == {"status": "ready"}
        checks = admin.get("/readyz").json()["ledgers"]["acme"]
        assert all(one["ok"] for one in checks.values()), checks
        assert anyone.get("/metrics").status_code == 401
        figures = admin.get("/metrics").text
        assert 'asof_ledger_entries{ledger="acme"}' in figures
        assert 'route="/v1/ledgers/{ledger}/entries"' in figures


def test_the_description_is_whole(sqlite_service: Running) -> None:
    with sqlite_service.client() as client:
        told = client.get("/openapi.json").json()
        assert told["openapi"].startswith("3.1")
        for path, methods in told["paths"].items():
            for method, one in methods.items():
                assert one["summary"] and one["description"], f"{method} {path}"
                assert "default" in one["responses"], f"{method} {path} describes no problem"
                assert "x-asof-permission" in one
        listed = client.get("/problems").json()["problems"]
        for one in listed:
            page = client.get(one["type"], headers={"Accept": "text/html"})
            assert page.status_code == 200 and one["title"] in page.text


def test_the_page_of_the_api_loads_nothing_from_elsewhere(sqlite_service: Running) -> None:
    folder = CHECKOUT / "api" / "service" / "vendored"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    with sqlite_service.client() as client:
        page = client.get("/docs")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert name.startswith("/") and client.get(name).status_code == 200, name
        for name in ("/docs/README.md", "/docs/..%2Fapp.py", "/docs/LICENSE"):
            assert client.get(name).status_code in (401, 404), name


def test_nothing_secret_is_in_the_log(service: Running) -> None:
    with service.client("recorder") as client:
        append(client, NOTE | {"data": {"text": "a-sentence-nobody-may-log"}})
        client.get(f"{L}/entries?q=actor:a-query-nobody-may-log")
    log = service.log.read_text()
    assert '"route":"/v1/ledgers/{ledger}/entries"' in log
    assert "nobody-may-log" not in log
    assert not any(token in log for token in service.prepared.tokens.values())


def test_a_killed_server_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("recorder", "auditor"))
    acknowledged: dict[str, int] = {}
    for _ in range(2):
        with started(made) as running, running.client("recorder") as client:
            for _ in range(25):
                mine = key()
                done = client.post(f"{L}/entries", json=NOTE, headers=mine)
                acknowledged[mine["Idempotency-Key"]] = done.json()["first_index"]
            running.kill()
    with started(made) as running, running.client("recorder") as client:
        for name, index in acknowledged.items():
            again = client.post(f"{L}/entries", json=NOTE, headers={"Idempotency-Key": name})
            assert (again.status_code, again.json()["first_index"]) == (200, index)
        assert running.stop() == 0
    assert json.loads(made.run("verify", "-o", "json"))["result"] == "VALID"
