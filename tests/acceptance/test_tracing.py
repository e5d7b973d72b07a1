"""Traces reach a collector: a real exporter, a receiver of the tests', the protocol's own
messages.
"""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.service import prepare, started


def test_a_request_is_a_span_of_the_callers_trace(tmp_path: Path) -> None:
    got: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            told = ExportTraceServiceRequest.FromString(body)
            for one in told.resource_spans:
                for scope in one.scope_spans:
                    got.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = prepare(tmp_path, roles=("auditor",))
    config = f"""
[server]
telemetry = "http://127.0.0.1:{server.server_address[1]}/v1/traces"
[ledgers.acme]
store = "{made.environment["ASOF_STORE"]}"
keys = "keys"
"""
    trace = "0af7651916cd43dd8448eb211c80319c"
    with started(made, config=config) as running, running.client("auditor") as client:
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        client.get("/v1/ledgers/acme/entries?q=actor:nobody-may-see", headers=headers)
        running.stop()
    until = time.monotonic() + 5
    while not got and time.monotonic() < until:
        time.sleep(0.05)
    server.shutdown()
    server.server_close()
    (span,) = [one for one in got if one.trace_id.hex() == trace]
    assert span.name == "GET /v1/ledgers/{ledger}/entries"
    assert "nobody-may-see" not in str(span) and made.tokens["auditor"] not in str(span)
