"""Traces, for whoever collects them (extra `telemetry`): a span for each request, sent by OTLP
over HTTP.

Its name is the route's template; it carries method, status and the request's id, and continues the
trace that the caller names in `traceparent`. Nothing of a body, a query or a token is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import __version__
from ledger.errors import MalformedError

__all__ = ["TracingLayer", "tracer_for"]


def tracer_for(endpoint: str) -> tuple[Any, Callable[[], None]]:
    """A tracer that sends to the collector, and what ends it. Raises MalformedError where the
    extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MalformedError(
            f"[server] telemetry: {error.name} is not installed: asof-ledger[telemetry]"
        ) from None
    resource = Resource.create({"service.name": "asof", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider.get_tracer("asof"), provider.shutdown


class TracingLayer:
    """A span around each request."""

    def __init__(self, app: ASGIApp, *, tracer: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = tracer
        self._server = SpanKind.SERVER
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        context = self._propagator.extract(given)
        with self._tracer.start_as_current_span(
            scope["method"], context=context, kind=self._server
        ) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
                span.set_attribute("asof.request_id", scope.get("state", {}).get("request_id", ""))
