"""The client's spool: what was called is in the ledger once, whoever dies and whatever is cut."""

from __future__ import annotations

import json
import logging
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asof
import pytest
from asof import segments
from asof import spool as spool_module
from asof.spool import Spool
from asof.transport import Transport

from tests.support.append_server import FAULTS, AppendServer
from tests.support.kills import kill_points
from tests.support.service import CHECKOUT

CALLS = [(os, name) for name in ("write", "rename", "unlink")]  # what changes what is on the disk


@pytest.fixture
def server() -> Iterator[AppendServer]:
    with AppendServer() as made:
        yield made


@pytest.fixture
def connect(server: AppendServer, tmp_path: Path) -> Iterator[Callable[..., asof.Client]]:
    """Clients of the server over one spool folder, closed at the end."""
    made: list[asof.Client] = []

    def new(**more: object) -> asof.Client:
        settings = {"server": server.url, "ledger": "acme", "spool": tmp_path / "spool", **more}
        made.append(asof.Client(**settings))  # type: ignore[arg-type]
        return made[-1]

    yield new
    server.faults.clear()
    for one in made:
        one.close()


def say(client: asof.Client, text: str) -> asof.Recorded:
    return client.record("note.added/1", {"text": text}, stream="note/steps")


def files(client: asof.Client, pattern: str = "*.spool") -> list[Path]:
    return sorted(client.folder.glob(pattern))


# --------------------------------------------------------------------------- the process is killed


