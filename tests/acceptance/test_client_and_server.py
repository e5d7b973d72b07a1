"""The client library against the real server: nothing lost, nothing doubled, nothing in the way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asof
import pytest
from asof.aio import AsyncClient

from ledger.note import parse_vkey
from ledger.opening import open_ledger
from ledger.receipt import check_receipt, parse_receipt
from tests.support.service import CHECKOUT, Running, prepare, started

PIPELINE = """
import os, sys, time
import asof

asof.configure(server=sys.argv[1], ledger="acme", spool=sys.argv[2], pipeline="p", stage="prod")
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    asof.record("note.added/1", {"text": f"step {number}"}, stream="note/steps")
    print(number, flush=True)
    time.sleep(0.002)
if "wait" in sys.argv:
    assert asof.flush(60), "not everything was acknowledged"
"""


@pytest.fixture
def client(sqlite_service: Running, tmp_path: Path) -> Iterator[asof.Client]:
    made = asof.configure(
        server=sqlite_service.url,
        token=sqlite_service.prepared.tokens["recorder"],
        ledger="acme",
        pipeline=f"p{time.time_ns()}",
        stage="production",
        spool=tmp_path / "spool",
    )
    yield made
    made.flush(5)


def entries(running: Running, query: str) -> list[dict[str, Any]]:
    with running.client("auditor") as auditor:
        found = auditor.get("/v1/ledgers/acme/entries", params={"q": query, "limit": 1000})
        listed: list[dict[str, Any]] = found.json()["entries"]
        return listed


# --------------------------------------------------------------------------- a pipeline is recorded


def test_a_run_with_all_that_belongs_to_it(
    client: asof.Client, sqlite_service: Running, tmp_path: Path
) -> None:
    orders, model = tmp_path / "orders.csv", tmp_path / "model.pkl"
    orders.write_text("day,units\n1,2\n")
    dataset = asof.record_dataset(orders, name="orders")
    config = asof.record_config({"alpha": 0.5}, name="forecast")
    with asof.run("training", inputs=[dataset, config], params={"alpha": 0.5}) as run:
        model.write_bytes(b"weights")
        asof.record_metrics({"mape_percent": 7.9})
        made = asof.record_model(model, name="forecaster")
    asof.bind("model", made, reason="better")
    assert asof.flush(20)
    state = asof.state()
    assert state.bindings == {"model": str(made)}
    assert "forecaster" in state._repr_html_() and "<script" not in run._repr_html_()
    told = entries(sqlite_service, f"stream:run/{run.id}")
    assert [entry["type"] for entry in told] == ["run.started/1", "run.finished/1"]
    assert told[0]["data"]["inputs"] == [str(dataset), str(config)]
    assert told[1]["data"]["status"] == "succeeded" and told[1]["data"]["outputs"] == [str(made)]
    assert told[1]["data"]["metrics"]["mape_percent"] == 7.9
    recorded = entries(sqlite_service, "stream:asset/model/forecaster")
    assert recorded[-1]["data"]["parents"] == [str(dataset), str(config)]


def test_a_folder_has_the_digest_that_a_capture_gives_it(
    client: asof.Client, sqlite_service: Running, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "b.csv").write_text("2")
    (folder / "a.csv").write_text("1")
    found = asof.record_dataset(folder, name="folder")
    (tmp_path / "other").mkdir()
    local = prepare(tmp_path / "other", roles=())
    told = local.run(
        "capture", "files", str(folder), "-p", "p", "-s", "s", "--slot", "data", "-o", "json"
    )
    assert f"dataset/data@{found.digest.removeprefix('sha256:')}" in told


def test_how_a_run_ends_is_recorded_also_when_it_raises(
    client: asof.Client, sqlite_service: Running
) -> None:
    @asof.track(kind="evaluation")
    def fails(secret: str) -> None:
        raise ValueError(f"about {secret}")

    @asof.track
    async def later(number: int) -> int:
        return number + 1

    with pytest.raises(ValueError, match="about x"):
        fails("x")
    assert asyncio.run(later(1)) == 2
    assert asof.flush(20)
    ends = entries(sqlite_service, "type:run.finished after:1h actor:user:recorder")
    mine = [end["data"] for end in ends][-2:]
    assert [one["status"] for one in mine] == ["failed", "succeeded"]
    assert mine[0]["reason"] == "raised ValueError" and "about x" not in json.dumps(mine)


def test_receipts_are_kept_and_hold_offline(client: asof.Client, sqlite_service: Running) -> None:
    one = asof.record("note.added/1", {"text": "kept"}, stream="note/kept")
    assert one.wait(20) and one.receipt is not None and one.index is not None
    found = asof.verify(one)
    assert found.count == 1 and found.tree_size > one.index
    everything = asof.verify()
    assert everything.count >= 1 and "compare with a witness" in everything._repr_html_()
    vkey = parse_vkey(client.vkey())
    check_receipt(parse_receipt(one.receipt.line().encode()), vkey)  # the server's own check agrees
    other = json.loads(one.receipt.line())
    forged = asof.Receipt.from_json({**other, "entry": other["entry"].replace("kept", "kepT")})
    with pytest.raises(asof.VerificationError, match="leaf hash"):
        asof.verify(forged)


def test_another_key_is_a_hard_error(
    client: asof.Client, sqlite_service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent to a server that shows another key; what was recorded waits."""
    assert asof.record("note.added/1", {"text": "x"}, stream="note/key").wait(20)
    pinned, path = client.vkey(), client.folder / "ledger.vkey"
    assert parse_vkey(pinned) == parse_vkey(path.read_text().strip())
    client.close()
    path.write_text(f"{pinned.partition('+')[0]}+00000000+AA==\n")
    other = asof.Client(
        server=client.server, token=client.token, ledger="acme", spool=client.folder, timeout=1
    )
    with caplog.at_level(logging.WARNING, "asof"):
        kept = other.record("note.added/1", {"text": "y"}, stream="note/key")
        assert not kept.wait(0.5)
    assert "another ledger" in caplog.text
    with pytest.raises(asof.VerificationError, match="another ledger"):
        other.vkey()
    texts = [entry["data"]["text"] for entry in entries(sqlite_service, "stream:note/key")]
    assert texts == ["x"]
    path.write_text(pinned + "\n")
    assert kept.wait(20), "the key is right again: it goes on"
    assert other.vkey() == pinned
    other.close()


