"""A server that appends over real HTTP into a real ledger, and fails as it is told.

::

    with AppendServer() as server:
        server.faults.extend(["lost", "unavailable"])    # one for each append that comes
        client = asof.Client(server=server.url, ledger="acme", spool=folder)
        server.stop(); server.start()                    # the same port, the same ledger

It speaks two routes of docs/spec/http.md: the ledger's key, and the append with its
Idempotency-Key. Events are checked by the ledger's own door, receipts are its own. `forgets_keys`
makes it a server that is wrong, for controls.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.canonical import format_base64
from ledger.errors import KeyReusedError, MalformedError
from ledger.events import draft
from ledger.note import format_vkey
from ledger.opening import Ledger
from ledger.writer import Appended
from tests.support.ledgers import memory_ledger

__all__ = ["AppendServer", "Request"]

FAULTS = (
    "cut",
    "lost",
    "unavailable",
    "unknown",
    "busy",
    "unauthenticated",
    "redirect",
    "nonsense",
)


@dataclass(frozen=True, slots=True)
class Request:
    """An append as it came."""

    key: str
    body: bytes
    packed: bool


@dataclass(slots=True)
class AppendServer:
    """Serves the ledger `acme` on a port of its own until it is closed."""

    forgets_keys: bool = False
    faults: deque[str] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    ledger: Ledger = field(default_factory=lambda: memory_ledger(_now))
    refuses: set[str] = field(default_factory=set)
    token: str = ""
    vkey: str = ""
    port: int = 0
    _http: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> AppendServer:
        self.vkey = format_vkey(self.ledger.vkey)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.ledger.close()

    def start(self) -> None:
        """Listen: at first on any port, later again on that one."""
        self._http = _Listening(("127.0.0.1", self.port), _handler(self))
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Be away."""
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()
            self._http = self._thread = None

    def texts(self) -> list[str]:
        """The notes of the ledger, in its order."""
        found = self.ledger.reader.entries()
        return [str((one.data or {})["text"]) for one in found if one.type == "note.added/1"]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What the ledger says, in its order."""
        return [(one.type, dict(one.data or {})) for one in self.ledger.reader.entries()]

    def append(self, request: Request) -> tuple[int, dict[str, Any]]:
        """The status and the answer; the batch is written whole, or not at all."""
        with self._mutex:
            self.requests.append(request)
        key = f"{request.key}#{len(self.requests)}" if self.forgets_keys else request.key
        try:
            events = json.loads(request.body)["events"]
            if any(one["data"].get("text") in self.refuses for one in events):
                raise MalformedError("not today")
            drafts = [
                draft(
                    (one["type"], one["data"]),
                    stream=one.get("stream"),
                    actor="service:trainer",
                    now=_now(),
                )
                for one in events
            ]
            done = self.ledger.writer.append(drafts, idempotency_key=key)
        except KeyReusedError as error:
            return 422, _problem("idempotency-key-reused", error)
        except MalformedError as error:
            return 422, _problem("unfit-event", error)
        return 200 if done.repeated else 201, _answer(done)


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(server: AppendServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if server.token and self.headers.get("authorization") != f"Bearer {server.token}":
                self._send(401, _problem("unauthenticated", "who?"))
                return
            self._send(200, {"vkey": server.vkey})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            request = Request(
                self.headers["idempotency-key"], gzip.decompress(body) if packed else body, packed
            )
            fault = server.faults.popleft() if server.faults else ""
            if fault == "cut":
                self._cut()
            elif fault == "lost":
                server.append(request)
                self._cut()
            elif fault == "unknown":
                server.append(request)
                self._send(503, _problem("outcome-unknown", "ask again"))
            elif fault == "unavailable":
                self._send(503, _problem("unavailable", "later"), {"Retry-After": "0"})
            elif fault == "busy":
                self._send(429, _problem("too-many-requests", "slower"), {"Retry-After": "1"})
            elif fault == "unauthenticated":
                self._send(401, _problem("unauthenticated", "who?"))
            elif fault == "redirect":
                self._send(307, {}, {"Location": "/elsewhere"})
            elif fault == "nonsense":
                self._send(200, {"hello": "world"})
            else:
                assert not fault, f"no such fault: {fault}"
                self._send(*server.append(request))

        def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests say what they expect."""

    return Handler


def _now() -> int:
    return time.time_ns() // 1000


def _problem(slug: str, detail: object) -> dict[str, str]:
    return {"type": f"/problems/{slug}", "detail": str(detail)}


def _answer(done: Appended) -> dict[str, Any]:
    receipts = [
        {
            "index": receipt.index,
            "leaf_hash": receipt.leaf_hash.hex(),
            "entry": receipt.entry.decode(),
            "proof": [format_base64(node) for node in receipt.hashes],
        }
        for receipt in done.receipts
    ]
    told = {"first_index": done.first_index, "checkpoint": done.checkpoint.decode()}
    return {**told, "receipts": receipts}
