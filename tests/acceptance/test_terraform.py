"""The state backend as Terraform meets it: a driver that speaks as it does, and the real program
where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.opening import open_ledger
from tests.support.service import Prepared, Running, prepare, started
from tests.support.terraform import LINEAGE, SECRET, Driver, driver, state

CONFIG = """
[server]
data = "service"
[terraform]
versions = 3
state_bytes = 20000
[ledgers.acme]
store = "{acme}"
keys = "keys"
[ledgers.other]
store = "{other}"
keys = "other/keys"
"""


def config_of(made: Prepared) -> str:
    other = f"sqlite:///{made.folder}/other/asof.db"
    return CONFIG.format(acme=made.environment["ASOF_STORE"], other=other)


def prepared_two(folder: Path) -> Prepared:
    """Ledger acme, and a second one with a token of its own under `other`."""
    made = prepare(folder, roles=("provisioner", "auditor", "admin", "operator", "recorder"))
    (folder / "other").mkdir()
    origin = "ledger.example.com/other"
    second = prepare(folder / "other", roles=("provisioner",), origin=origin)
    made.tokens["other"] = second.tokens["provisioner"]
    return made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepared_two(tmp_path_factory.mktemp("terraform"))
    with started(made, config=config_of(made)) as found:
        yield found


def until(found: Callable[[], Any], *, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come")


def told(running: Running, name: str, least: int) -> list[dict[str, Any]]:
    """What the ledger says of a state, at least so many entries."""

    def look() -> list[dict[str, Any]] | None:
        with running.client("auditor") as client:
            page = client.get("/v1/ledgers/acme/entries?limit=1000").json()["entries"]
        streams = (f"asset/infrastructure/terraform/{name}", f"observed/terraform/{name}")
        mine = [entry for entry in page if entry["stream"] in streams]
        return mine if len(mine) >= least else None

    found: list[dict[str, Any]] = until(look)
    return found


def kinds(entries: list[dict[str, Any]]) -> list[str]:
    return [
        entry["data"]["observed"][0]["details"]["event"]
        if entry["type"].startswith("observation")
        else f"state {entry['data']['metadata']['serial']}"
        for entry in entries
    ]


def slug(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return str(response.json()["type"]).removeprefix("/problems/")


# ------------------------------------------------------------------------------- the exchange


def test_an_apply(running: Running) -> None:
    with driver(running, "apply") as terraform:
        assert (terraform.get().status_code, terraform.get().content) == (204, b"")
        assert terraform.lock().status_code == 200
        assert terraform.post(state(1)).status_code == 200
        assert terraform.unlock().status_code == 200
        again = terraform.get()
        assert again.status_code == 200 and again.content == state(1)
        assert again.headers["cache-control"] == "no-store"
        terraform.lock()
        terraform.post(state(2, "other"))
        terraform.unlock()
    entries = told(running, "apply", 6)
    assert kinds(entries) == ["lock", "state 1", "unlock", "lock", "state 2", "unlock"]
    version = entries[1]["data"]
    assert version["digest"].startswith("sha256:") and version["size"] == len(state(1))
    assert version["metadata"]["lineage"] == LINEAGE and version["metadata"]["resources"] == 1
    assert version["source"]["claimed_actor"] == "ada@box"
    assert {entry["actor"] for entry in entries} == {"user:provisioner"}


def test_somebody_else_holds_the_lock(running: Running) -> None:
    with driver(running, "held") as ada, driver(running, "held", who="eve@box") as eve:
        assert ada.lock().status_code == 200 and ada.lock().status_code == 200
        refused = eve.lock()
        assert refused.status_code == 423 and slug(refused) == "locked"
        named = {name: refused.json()[name] for name in ada.info}
        assert named == ada.info, "the program reads the holder out of it"
        sent = eve.post(state(1))
        assert sent.status_code == 423 and sent.json()["ID"] == ada.info["ID"]
        eve.lock_id = "another"
        assert eve.post(state(1)).status_code == 423
        assert eve.unlock().status_code == 423 and eve.delete().status_code == 423
        assert eve.get().status_code == 204, "nothing of it was kept"
        assert ada.post(state(1)).status_code == 200 and ada.unlock().status_code == 200
        eve.lock_id = ""
        assert eve.lock().status_code == 200 and eve.unlock().status_code == 200
    entries = told(running, "held", 7)
    expected = ["lock", "refused", "refused", "state 1", "unlock", "lock", "unlock"]
    assert kinds(entries) == expected, "that a state was sent without the lock is known"


def test_a_lock_that_is_taken_away(running: Running) -> None:
    with driver(running, "forced") as ada, driver(running, "forced") as eve:
        ada.lock()
        assert eve.force_unlock().status_code == 200
        assert eve.force_unlock().status_code == 200, "there is none any more"
        assert ada.post(state(1)).status_code == 200, "what was built is kept"
    entries = told(running, "forced", 3)
    assert kinds(entries) == ["lock", "unlock", "state 1"]
    assert entries[1]["data"]["observed"][0]["details"]["forced"] is True
    assert entries[2]["data"]["metadata"]["under_lock"] is False


def test_one_of_many_locks_wins(running: Running) -> None:
    answers: list[int] = []
    with driver(running, "race") as first:
        drivers = [Driver(first.client, first.path) for _ in range(8)]
        barrier = threading.Barrier(len(drivers))

        def take(mine: Driver) -> None:
            barrier.wait()
            answers.append(mine.lock().status_code)

        threads = [threading.Thread(target=take, args=(mine,)) for mine in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [200] + [423] * 7
        assert [mine.post(state()).status_code for mine in drivers].count(200) == 1


def test_what_terraform_decides_itself_is_kept(running: Running) -> None:
    """An older serial, another lineage: `state push -force` does that, and the program asks."""
    other = "00000000-6c31-4f4b-8a58-5fd7a3a4c1a0"
    bodies = [state(5), state(4), state(5), state(1, lineage=other), state(1, lineage=other)]
    with driver(running, "pushed") as terraform:
        for body in bodies:
            assert terraform.post(body).status_code == 200
            assert terraform.get().content == body
    assert kinds(told(running, "pushed", 4)) == ["state 5", "state 4", "again", "state 1"]
    with running.client("provisioner") as client:
        kept = client.get("/v1/ledgers/acme/terraform/pushed/versions").json()["versions"]
        assert [one["version"].split("-")[0] for one in kept] == ["1", "5", "4"]
        older = client.get(f"/v1/ledgers/acme/terraform/pushed/versions/{kept[2]['version']}")
        assert older.content == state(4)
        none = client.get("/v1/ledgers/acme/terraform/pushed/versions/9-0000")
        assert none.status_code == 404


def test_a_state_is_deleted(running: Running) -> None:
    with driver(running, "deleted") as terraform:
        terraform.post(state(1))
        assert terraform.delete().status_code == 200 and terraform.delete().status_code == 200
        assert terraform.get().status_code == 204
        assert kinds(told(running, "deleted", 2)) == ["state 1", "delete"]
        assert terraform.get().status_code == 204, "though the ledger knows versions of it"
        assert terraform.post(state(1)).status_code == 200
        assert terraform.get().content == state(1)
    assert kinds(told(running, "deleted", 3))[2] == "again"


def test_a_state_that_is_kept_elsewhere_is_not_called_empty(running: Running) -> None:
    """The ledger knows it; this server has no file of it, as one that was lost, or another's."""
    data = {
        "kind": "infrastructure",
        "name": "terraform/elsewhere",
        "version": "1-0",
        "digest": "sha256:" + "0" * 64,
    }
    with running.client("recorder") as client, driver(running, "elsewhere") as terraform:
        assert terraform.get().status_code == 204, "the control: nobody knows of such a state"
        done = client.post(
            "/v1/ledgers/acme/entries",
            json={"type": "asset.version.recorded/1", "data": data},
            headers={"Idempotency-Key": "elsewhere"},
        )
        assert done.status_code == 201, done.text
        lost = terraform.get()
        assert lost.status_code == 500 and slug(lost) == "incomplete"
        assert "terraform.db was lost" in lost.json()["detail"]
        assert terraform.delete().status_code == 200 and terraform.get().status_code == 204