def test_questions_await(client: asof.Client) -> None:
    async def asked() -> tuple[dict[str, str], int]:
        async with AsyncClient() as there:
            there.record(
                "binding.changed/1",
                {
                    "pipeline": client.pipeline,
                    "stage": "production",
                    "slot": "model",
                    "asset_version": "model/m@1",
                },
            )
            state = await there.state()
            found = await there.log("type:binding.*", limit=3)
            assert (await there.verify()).count >= 1
            return state.bindings, len(found)

    bindings, count = asyncio.run(asked())
    assert bindings == {"model": "model/m@1"} and 1 <= count <= 3
    with pytest.raises(asof.ProblemError) as caught:
        asof.state("nobody", "nowhere")
    assert caught.value.status == 404 and caught.value.slug == "not-found"


# --------------------------------------------------------------------------------- never in the way


def test_nothing_raises_into_training_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "asof"):
        away = asof.configure(
            server="http://127.0.0.1:9", token="t", ledger="acme", spool=tmp_path / "spool"
        )
        with asof.run("training") as run:
            run.record_metrics({"loss": float("nan"), "object": object()})
            asof.record_dataset(tmp_path / "missing.csv", name="missing")
            asof.record("note.added/1", {"text": float("nan")})
        assert not asof.flush(0.3)
    assert "not sent yet" in caplog.text and "missing.csv" in caplog.text
    assert len(list((tmp_path / "spool").glob("*.spool"))) == 1, "it is kept for later"
    strict = asof.Client(spool=tmp_path / "strict", strict=True, timeout=0.2)
    with pytest.raises(asof.NotSentError):
        strict.record("note.added/1", {"text": "x"}, stream="note/x")
    away._sender.close(0)


