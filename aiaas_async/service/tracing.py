"""Traces: a span for each request, and within it one for the queue and one for the computing.

Imported only when `trace_endpoint` is set: OpenTelemetry is an extra, and without it no request
pays anything. A caller's `traceparent` (W3C Trace Context) is gone on with, its decision whether to
record included. Spans go to the operator's address, in batches, from a thread of their own; what
the collector does not take in time is dropped, not kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aiaas_async.node.work import Result
from aiaas_async.requestid import REQUEST_ID

_EXPORT_TIMEOUT_S: Final = 5.0
_SERVER_ERROR: Final = 500
_CALLERS: Final = TraceContextTextMapPropagator()


class Tracing:
    """Sends spans to `endpoint` (OTLP over HTTP): a `ratio` of those that no caller decided on."""

    def __init__(self, endpoint: str, ratio: float, version: str) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({"service.name": "aiaas", "service.version": version}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint, timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aiaas_async", version)

    @contextmanager
    def request(
        self, name: str, headers: Mapping[str, str], facts: Mapping[str, str]
    ) -> Iterator[RequestSpan]:
        """The span of a request is the current one inside; `headers` may name its parent."""
        with self._tracer.start_as_current_span(
            name, _CALLERS.extract(headers), SpanKind.SERVER, facts
        ) as span:
            yield RequestSpan(span)

    def call(self, result: Result, model: str, version: str, computed: int) -> None:
        """Tell of a call, within the current request, whose `result` came at `computed` (of
        `time.perf_counter_ns`). The way to the worker and back counts as before the queue."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        facts = {"aiaas.model": model, "aiaas.version": version, "aiaas.node": result.node}
        span.set_attributes(facts)
        ended = time.time_ns() - (time.perf_counter_ns() - computed)
        begun = ended - int(result.compute_s * 1e9)
        queued = begun - int(result.queue_s * 1e9)
        self._tracer.start_span("queue", attributes=facts, start_time=queued).end(begun)
        sized: dict[str, str | int] = {**facts, "aiaas.batch_size": result.batch_size}
        self._tracer.start_span("compute", attributes=sized, start_time=begun).end(ended)

    def close(self) -> None:
        """Send what waits. It may take as long as the collector does: not for the event loop."""
        self._provider.shutdown()


class RequestSpan:
    """The span of a request, to be told how that ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("aiaas.request_id", REQUEST_ID.get())
        if status >= _SERVER_ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(Status(StatusCode.ERROR))
