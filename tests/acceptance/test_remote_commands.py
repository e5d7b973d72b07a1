"""The command line against a server gives the same answers as beside the store."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from api.cli.app import run
from ledger.keys import load_vkey
from ledger.note import format_vkey
from ledger.opening import create_ledger
from tests.support.proxy import TO_CLIENT, Proxy
from tests.support.service import ORIGIN, Prepared, Running, prepare, started

P = ["-p", "shop", "-s", "production"]


def prepared(made: Prepared, *arguments: str) -> None:
    done = command(made.environment, made.folder, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("remote"))
    lines = [
        {
            "type": "asset.version.recorded/1",
            "data": {
                "kind": "model",
                "name": "m",
                "version": n,
                "digest": f"sha256:{n * 64}",
                "location": "file:///srv/m",
                "source": {"system": "files", "ref": "m"},
            },
        }
        for n in "12"
    ]
    (made.folder / "lines").write_text("\n".join(json.dumps(line) for line in lines))
    prepared(made, "record", "lines")
    prepared(made, "bind", "model/m@1", *P, "--slot", "model")
    prepared(made, "tag", "release-1")
    prepared(made, "bind", "model/m@2", *P, "--slot", "model", "--reason", "better")
    prepared(made, "run", "start", "r1", *P, "--input", "model/m@2")
    prepared(made, "run", "finish", "r1", "--made", "model/m@2")
    prepared(made, "note", "a note", "--topic", "about")
    with started(made) as running:
        yield running


def local(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(running.prepared.environment, running.prepared.folder, *arguments)


def remote(
    running: Running, *arguments: str, role: str = "operator", **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ASOF_")},
        "ASOF_SERVER": running.url,
        "ASOF_TOKEN": running.prepared.tokens.get(role, role),
        "PYTHONPATH": running.prepared.environment["PYTHONPATH"],
        **more,
    }
    folder = running.prepared.folder / "elsewhere"
    folder.mkdir(exist_ok=True)
    return command(environment, folder, *arguments)


def command(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """The program itself, in this process: a start takes longer than a question."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = run(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize(
    "asked",
    [
        ["state", *P, "--at", "tag:release-1"],
        ["state", *P, "--at", "tag:release-1", "-o", "json"],
        ["state", *P, "--at", "tag:release-1", "-o", "csv"],
        ["diff", *P, "--from", "tag:release-1", "--to", "index:18"],
        ["history", *P],
        ["history", *P, "--slot", "model", "-o", "json"],
        ["log", "--to", "index:12", "-o", "jsonl"],
        ["log", "type:binding.* stage:production", "--last", "1"],
        ["show", "14"],
        ["lineage", "model/m@2", "--at", "index:18", "-o", "json"],
        ["impact", "model/m@2", "--at", "index:18"],
        ["rollback", "list"],
        ["show", "999"],
        ["state", "-p", "nobody", "-s", "nowhere"],
        ["state", *P, "--at", "2026-01-01T00:00:00"],
        ["log", "actr:x"],
    ],
    ids=lambda asked: " ".join(asked[:4]),
)
def test_a_question_is_answered_alike(running: Running, asked: list[str]) -> None:
    here, there = local(running, *asked), remote(running, *asked)
    assert there.returncode == here.returncode, there.stderr
    if here.returncode == 0:
        assert _settled(there.stdout) == _settled(here.stdout)
        assert here.stdout.strip()
    else:
        first = here.stderr.splitlines()[0].removeprefix("asof: ")[:40]
        assert first in there.stderr


def _settled(text: str) -> str:
    """Without what moves on while others record: the basis of an answer."""
    return re.sub(r'"basis":\s*\{[^}]*\}|(?m:^(basis|stands on) .*$)', "", text)


def test_the_comparison_would_notice(running: Running) -> None:
    here = local(running, "state", *P, "--at", "tag:release-1", "-o", "json")
    there = remote(running, "state", *P, "-o", "json")
    assert _settled(here.stdout) != _settled(there.stdout)


def test_recording_from_far_away(running: Running, tmp_path: Path) -> None:
    kept = tmp_path / "receipts"
    told = remote(
        running, "note", "from afar", "--topic", "far", "--receipt", str(kept), "-o", "json"
    )
    assert told.returncode == 0, told.stderr
    index = json.loads(told.stdout)["first_index"]
    entry = json.loads(local(running, "show", str(index), "-o", "json").stdout)
    assert entry["actor"] == "user:operator" and entry["data"]["text"] == "from afar"
    checked = local(running, "verify", "--receipt", str(kept))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    again = [
        remote(running, "note", "once", "--topic", "k", "--idempotency-key", "k1", "-o", "json")
        for _ in range(2)
    ]
    assert [json.loads(one.stdout)["repeated"] for one in again] == [False, True]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("1")
    seen = remote(running, "capture", "files", str(folder), *P, "--slot", "data/orders")
    assert seen.returncode == 0, seen.stderr
    state = json.loads(remote(running, "state", *P, "-o", "json").stdout)
    assert set(state["bindings"]) == {"model", "data/orders"}
    proof = tmp_path / "one.tlog-proof"
    done = remote(
        running, "prove", str(index), "--out", str(proof), "--entry", str(tmp_path / "e.json")
    )
    assert done.returncode == 0, done.stderr
    checked = local(running, "verify", str(proof), "--entry", str(tmp_path / "e.json"))
    assert checked.returncode == 0, checked.stdout