# --------------------------------------------------------------------------- what is turned away


def test_what_arrived_damaged_or_too_large_is_refused(running: Running) -> None:
    with driver(running, "damaged") as terraform:
        wrong = terraform.post(state(1), headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
        assert wrong.status_code == 400 and "Content-MD5" in wrong.json()["detail"]
        assert SECRET not in wrong.text
        assert terraform.post(b"not json " + SECRET.encode()).status_code == 400
        large = terraform.post(state(1, "x" * 20_000))
        assert large.status_code == 413 and slug(large) == "too-large"
        assert terraform.send("LOCK", b'{"ID": ""}').status_code == 400
        assert terraform.send("LOCK", b" " * 70_000).status_code == 413
        assert terraform.get().status_code == 204
        assert terraform.send("PUT", state(1)).status_code == 405
        without = terraform.client.post(terraform.path, content=state(1))
        assert without.status_code == 200, "the control: without Content-MD5 there is nothing wrong"
    for name in ("AKIAIOSFODNN7EXAMPLE", "a%20b", "-x", "x" * 101):
        with driver(running, name) as terraform:
            for answer in (terraform.get(), terraform.lock(), terraform.post(state(1))):
                assert answer.status_code == 400, name


def test_only_a_provisioner_of_this_ledger_is_let_in(running: Running) -> None:
    good = running.prepared.tokens["provisioner"]
    for token in ("nonsense", "", good[:-1] + ("x" if good[-1] != "x" else "y"), SECRET):
        with driver(running, "door", token=token) as stranger:
            for answer in (stranger.get(), stranger.lock(), stranger.post(state(1))):
                assert answer.status_code == 401 and slug(answer) == "unauthenticated"
                assert answer.headers["www-authenticate"].startswith("Bearer")
    tokens = {name: running.prepared.tokens[name] for name in ("other", "auditor", "admin")}
    for name in ("operator", "recorder"):
        tokens[name] = running.prepared.tokens[name]
    for name, token in tokens.items():
        with driver(running, "door", token=token) as known:
            for answer in (known.get(), known.lock(), known.post(state(1)), known.unlock()):
                assert answer.status_code == 403, f"{name}: a 404 would be an empty state"
    with driver(running, "door", ledger="acem") as mistyped:
        assert (mistyped.get().status_code, mistyped.lock().status_code) == (403, 403)
    with driver(running, "door", token=tokens["other"], ledger="other") as theirs:
        assert theirs.post(state(1)).status_code == 200
    for user in ("asof", "ci", "a:b"[:1]):
        with driver(running, "door", user=user) as terraform:
            assert terraform.get().status_code == 204, "their state is not ours"
    with running.client() as client:
        basic = client.get("/v1/whoami", auth=("asof", good))
        assert basic.status_code == 401, "a password is a token nowhere else"
        bearer = client.get("/terraform/acme/door", headers={"Authorization": f"Bearer {good}"})
        assert bearer.status_code == 204


def test_a_revoked_token_is_turned_away(running: Running) -> None:
    who = {"principal": "service:ci"}
    access = "/v1/ledgers/acme/access"
    with running.client("admin") as admin:
        role = who | {"role": "provisioner"}
        granted = admin.post(f"{access}/grants", json=role, headers={"Idempotency-Key": "g"})
        assert granted.status_code == 201, granted.text
        made = admin.post(f"{access}/tokens", json=who, headers={"Idempotency-Key": "t"}).json()
        with driver(running, "revoked", token=made["token"]) as terraform:
            assert terraform.lock().status_code == 200
            assert admin.delete(f"{access}/tokens/{made['id']}").status_code == 200
            assert terraform.post(state(1)).status_code == 401


@pytest.mark.parametrize("method", ["LOCK", "UNLOCK", "POST"])
def test_no_body_is_an_error_of_the_server(running: Running, method: str) -> None:
    """What the fuzzer of the description cannot send: LOCK and UNLOCK are no words of OpenAPI."""
    texts = st.text(max_size=30)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    )
    names = st.sampled_from(["ID", "Who", "Created", "serial", "lineage", "resources", "x"])
    bodies = st.binary(max_size=40) | st.dictionaries(names, values, max_size=5).map(
        lambda told: json.dumps(told).encode()
    )

    with driver(running, f"fuzzed-{method.lower()}") as terraform:

        @given(body=bodies)
        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def ask(body: bytes) -> None:
            assert terraform.send(method, body).status_code in (200, 400, 423)

        ask()
    with running.client("auditor") as client:
        assert client.get("/v1/ledgers/acme/ingest/spool?state=dead").json()["deliveries"] == []