def test_a_refused_record_is_put_aside_and_the_rest_goes_on(
    client: asof.Client, sqlite_service: Running
) -> None:
    good = asof.record("note.added/1", {"text": "before"}, stream="note/aside")
    bad = asof.record("note.aded/1", {"text": "wrong"}, stream="note/aside")
    after = asof.record("note.added/1", {"text": "after"}, stream="note/aside")
    assert asof.flush(20) and good.index is not None and after.index is not None
    assert bad.index is None and isinstance(bad.error, asof.ProblemError)
    aside = (client.folder / "refused.jsonl").read_text()
    assert "note.added/1" in aside and "wrong" in aside
    texts = [entry["data"]["text"] for entry in entries(sqlite_service, "stream:note/aside")]
    assert texts == ["before", "after"]


def test_a_full_spool_is_told_and_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = asof.Client(spool=tmp_path, spool_bytes=2_000)
    with caplog.at_level(logging.WARNING, "asof"):
        for _ in range(100):
            small.record("note.added/1", {"text": "x" * 100}, stream="note/x")
    assert "its limit" in caplog.text
    assert sum(path.stat().st_size for path in tmp_path.glob("*.spool")) <= 2_000
    small._sender.close(0)


def test_the_cost_of_a_call(client: asof.Client) -> None:
    """The goal is 100 µs, measured at rest in docs/client.md; here it must be of that order on
    whatever machine runs the tests."""
    times = []
    for number in range(2_000):
        begin = time.perf_counter()
        asof.record("note.added/1", {"text": f"step {number}"}, stream="note/cost")
        times.append(time.perf_counter() - begin)
    assert statistics.median(times) < 0.000_5


# ---------------------------------------------------------------------------- killed on either side


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def pipeline(url: str, spool: Path, token: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PIPELINE, url, str(spool), *arguments],
        env={**os.environ, "ASOF_TOKEN": token, "PYTHONPATH": str(CHECKOUT / "client" / "src")},
        stdout=subprocess.PIPE,
    )


def steps(store: str, keys: Path) -> list[int]:
    """The numbers of all steps in the ledger, in its order."""
    with open_ledger(store, keys=keys, write=False) as ledger:
        return [
            int(str((record.data or {})["text"]).split()[1])
            for record in ledger.reader.stream("note/steps")
        ]


def test_a_server_that_is_killed_in_between_loses_and_doubles_nothing(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("recorder",))
    port = free_port()
    url, token = f"http://127.0.0.1:{port}", made.tokens["recorder"]
    with pipeline(url, tmp_path / "spool", token, "0", "600", "wait") as process:
        for _ in range(2):
            with started(made, port=port) as running:
                time.sleep(0.4)
                running.kill()
        with started(made, port=port):
            assert process.wait(60) == 0
    assert steps(made.environment["ASOF_STORE"], tmp_path / "keys") == list(range(600))


def test_a_client_that_is_killed_loses_nothing_that_was_called(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("recorder",))
    port = free_port()
    url, token, spool = f"http://127.0.0.1:{port}", made.tokens["recorder"], tmp_path / "spool"
    done = 0
    with started(made, port=port):
        for _ in range(3):
            with pipeline(url, spool, token, str(done), str(done + 10_000)) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if int(line) >= done + 60:
                        process.send_signal(signal.SIGKILL)
                        break
                rest = [int(one) for one in process.stdout.read().split()]
                done = max([int(line), *rest]) + 1
        with pipeline(url, spool, token, str(done), str(done + 1), "wait") as process:
            assert process.wait(60) == 0
    found = steps(made.environment["ASOF_STORE"], tmp_path / "keys")
    assert len(found) == len(set(found)), "nothing is there twice"
    assert set(range(done + 1)) <= set(found), "whatever was called is there"


def test_ranks_and_forks_have_spools_of_their_own(
    client: asof.Client, sqlite_service: Running
) -> None:
    asof.record("note.added/1", {"text": "parent"}, stream="note/forked")
    pids = []
    for rank in range(3):
        pid = os.fork()
        if pid == 0:
            asof.record("note.added/1", {"text": f"rank {rank}"}, stream="note/forked")
            os._exit(0 if asof.flush(20) else 1)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids) and asof.flush(20)
    texts = sorted(entry["data"]["text"] for entry in entries(sqlite_service, "stream:note/forked"))
    assert texts == ["parent", "rank 0", "rank 1", "rank 2"]