def test_an_answer_that_is_lost_is_asked_for_again(running: Running) -> None:
    """The server records, the answer is cut off on its way: one entry, and its receipt."""
    with Proxy(int(running.url.rpartition(":")[2])) as proxy:
        through = {"ASOF_SERVER": f"http://127.0.0.1:{proxy.port}", "ASOF_LEDGER": "acme"}
        proxy.cut(TO_CLIENT, after=20)
        told = remote(running, "note", "once", "--topic", "lost", "-o", "json", **through)
        assert (told.returncode, proxy.cuts) == (0, 1), told.stderr
        answer = json.loads(told.stdout)
        assert answer["repeated"], "the first attempt was recorded"
        again = remote(running, "note", "once", "--topic", "lost", **through)
        assert again.returncode == 0, "negative control: another key is another entry"
    found = local(running, "log", "stream:note/lost", "-o", "jsonl").stdout.splitlines()
    assert len(found) == 2 and json.loads(found[0])["index"] == answer["first_index"]


def test_a_pinned_key_decides_what_is_believed(running: Running, tmp_path: Path) -> None:
    own = local(running, "keys", "public").stdout.strip()
    told = remote(running, "note", "x", "--topic", "pin", ASOF_VKEY=own)
    assert told.returncode == 0, told.stderr
    create_ledger(f"sqlite:///{tmp_path}/b.db", origin=ORIGIN, keys=tmp_path / "b").close()
    another = format_vkey(load_vkey(tmp_path / "b"))
    told = remote(running, "note", "x", "--topic", "pin", ASOF_VKEY=another)
    assert told.returncode == 1 and "no signature by a known key" in told.stderr
    told = remote(running, "note", "x", "--topic", "pin", ASOF_VKEY="nonsense")
    assert told.returncode == 2 and "ASOF_VKEY" in told.stderr
    found = local(running, "log", "stream:note/pin", "-o", "jsonl").stdout.splitlines()
    assert len(found) == 2, "what cannot be read is found out before anything is sent"


def test_a_rollback_from_far_away_needs_two(running: Running) -> None:
    made = remote(running, "rollback", "plan", *P, "--to", "tag:release-1", "--slot", "model",
                  "-o", "json")  # fmt: skip
    assert made.returncode == 0, made.stderr
    plan = json.loads(made.stdout)["rollback"]
    own = remote(running, "rollback", "approve", plan, "--yes")
    assert own.returncode == 4, own.stderr
    done = remote(running, "rollback", "approve", plan, "--yes", role="approver")
    assert done.returncode == 0, done.stderr
    ran = remote(running, "rollback", "run", plan, "--yes")
    assert ran.returncode == 4 and "rollback_roots" in ran.stderr
    status = json.loads(remote(running, "rollback", "status", plan, "-o", "json").stdout)
    assert status["status"] == "approved"


def test_a_server_that_verifies_itself_says_so(running: Running) -> None:
    told = remote(running, "verify", role="auditor")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("VALID") and "verified its own ledger" in told.stdout


def test_following_from_far_away(running: Running) -> None:
    environment = {
        **os.environ,
        "ASOF_SERVER": running.url,
        "ASOF_TOKEN": running.prepared.tokens["auditor"],
        "PYTHONPATH": running.prepared.environment["PYTHONPATH"],
    }
    with subprocess.Popen(
        [sys.executable, "-m", "api.cli", "log", "stream:note/live", "-f", "-o", "jsonl"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        time.sleep(1.5)
        local(running, "note", "first", "--topic", "live")
        assert json.loads(process.stdout.readline())["data"]["text"] == "first"
        process.terminate()


def test_following_goes_on_when_the_server_comes_back(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("auditor",))
    with started(made) as first:
        port = int(first.url.rpartition(":")[2])
        following = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "log", "stream:note/live", "-f", "-o", "jsonl"],
            env={
                **os.environ,
                "ASOF_SERVER": first.url,
                "ASOF_TOKEN": made.tokens["auditor"],
                "PYTHONPATH": made.environment["PYTHONPATH"],
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        with following as process:
            assert process.stdout is not None
            time.sleep(1.5)
            prepared(made, "note", "before", "--topic", "live")
            assert json.loads(process.stdout.readline())["data"]["text"] == "before"
            first.kill()
            prepared(made, "note", "meanwhile", "--topic", "live")
            with started(made, port=port):
                assert json.loads(process.stdout.readline())["data"]["text"] == "meanwhile"
                process.terminate()


@pytest.mark.parametrize(
    ("arguments", "role", "code", "says"),
    [
        (["state", *P], "asof_live_nonsense", 4, "the token is not taken"),
        (["export", "--out", "x"], "operator", 2, "works beside the store"),
        (["note", "x"], "auditor", 4, "entries:append"),
        (["state", *P, "--server", "http://127.0.0.1:9"], "operator", 6, "does not answer"),
        (["state", *P, "--server", "ledger.example.com"], "operator", 2, "no URL of a server"),
        (["state", *P, "--ledger", "other"], "operator", 3, "no such ledger"),
        (["note", "x", "--actor", "user:else"], "operator", 2, "whose token it is"),
        (["verify", "--receipt", "x"], "auditor", 2, "the server verifies its own ledger"),
        (["verify", "--against", "x"], "auditor", 2, "the server verifies its own ledger"),
        (["verify", "--policy", "x"], "auditor", 2, "the server verifies its own ledger"),
        (["rollback", "plan", *P, "--to", "now", "--no-approval"], "operator", 2, "must approve"),
    ],
)
def test_what_does_not_work_says_why(
    running: Running, arguments: list[str], role: str, code: int, says: str
) -> None:
    done = remote(running, *arguments, role=role)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