# ------------------------------------------------------------------------ restarts and secrets


def test_a_killed_server_forgets_neither_lock_nor_state(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("provisioner", "auditor"))
    with started(made) as running, driver(running, "prod") as ada:
        info = ada.info
        assert ada.lock().status_code == 200
        assert ada.post(state(1)).status_code == 200
        running.kill()
    with started(made) as running, driver(running, "prod") as eve:
        assert eve.lock().json()["ID"] == info["ID"]
        assert eve.get().content == state(1)
        eve.info = info
        assert eve.unlock().status_code == 200 and eve.lock().status_code == 200
        assert kinds(told(running, "prod", 4)) == ["lock", "state 1", "unlock", "lock"]
        assert running.stop() == 0
    assert json.loads(made.run("verify", "-o", "json"))["result"] == "VALID"


def test_no_value_lies_anywhere_in_clear_and_reading_one_is_an_entry(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("provisioner", "auditor"))
    with started(made) as running, driver(running, "prod", who=f"who-{SECRET[:12]}@box") as one:
        one.lock()
        assert one.post(state(1)).status_code == 200
        one.lock_id = "wrong"
        assert one.post(state(2)).status_code == 423
        one.post(b"{" + SECRET.encode())
        one.unlock()
        assert one.get().content == state(1) and one.get().status_code == 200
        told(running, "prod", 4)
        assert running.stop() == 0, "the sums of reads are recorded at the end"
    with open_ledger(made.environment["ASOF_STORE"], keys=tmp_path / "keys") as ledger:
        reads = [entry.data for entry in ledger.reader.entries() if entry.stream == "access/reads"]
    shown = [one for one in reads if one and one["action"] == "terraform_state"]
    assert [(one["principal"], one["count"]) for one in shown] == [("user:provisioner", 2)]
    needle = SECRET.encode()
    assert holding(tmp_path, needle) == []
    assert "server.log" in holding(tmp_path, b"/terraform/{ledger}/{state}")
    seen = holding(tmp_path, f"who-{SECRET[:12]}".encode())
    assert "asof.db" in seen, "the control: the scan sees what is in the ledger's file"
    token = made.tokens["provisioner"].encode()
    assert holding(tmp_path, token) == []
    (tmp_path / "planted").write_bytes(b"x" * 999 + needle)
    assert holding(tmp_path, needle) == ["planted"], "the control: it sees the secret itself"


