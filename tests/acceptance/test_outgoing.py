"""Webhooks that are sent: a real receiver, the real library; and where they may not go."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api.service.outgoing.addresses import Allowed, resolved
from ledger.errors import RefusedError
from tests.support.service import Running, prepare, started

L = "/v1/ledgers/acme"


class Receiver:
    """Keeps what comes; answers with the statuses that it is told, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count: int, seconds: float = 10) -> list[tuple[dict[str, str], bytes]]:
        until = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.05)
        return self.got


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = prepare(tmp_path_factory.mktemp("outgoing"), roles=("recorder", "operator", "auditor"))
    config = f"""
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"
[outgoing]
private_hosts = ["localhost"]
hosts = ["hooks.example.com"]
"""
    with started(made, config=config) as running:
        yield running


def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def subscribed(running: Running, receiver: Receiver, query: str) -> dict[str, Any]:
    with running.client("operator") as client:
        body = {"url": f"http://localhost:{receiver.port}/asof?x=1", "query": query}
        made = client.post(f"{L}/webhooks", json=body, headers=key())
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()
        return found


def note(running: Running, stream: str, text: str) -> int:
    with running.client("recorder") as client:
        event = {"type": "note.added/1", "stream": stream, "data": {"text": text}}
        index: int = client.post(f"{L}/entries", json=event, headers=key()).json()["first_index"]
        return index


def test_entries_are_delivered_signed_and_in_order(running: Running, receiver: Receiver) -> None:
    stream = f"note/{uuid.uuid4().hex}"
    hook = subscribed(running, receiver, f"stream:{stream}")
    indexes = [note(running, stream, f"secret {n}") for n in range(3)]
    got = receiver.wait(3)
    verifier = Webhook(hook["secret"])
    told = [verifier.verify(body, headers) for headers, body in got]
    assert [one["data"]["index"] for one in told] == indexes
    assert got[0][0]["host"] == f"localhost:{receiver.port}"
    assert b"secret" not in b"".join(body for _, body in got)
    headers, body = got[0]
    with pytest.raises(WebhookVerificationError):
        verifier.verify(body.replace(b"note", b"nope"), headers)
    with running.client("operator") as client:
        log = client.get(f"{L}/webhooks/{hook['id']}/deliveries").json()["deliveries"]
        assert [(one["entry"], one["status"]) for one in log] == [(i, 200) for i in indexes[::-1]]
        again = client.post(
            f"{L}/webhooks/{hook['id']}/deliveries/{indexes[0]}/replay", headers=key()
        )
        assert again.json()["status"] == 200
        assert receiver.wait(4)[3][0]["webhook-id"] == got[0][0]["webhook-id"]
        resumed = client.post(
            f"{L}/webhooks/{hook['id']}/resumption", headers={"Idempotency-Key": "resume"}
        ).json()
        assert (resumed["state"], resumed["position"]) == ("live", indexes[-1] + 1)
        assert "secret" not in resumed
        listed = client.get(f"{L}/webhooks").text
        assert hook["id"] in listed and hook["secret"] not in listed
        assert client.delete(f"{L}/webhooks/{hook['id']}").status_code == 200
        assert client.delete(f"{L}/webhooks/{hook['id']}").status_code == 404
    assert hook["secret"] not in running.log.read_text()


def test_what_is_not_taken_comes_again_before_what_is_later(
    running: Running, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = f"note/{uuid.uuid4().hex}"
    receiver.statuses = [500, 302]
    subscribed(running, receiver, f"stream:{stream}")
    first, second = note(running, stream, "1"), note(running, stream, "2")
    receiver.wait(4, seconds=25)
    indexes = [json.loads(body)["data"]["index"] for _, body in receiver.got]
    assert indexes == [first, first, first, second], "a redirect is no success, and not followed"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/",
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        "https://hooks.example.com@127.0.0.1/",
        "https://user:x@hooks.example.com/",
        "https://hooks.example.com#@localhost/",
        "file:///etc/passwd",
        "gopher://localhost/",
        "ftp://localhost/",
        "https://hooks.example.com:x/",
        "//localhost/",
        "localhost",
        "http://localhost.example.com/",
        "http://localhost/\x7f",
        "http://localhost/\u00e9",
        "http://localhost/" + "a" * 2_000,
    ],
)
def test_where_a_webhook_may_not_go(running: Running, url: str) -> None:
    with running.client("operator") as client:
        refused = client.post(f"{L}/webhooks", json={"url": url}, headers=key())
        assert refused.status_code in (400, 403), refused.text


def test_a_name_that_lies_in_a_private_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(ip: str) -> Any:
        return lambda *args, **more: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443))]

    allowed = Allowed(public=("hooks.example.com",))
    for ip in (
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "::ffff:10.0.0.1",
        "fe80::1",
        "224.0.0.1",
    ):
        monkeypatch.setattr(socket, "getaddrinfo", lookup(ip))
        with pytest.raises(RefusedError, match="private network"):
            resolved("https://hooks.example.com/", allowed)
    monkeypatch.setattr(socket, "getaddrinfo", lookup("93.184.215.14"))
    assert resolved("https://hooks.example.com/x", allowed).ip == "93.184.215.14", "the control"