def test_killed_before_any_call_to_the_disk(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    """A child records and sends, and dies before its n-th call, for each n; the next process sends
    what is left. What had returned is there, nothing is there twice, and what is there is in order.
    """
    returned = mmap.mmap(-1, 8)
    rounds = 0

    def act() -> None:
        child = connect()
        for number in range(8):
            say(child, f"{rounds}.{number}")
            returned[number] = 1
            if number == 3:
                child.flush(60)
        assert child.flush(60) and child.close(60)

    for rounds, _ in enumerate(kill_points(act, CALLS), 1):
        called = [f"{rounds - 1}.{number}" for number in range(8) if returned[number]]
        returned[:] = bytes(8)
        after = connect()
        say(after, "after")
        assert after.flush(60)
        after.close()
        texts = [text for text in server.texts() if text.startswith(f"{rounds - 1}.")]
        assert texts == sorted(set(texts)), "nothing is there twice, and all in order"
        assert set(called) <= set(texts), "what had returned is there"
        assert not files(after), "and nothing is left"
    assert rounds > 12


def test_the_check_sees_a_record_that_is_doubled(tmp_path: Path) -> None:
    """The control: a server that forgets keys, and an answer that is lost."""
    with AppendServer(forgets_keys=True) as server:
        server.faults.append("lost")
        client = asof.Client(server=server.url, ledger="acme", spool=tmp_path)
        say(client, "once")
        assert client.flush(10)
        client.close()
        assert server.texts() == ["once", "once"]


def test_the_check_sees_a_record_that_is_lost(server: AppendServer, tmp_path: Path) -> None:
    """The control: a spool that is removed before anybody sends it."""
    away = asof.Client(spool=tmp_path)
    say(away, "gone")
    away.close()
    for path in files(away):
        path.unlink()
    after = asof.Client(server=server.url, ledger="acme", spool=tmp_path)
    say(after, "after")
    assert after.flush(10)
    after.close()
    assert server.texts() == ["after"]


PIPELINE = """
import sys, asof
client = asof.configure(server=sys.argv[1], ledger="acme", spool=sys.argv[2])
number = 0
while True:
    asof.record("note.added/1", {"text": f"{sys.argv[3]}.{number:06d}"}, stream="note/steps")
    print(number, flush=True)
    number += 1
"""


def test_ranks_that_are_killed_at_any_moment(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    """Two processes over one folder, while answers are lost; each is killed at a random moment."""
    server.faults.extend(["lost", "", "unknown", "cut", "", "lost"] * 4)
    folder = str(connect().folder)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "client" / "src")}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PIPELINE, server.url, folder, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    said = []
    for process in ranks:
        assert process.stdout is not None and process.stdout.readline()
    for process in ranks:
        time.sleep(random.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        said.append(max([0, *(int(line) for line in process.stdout.read().split())]))
        process.stdout.close()
        process.wait(10)
    server.faults.clear()
    after = connect()
    say(after, "after")
    assert after.flush(20)
    texts = server.texts()
    assert len(texts) == len(set(texts)), "nothing is there twice"
    for rank, last in enumerate(said):
        mine = [text for text in texts if text.startswith(f"{rank}.")]
        assert mine[: last + 1] == [f"{rank}.{number:06d}" for number in range(last + 1)]


# ------------------------------------------------------------------------ the server fails somehow


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_the_server_does_it_is_there_once(
    fault: str,
    server: AppendServer,
    connect: Callable[..., asof.Client],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("asof.sender.MOST_PAUSE", 0.2)
    client = connect()
    server.faults.append(fault)
    with caplog.at_level(logging.WARNING, "asof"):
        one = say(client, "one")
        assert one.wait(10) and one.index == 1
        say(client, "two")
        assert client.flush(10)
    assert server.texts() == ["one", "two"]
    assert caplog.records, "it is said"
    if len(server.requests) == 3:
        assert server.requests[0] == server.requests[1], "the same request, to the byte"
    asof.verify(client.receipts, vkey=server.vkey)


def test_a_server_that_is_away_is_waited_for(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    server.stop()
    client = connect()
    for number in range(1_203):
        say(client, f"{number:04d}")
    assert not client.flush(0.2)
    server.start()
    assert client.flush(10), "whoever waits ends the pause"
    assert server.texts() == [f"{number:04d}" for number in range(1_203)]
    sizes = [request.body.count(b'"text"') for request in server.requests]
    assert max(sizes) == segments.MOST_EVENTS and len(sizes) < 8
    assert all(request.packed for request in server.requests if len(request.body) > 8 << 10)
    assert asof.verify(client.receipts, vkey=server.vkey).count == 1_203


def test_a_wait_that_the_server_demands_is_kept(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    client = connect()
    server.faults.append("busy")
    begin = time.monotonic()
    say(client, "one")
    assert client.flush(10) and time.monotonic() - begin >= 1.0


def test_records_of_a_refused_request_go_alone_also_after_a_crash(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    """`b` is refused, so each goes alone; the process dies after `a` was written. The next one must
    not put them together again, even if `b` is welcome by then: `a` would be there twice."""
    spool = Spool(connect().folder, limit=1 << 20)
    for text in "abc":
        told = {"type": "note.added/1", "stream": "note/s", "data": {"text": text}}
        spool.write(json.dumps(told).encode())
    (segment,) = spool.segments()
    transport = Transport(server.url, None, "acme", timeout=10)
    server.refuses.add("b")
    group = segment.next_group()
    assert group is not None and len(group.records) == 3
    segment.begin(group)
    with pytest.raises(asof.ProblemError, match="unfit-event"):
        transport.append(group.records, group.key)
    segment.part(group)
    alone = segment.next_group()
    assert alone is not None and len(alone.records) == 1
    transport.append(alone.records, alone.key)
    transport.close()
    spool.close()  # as if killed: nothing says that `a` was answered
    server.refuses.clear()
    after = connect()
    say(after, "after")
    assert after.flush(10)
    assert server.texts() == ["a", "b", "c", "after"]
    assert [json.loads(request.body)["events"][0]["data"]["text"] for request in server.requests][
        -4:
    ] == ["a", "b", "c", "after"]


def test_what_is_refused_is_put_aside_for_its_owner(
    server: AppendServer, connect: Callable[..., asof.Client]
) -> None:
    server.stop()
    client = connect()
    said = [say(client, text) for text in "abc"]
    server.refuses.add("b")
    server.start()
    assert client.flush(10) and server.texts() == ["a", "c"]
    assert [one.index for one in said] == [1, None, 2]
    assert isinstance(said[1].error, asof.ProblemError) and said[1].error.slug == "unfit-event"
    aside = client.folder / "refused.jsonl"
    (line,) = aside.read_text().splitlines()
    assert json.loads(line)["event"]["data"]["text"] == "b" and "unfit" in json.loads(line)["why"]
    assert aside.stat().st_mode & 0o077 == 0


# ----------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("cut", [1, 4, 9, 30])
def test_a_torn_last_record_is_kept_aside_and_the_others_are_sent(
    cut: int, server: AppendServer, connect: Callable[..., asof.Client], tmp_path: Path
) -> None:
    path = _left_behind(tmp_path / "spool", "abc")
    os.truncate(path, path.stat().st_size - cut)
    after = connect()
    say(after, "after")
    assert after.flush(10) and server.texts() == ["a", "b", "after"]
    assert len(files(after, "*.damaged")) == 1


def test_a_damaged_record_is_never_sent_and_never_thrown_away(
    server: AppendServer, connect: Callable[..., asof.Client], tmp_path: Path, caplog: Any
) -> None:
    path = _left_behind(tmp_path / "spool", "abc")
    data = bytearray(path.read_bytes())
    data[data.index(b'"b"') + 1] ^= 1
    path.write_bytes(data)
    after = connect()
    with caplog.at_level(logging.ERROR, "asof"):
        say(after, "after")
        assert after.flush(10)
    assert server.texts() == ["a", "after"] and "cannot be read" in caplog.text
    assert files(after, "*.damaged")[0].read_bytes() == bytes(data)


def test_a_torn_line_beside_the_segment_did_not_happen(
    server: AppendServer, connect: Callable[..., asof.Client], tmp_path: Path
) -> None:
    """`D 12` of `D 120`: believed, it would point into the middle of a record."""
    path = _left_behind(tmp_path / "spool", "abc")
    whole = path.stat().st_size
    path.with_suffix(".sent").write_text(f"B 0 {whole}\nD 1")
    after = connect()
    say(after, "after")
    assert after.flush(10)
    assert server.texts() == ["a", "b", "c", "after"]
    assert server.requests[0].key.endswith(f"/0-{whole}"), "the request that was begun"


def _left_behind(folder: Path, texts: str) -> Path:
    """The spool file of a process that is gone."""
    gone = asof.Client(spool=folder)
    for text in texts:
        say(gone, text)
    gone.close()
    (path,) = folder.glob("*.spool")
    return path


def test_a_new_file_is_never_taken_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one process begins files, slowly, another adopts whatever it can: the first must never
    find its own new file in other hands."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                other = Spool(tmp_path, limit=1 << 20)
                other.segments()
                other.forget()
        finally:
            os._exit(1)
    locked = spool_module._locked

    def slowly(path: Path) -> int | None:
        time.sleep(0.01)
        return locked(path)

    monkeypatch.setattr(spool_module, "_locked", slowly)
    try:
        for _ in range(20):
            spool = Spool(tmp_path, limit=1 << 20)
            spool.write(b"{}")  # it raises where the new file is not its own
            spool.forget()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ------------------------------------------------------------------------ before there is a server


def test_what_was_recorded_before_there_was_a_server_is_sent(
    server: AppendServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    for name in ("SERVER", "TOKEN", "LEDGER", "SPOOL"):
        monkeypatch.delenv(f"ASOF_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(asof, "_made", None)
    with caplog.at_level(logging.WARNING, "asof"):
        begin = time.monotonic()
        early = asof.record("note.added/1", {"text": "early"}, stream="note/steps")
        assert not asof.flush(20) and time.monotonic() - begin < 5, "there is nothing to wait for"
    assert early.index is None
    made = asof.configure(server=server.url, ledger="acme")
    asof.record("note.added/1", {"text": "late"}, stream="note/steps")
    assert asof.flush(10) and server.texts() == ["early", "late"]
    made.close()
    deadline = time.monotonic() + 5
    while "ASOF_SERVER" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "ASOF_SERVER" in caplog.text


def test_a_new_token_takes_the_place_of_a_wrong_one(
    server: AppendServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asof, "_made", None)
    server.token = "right"
    asof.configure(server=server.url, ledger="acme", token="wrong", spool=tmp_path)
    kept = asof.record("note.added/1", {"text": "kept"}, stream="note/steps")
    assert not kept.wait(0.3)
    made = asof.configure(server=server.url, ledger="acme", token="right", spool=tmp_path)
    assert asof.flush(10) and server.texts() == ["kept"]
    made.close()
