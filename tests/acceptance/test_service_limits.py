"""The edges of the service: what is too large, too slow, too much, from elsewhere; and TLS."""

from __future__ import annotations

import concurrent.futures
import datetime
import ipaddress
import json
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.service import Running, prepare, started

L = "/v1/ledgers/acme"
CONFIG = """
[server]
trusted_hosts = ["127.0.0.1"]
cors_origins = ["https://board.example.com"]
[limits]
body_bytes = 4096
request_seconds = 1
requests_per_second = 50
burst = 60
in_flight = 8
[ledgers.acme]
store = "{store}"
keys = "keys"
"""
NOTE = {"type": "note.added/1", "stream": "note/x", "data": {"text": "go"}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("limits"), roles=("recorder", "auditor", "operator"))
    with started(made, config=CONFIG.format(store=made.environment["ASOF_STORE"])) as running:
        yield running


def connected(running: Running) -> socket.socket:
    parts = urlsplit(running.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def said(one: socket.socket) -> bytes:
    parts = []
    while part := one.recv(65536):
        parts.append(part)
    return b"".join(parts)


def head(running: Running, role: str, length: int | str) -> bytes:
    return (
        f"POST {L}/entries HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {running.prepared.tokens[role]}\r\n"
        f"Idempotency-Key: {uuid.uuid4().hex}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_a_head_that_is_too_large_ends_the_connection(running: Running) -> None:
    with connected(running) as one:
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(40):
            try:
                one.sendall(f"X-Filler-{number}: {'x' * 1000}\r\n".encode())
            except OSError:
                break
        try:
            answer = said(one)
        except ConnectionResetError:
            answer = b"HTTP/1.1 431 "
        assert answer.startswith(b"HTTP/1.1 431 ") and b" 200 " not in answer
    with connected(running) as one:  # the control: a head that fits
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert said(one).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_does_not_arrive_is_not_waited_for(running: Running) -> None:
    with connected(running) as one:
        one.sendall(head(running, "recorder", 100) + b'{"type":')
        begun = time.monotonic()
        answer = said(one)
        assert answer.startswith(b"HTTP/1.1 408 ") and time.monotonic() - begun < 5
    with connected(running) as one:
        one.sendall(head(running, "recorder", 100) + b'{"type":')
        one.shutdown(socket.SHUT_WR)  # truncated: the other side has gone
    with running.client("auditor") as client:
        assert client.get("/healthz").status_code == 200


def test_a_body_without_an_end_is_cut(running: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1_000

    with running.client("recorder") as client:
        headers = {"Idempotency-Key": "endless", "Content-Type": "application/json"}
        try:
            refused = client.post(f"{L}/entries", content=endless(), headers=headers)
        except httpx2.HTTPError:
            return  # it closed while we were sending, which ends it too
        assert refused.status_code == 413


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(running: Running, request_line: bytes) -> None:
    with connected(running) as one:
        one.sendall(request_line)
        one.shutdown(socket.SHUT_WR)
        answer = said(one)
        assert not answer or answer.startswith(b"HTTP/1.1 4")
    with running.client() as client:
        assert client.get("/healthz").status_code == 200


def test_probes_are_answered_at_the_address_itself(running: Running) -> None:
    """A supervisor asks an address, which is no name that is trusted; nothing else is answered."""
    elsewhere = {"Host": "10.1.2.3:8080"}
    with running.client("auditor") as client:
        assert client.get("/healthz", headers=elsewhere).status_code == 200
        ready = client.get("/readyz", headers=elsewhere)
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert client.get("/metrics", headers=elsewhere).status_code == 403
        for path in ("/v1/whoami", "/docs", "/healthz/", "/problems"):
            assert client.get(path, headers=elsewhere).status_code == 400, path


def test_who_asks_too_much_is_told_when_to_come_back(running: Running) -> None:
    with running.client("operator") as client, running.client("auditor") as other:
        answers = [client.get("/v1/whoami") for _ in range(120)]
        refused = [one for one in answers if one.status_code == 429]
        assert refused and {one.status_code for one in answers} == {200, 429}
        assert int(refused[0].headers["retry-after"]) >= 1
        assert refused[0].json()["type"] == "/problems/too-many-requests"
        assert other.get("/v1/whoami").status_code == 200, "nobody else pays for it"
        assert client.get("/healthz").status_code == 200


def test_more_at_once_than_it_takes_is_refused_and_nothing_breaks(running: Running) -> None:
    """Bodies that are slow hold their places; meanwhile others get 503, and afterwards all is
    well.
    """
    held = [connected(running) for _ in range(8)]
    for one in held:
        one.sendall(head(running, "recorder", 100) + b'{"type":')
    time.sleep(0.2)
    with running.client("auditor") as client:
        refused = client.get("/v1/whoami")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200, "health is always answered"
        for one in held:
            one.close()
        until = time.monotonic() + 5
        while client.get("/v1/whoami").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_flood_loses_nothing_that_was_acknowledged(running: Running) -> None:
    """Everything is 201, 429 or 503, and what was acknowledged is there, once."""

    def append(number: int) -> tuple[int, int | None]:
        with running.client("recorder") as client:
            headers = {"Idempotency-Key": f"flood-{number}"}
            done = client.post(
                f"{L}/entries", json=NOTE | {"stream": "note/flood"}, headers=headers
            )
            return done.status_code, done.json().get("first_index")

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(append, range(150)))
    assert {status for status, _ in answers} <= {201, 429, 503}
    acknowledged = sorted(index for status, index in answers if status == 201 and index is not None)
    assert acknowledged and len(set(acknowledged)) == len(acknowledged)
    told = running.prepared.run("log", "stream:note/flood", "-o", "jsonl")
    there = [json.loads(line)["index"] for line in told.splitlines()]
    assert set(acknowledged) <= set(there) and len(there) == len(set(there))


# ------------------------------------------------------------------------------------ elsewhere


def test_other_hosts_and_origins_get_nothing(running: Running) -> None:
    with running.client("auditor") as client:
        wrong = client.get("/problems", headers={"Host": "evil.example.com"})
        assert wrong.status_code == 400
        closed = client.get("/healthz", headers={"Origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in closed.headers
        allowed = {"Origin": "https://board.example.com"}
        opened = client.get("/healthz", headers=allowed)
        assert opened.headers["access-control-allow-origin"] == "https://board.example.com"
        assert "access-control-allow-credentials" not in opened.headers
        asked = client.options(
            f"{L}/entries", headers=allowed | {"Access-Control-Request-Method": "POST"}
        )
        assert asked.status_code == 204
        assert "Idempotency-Key" in asked.headers["access-control-allow-headers"]
        for name, value in (
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ):
            assert opened.headers[name] == value
        assert "server" not in opened.headers


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, private


def test_tls(tmp_path: Path) -> None:
    made = prepare(tmp_path, roles=("auditor",))
    pem, private = certificate(tmp_path)
    config = f"""
[server]
certificate = "{pem}"
private_key = "{private}"
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"
"""
    with started(made, config=config) as running:
        assert running.url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(pem))
        with running.client("auditor", verify=trust) as client:
            told = client.get(L)
            assert (
                told.status_code == 200 and "max-age" in told.headers["strict-transport-security"]
            )
        with running.client(verify=True) as stranger, pytest.raises(httpx2.ConnectError):
            stranger.get("/healthz")
