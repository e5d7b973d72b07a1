"""A server that answers what it is told to: for the answers that a real one gives seldom.

::

    with Answering() as there:
        there.next(503, problem("unavailable", "full"))
        there.next(DROP)                                   # reads the request, and hangs up
        client = Client(there.url, token="t", ledger="acme")

Answers are given in order, the last one again and again; `seen` holds the requests.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["DROP", "Answering", "Seen", "problem"]

DROP: Final = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request: what was asked, with which key."""

    method: str
    path: str
    key: str | None
    body: bytes


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def problem(slug: str, detail: str, **more: Any) -> dict[str, Any]:
    """A problem as the service writes it."""
    return {"type": f"/problems/{slug}", "detail": detail, **more}


class Answering:
    """Listens on loopback. A context manager."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._answers: list[_Answer] = []
        self._last = _Answer(DROP, b"")

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *about: object) -> None:
                """Nothing is said."""

            def _answer(handler) -> None:  # noqa: N805 - `self` is the server's
                self._answer(handler)

            do_GET = do_POST = _answer  # noqa: N815 - the names that the base class looks for

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def next(self, status: int, body: Any = b"", **headers: str) -> None:
        """The answer after those that were told before; DROP hangs up instead. A body that is no
        bytes is written as JSON.
        """
        told = {"content-type": "application/json", **headers}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._answers.append(_Answer(status, data, told))

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        key = handler.headers.get("idempotency-key")
        self.seen.append(Seen(handler.command, handler.path, key, body))
        answer = self._last = self._answers.pop(0) if self._answers else self._last
        if answer.status == DROP:
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.headers["content-type"] != "text/event-stream":
            handler.send_header("content-length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
