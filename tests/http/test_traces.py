"""OpenTelemetry: the spans of a call, whose trace they belong to, and that nothing is there when
nobody asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import aiaas_async.service
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.config import check_settings
from aiaas_async.errors import InvalidError
from aiaas_async.http.server import running_server
from aiaas_async.http.traced import traced
from aiaas_async.service import tracing
from aiaas_async.service.lifespan import running_platform
from aiaas_async.wire.codecs import JSON
from tests.client.stub import running, value
from tests.http.api import Api
from tests.http.conftest import Served, settings
from tests.http.models import commit_doubler

CALL = {"model": "doubler", "inputs": {"x": [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]}}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOWHERE = "http://127.0.0.1:9/v1/traces"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Takes the place of the one that sends."""
    memory = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "OTLPSpanExporter", lambda *_, **__: memory)
    return memory


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[Served]:
    async with (
        running_server(settings(folder, **changes), InLoopWorkers()) as (platform, url),
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Served(platform, url, Api(session, url, JSON, str(folder)))


async def spans_of_a_call(
    folder: Path, exporter: InMemorySpanExporter, headers: dict[str, str], **changes: Any
) -> dict[str, ReadableSpan]:
    """By name, after the server has stopped and so sent all."""
    async with serving(folder, trace_endpoint=NOWHERE, **changes) as served:
        await commit_doubler(served.api)
        reply = await served.api.post("/call", CALL, headers=headers)
        assert reply.status == 200
        assert (await served.api.get("/health/live")).status == 200
        wanted = {"POST /call", "queue", "compute"}
    found = {span.name: span for span in exporter.get_finished_spans() if span.name in wanted}
    assert not [s for s in exporter.get_finished_spans() if "health" in s.name]
    return found


async def test_a_call_is_a_span_of_its_callers_trace_with_its_queue_and_its_computing(
    scratch: Path, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "order-17"}
    spans = await spans_of_a_call(scratch, exporter, headers)
    request, queue, compute = (spans[name] for name in ("POST /call", "queue", "compute"))
    for span in (request, queue, compute):
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.kind is SpanKind.SERVER
    assert request.attributes is not None
    assert {
        "http.request.method": "POST",
        "http.route": "/call",
        "http.response.status_code": 200,
        "aiaas.request_id": "order-17",
        "aiaas.model": "doubler",
        "aiaas.version": "1.0",
    }.items() <= dict(request.attributes).items()
    assert request.context is not None
    for child in (queue, compute):
        assert child.parent is not None
        assert child.parent.span_id == request.context.span_id
    assert compute.attributes is not None
    assert compute.attributes["aiaas.batch_size"] == 2
    times = (request.start_time, queue.start_time, queue.end_time, compute.start_time)
    ends = (compute.end_time, request.end_time)
    known = [time for time in (*times, *ends) if time is not None]
    assert len(known) == 6
    # Clocks of two kinds meet here: a microsecond either way is no disorder.
    assert all(later - earlier > -100_000 for earlier, later in pairwise(known))


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (1.0, 3)])
async def test_without_a_caller_the_ratio_decides(
    scratch: Path, exporter: InMemorySpanExporter, ratio: float, count: int
) -> None:
    assert len(await spans_of_a_call(scratch, exporter, {}, trace_ratio=ratio)) == count


async def test_a_caller_that_does_not_record_decides_for_us(
    scratch: Path, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert not await spans_of_a_call(scratch, exporter, headers)


@pytest.mark.parametrize("foreign", ["", "00-0-0-0", "junk\u00e9", f"00-{'0' * 32}-{PARENT}-01"])
async def test_a_traceparent_that_is_none_begins_a_trace_of_our_own(
    scratch: Path, exporter: InMemorySpanExporter, foreign: str
) -> None:
    spans = await spans_of_a_call(scratch, exporter, {"traceparent": foreign})
    assert spans["POST /call"].parent is None


def test_only_errors_of_the_server_mark_a_span_as_failed(exporter: InMemorySpanExporter) -> None:
    traces = tracing.Tracing(NOWHERE, 1.0, "0")
    for status in (200, 404, 503):
        with traces.request(str(status), {}, {}) as span:
            span.answered(status)
    traces.close()
    codes = {span.name: span.status.status_code for span in exporter.get_finished_spans()}
    assert codes == {"200": StatusCode.UNSET, "404": StatusCode.UNSET, "503": StatusCode.ERROR}


async def test_spans_are_sent_to_the_address_of_the_settings(scratch: Path) -> None:
    async with running() as collector:
        collector.will(value({}))
        async with serving(scratch, trace_endpoint=f"{collector.url}/v1/traces") as served:
            assert (await served.api.get("/models")).status == 200
    assert collector.paths == ["POST /v1/traces"]
    sent = ExportTraceServiceRequest.FromString(collector.asked[0].body)
    (resource,) = sent.resource_spans
    facts = {fact.key: fact.value.string_value for fact in resource.resource.attributes}
    assert facts["service.name"] == "aiaas"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["GET /models"]


async def test_a_collector_that_is_not_there_changes_no_answer(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_EXPORT_TIMEOUT_S", 0.1)
    async with serving(scratch, trace_endpoint=NOWHERE) as served:
        await commit_doubler(served.api)
        assert (await served.api.post("/call", CALL)).status == 200


async def test_without_an_address_there_is_nothing_around_a_handler(served: Served) -> None:
    async def handler(_: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        raise AssertionError

    assert served.platform.tracing is None
    assert traced(handler, None, "GET", "/models") is handler


@pytest.mark.real
def test_without_an_address_opentelemetry_is_not_even_loaded() -> None:
    check = (
        "import sys, aiaas_async.http.server, aiaas_async.cli.serve;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_an_address_without_the_extra_says_what_to_install(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiaas_async.service.tracing", None)
    monkeypatch.delattr(aiaas_async.service, "tracing")
    with pytest.raises(InvalidError, match=r"pip install 'aiaas-async\[otel\]'"):
        async with running_platform(settings(scratch, trace_endpoint=NOWHERE), InLoopWorkers()):
            pass


def test_an_address_that_is_no_url_is_refused(scratch: Path) -> None:
    with pytest.raises(InvalidError, match="must be a URL"):
        check_settings(settings(scratch, trace_endpoint="localhost:4318"))