def holding(folder: Path, needle: bytes) -> list[str]:
    """The files that hold these bytes."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and needle in path.read_bytes()
    )


# ------------------------------------------------------------------------------ the real program

MAIN = """
terraform {
  backend "http" {}
}
variable "value" {
  default = "one"
}
resource "terraform_data" "x" {
  input = var.value
}
"""


@pytest.mark.parametrize("program", ["terraform", "tofu"])
def test_the_real_program(running: Running, tmp_path: Path, program: str) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on PATH")
    (tmp_path / "main.tf").write_text(MAIN)
    address = f"{running.url}/terraform/acme/{program}"
    told_env = {
        "TF_HTTP_ADDRESS": address,
        "TF_HTTP_LOCK_ADDRESS": address,
        "TF_HTTP_UNLOCK_ADDRESS": address,
        "TF_HTTP_USERNAME": "asof",
        "TF_HTTP_PASSWORD": running.prepared.tokens["provisioner"],
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(tmp_path),
    }

    def run(*arguments: str, fails: bool = False, **more: str) -> str:
        done = subprocess.run(
            [found, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]} | told_env | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("init", "-no-color")
    run("apply", "-auto-approve", "-no-color")
    run("apply", "-auto-approve", "-no-color", "-var", "value=two")
    pulled = run("state", "pull").replace(" ", "")
    assert '"two"' in pulled and '"serial":2' in pulled
    with driver(running, program, who="eve@box") as other:
        assert other.lock().status_code == 200
        held = run("apply", "-auto-approve", "-no-color", "-var", "value=three", fails=True)
        assert other.info["ID"] in held and "locked" in held
        run("force-unlock", "-force", other.info["ID"])
    run("apply", "-auto-approve", "-no-color", "-var", "value=three")
    assert "auth" in run("state", "pull", fails=True, TF_HTTP_PASSWORD="nobody")
    wrong = address.replace("/acme/", "/acem/")
    run("init", "-reconfigure", fails=True, TF_HTTP_ADDRESS=wrong)
    entries = told(running, program, 11)
    events = [one for one in kinds(entries) if one.startswith("state")]
    assert events == ["state 1", "state 2", "state 3"]
    seen = [one["data"]["observed"][0]["details"] for one in entries if "observed" in one["data"]]
    forced = [one["lock"]["id"] for one in seen if one["event"] == "unlock" and one["forced"]]
    assert forced == [other.info["ID"]], "the command says so by sending nothing"
