"""Two installations, real processes, cosign each other; one goes away and comes back."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.service.witnessing import publishing
from api.service.witnessing.witness import request_body
from ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from ledger.cosignature import Cosigner, check_cosignatures, format_witness_vkey, parse_witness_vkey
from ledger.keys import load_witness_key
from ledger.note import Signer, format_vkey, note_text
from ledger.opening import open_ledger
from tests.acceptance.test_client_and_server import free_port
from tests.support.service import Prepared, Running, prepare, started

CONFIG = """
[ledgers.acme]
store = "{store}"
keys = "keys"
public = true
policy = "policy"

[witness]
name = "{name}"
keys = "witness"
logs = ["{log}"]
"""


def vkey_of(made: Prepared) -> str:
    with open_ledger(made.environment["ASOF_STORE"], keys=made.folder / "keys", write=False) as one:
        return format_vkey(one.vkey)


def configured(mine: Prepared, name: str, other: Prepared, other_name: str, port: int) -> str:
    key = Cosigner(other_name, load_witness_key(other.folder / "witness")).key
    url = f"http://127.0.0.1:{port}/witness"
    lines = [f"log {vkey_of(mine)}", f"witness other {format_witness_vkey(key)} {url}"]
    (mine.folder / "policy").write_text("\n".join([*lines, "quorum other", ""]))
    store = mine.environment["ASOF_STORE"]
    return CONFIG.format(store=store, name=name, log=vkey_of(other))


def cosigned(running: Running, key: Any) -> Any:
    """The published checkpoint once it carries that witness's cosignature."""
    until = time.monotonic() + 15
    while True:
        note = httpx2.get(f"{running.url}/t/acme/checkpoint").content
        found = check_cosignatures(note, [key])
        if found:
            return note, found[0]
        assert time.monotonic() < until, note
        time.sleep(0.1)


def test_two_installations_cosign_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a = prepare(tmp_path / "a", roles=("recorder", "admin"))
    b = prepare(tmp_path / "b", roles=("recorder", "admin"))
    ports = free_port(), free_port()
    config_a = configured(a, "a.example.com/w", b, "b.example.com/w", ports[1])
    config_b = configured(b, "b.example.com/w", a, "a.example.com/w", ports[0])
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(started(a, config=config_a, port=ports[0]))
        with one.client("admin") as admin:
            told = admin.get("/readyz").json()
            assert told["status"] == "ready", "a witness that is away does not stop the ledger"
            assert not told["witnesses"]["acme"]["quorum_met"]
        two = stack.enter_context(started(b, config=config_b, port=ports[1]))
        key = parse_witness_vkey(httpx2.get(f"{two.url}/witness/vkey").text.strip())
        _, held = cosigned(one, key)
        assert abs(held.time - time.time()) < 60
        with one.client("admin") as admin:
            status = admin.get("/readyz").json()["witnesses"]["acme"]
            assert status["quorum_met"] and status["witnesses"]["other"]["problem"] is None
        published = httpx2.get(f"{one.url}/t/acme/checkpoint")
        assert published.headers["cache-control"] == "public, max-age=5"
        tile = httpx2.get(f"{one.url}/t/acme/tile/0/000.p/1")
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        for nothing in ("0/001", "0/1", "entries/001"):
            found = httpx2.get(f"{one.url}/t/acme/tile/{nothing}")
            assert (found.status_code, found.headers["cache-control"]) == (404, "no-store"), nothing
        size = parse_checkpoint(note_text(published.content)).size
        late = httpx2.post(
            f"{two.url}/witness/add-checkpoint", content=request_body(0, [], published.content)
        )
        assert (late.status_code, late.text) == (409, f"{size}\n")
        assert late.headers["content-type"] == "text/x.tlog.size", "to the letter: others compare"
        mine = parse_witness_vkey(httpx2.get(f"{one.url}/witness/vkey").text.strip())
        cosigned(two, mine)


def test_a_fork_is_shown_until_somebody_looks(tmp_path: Path) -> None:
    """Over a SIGKILL: both checkpoints, the figure, the log."""
    made = prepare(tmp_path, roles=("admin",))
    log = Signer.from_seed("elsewhere.example.com/log", b"\x05" * 32)
    notes = [sign_checkpoint(Checkpoint(log.name, 4, root * 32), log) for root in (b"a", b"b")]
    store = made.environment["ASOF_STORE"]
    policy = f"log {vkey_of(made)}\nquorum none\n"
    (tmp_path / "policy").write_text(policy)
    config = CONFIG.format(store=store, name="w.example.com/w", log=format_vkey(log.vkey))
    evidence = {
        "origin": log.name,
        "size": 4,
        "seen": notes[0].decode(),
        "shown": notes[1].decode(),
    }
    for start in range(2):
        with started(made, config=config) as running, running.client("admin") as admin:
            if start == 0:
                assert admin.get("/readyz").json()["forks"] == []
                for old, note, status in ((0, notes[0], 200), (4, notes[1], 422)):
                    body = request_body(old, [], note)
                    told = httpx2.post(f"{running.url}/witness/add-checkpoint", content=body)
                    assert told.status_code == status
            assert admin.get("/readyz").json()["forks"] == [evidence]
            figures = admin.get("/metrics").text
            assert "\nasof_fork_alarms_total 1.0\n" in figures
            assert '\nasof_quorum_age_seconds{ledger="acme"} ' in figures
            assert httpx2.get(f"{running.url}/readyz").json() == {"status": "ready"}
            assert running.log.read_text().count("two trees of 4 entries") == start + 1
            running.kill()


def test_the_check_of_the_test_is_one() -> None:
    """Control: a checkpoint without a cosignature is not taken for one."""
    key = Cosigner("w.example.com/x", Ed25519PrivateKey.generate()).key
    from tests.unit.test_cosignatures import NOTE

    assert check_cosignatures(NOTE, [key]) == []
    assert publishing.EVERY_SECONDS <= 10
    with pytest.raises(Exception, match="note"):
        check_cosignatures(b"nothing", [key])
