"""Replies that leave in one write say what HTTP asks of them, and give way to slow readers."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from aiaas_async.errors import WorkerError
from aiaas_async.http.wholereply import WholeReply
from aiaas_async.requestid import WithRequestId
from tests.http.conftest import Served
from tests.http.models import commit_doubler
from tests.http.raw import as_json, connected, head, json_post, read_reply, talk


async def test_a_reply_has_each_field_once_and_the_connection_stays(served: Served) -> None:
    async with connected(served.port) as (reader, writer):
        for _ in range(2):
            writer.write(head("GET", "/health/live"))
            raw = await reader.readuntil(b"\r\n\r\n")
            lines = raw.decode().split("\r\n")
            names = [line.partition(":")[0].lower() for line in lines[1:] if line]
            assert lines[0] == "HTTP/1.1 200 OK"
            assert sorted(names) == [
                "content-length",
                "content-type",
                "date",
                "server",
                "x-request-id",
            ]
            fields = dict(line.split(": ", 1) for line in lines[1:] if line)
            assert parsedate_to_datetime(fields["Date"]).tzinfo is not None
            await reader.readexactly(int(fields["Content-Length"]))


async def test_a_caller_that_wants_to_close_is_told_so(served: Served) -> None:
    reply = await talk(served.port, head("GET", "/health/live", "Connection: close"))
    assert reply.headers["Connection"] == "close"


async def test_http_1_0_is_answered_in_kind(served: Served) -> None:
    async with connected(served.port) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.0 200")


async def test_callers_who_do_not_read_are_held_back_and_then_get_everything(
    served: Served,
) -> None:
    await commit_doubler(served.api, "double")
    body = as_json({"model": "double", "inputs": {"x": [[0.123456789, 2.0, 3.0, 4.0]] * 1000}})
    one = json_post("/call", f"Content-Length: {len(body)}") + body
    count = 60
    async with connected(served.port) as (reader, writer):
        writer.write(one * count)
        for _ in range(50):  # answers pile up in the sockets' buffers
            await asyncio.sleep(0)
        replies = [await read_reply(reader) for _ in range(count)]
    assert [reply.status for reply in replies] == [200] * count
    assert len({bytes(reply.value)[:40] for reply in replies}) == 1


def test_a_header_with_a_line_break_is_never_written() -> None:
    reply = WholeReply(b"{}", "application/json")
    reply.headers["Location"] = "/jobs/1\r\nSet-Cookie: a=b"
    with pytest.raises(ValueError, match="line break"):
        reply._head()


async def test_the_callers_request_id_comes_back_and_one_that_is_unfit_does_not(
    served: Served,
) -> None:
    named = await talk(served.port, head("GET", "/health/live", "X-Request-Id: abc-1"))
    assert named.headers["X-Request-Id"] == "abc-1"
    unnamed = await talk(served.port, head("GET", "/health/live"))
    for unfit in ("a b", "x" * 200, "caf\xc3\xa9"):
        reply = await talk(served.port, head("GET", "/nothing", f"X-Request-Id: {unfit}"))
        assert reply.status == 404
        assert (
            reply.headers["X-Request-Id"].split("-")[0]
            == (unnamed.headers["X-Request-Id"].split("-")[0])
        )


async def test_errors_of_every_surface_carry_the_request_id(served: Served) -> None:
    for path in ("/models/none", "/nowhere", "/jobs/none"):
        problem = await talk(served.port, head("GET", path, "X-Request-Id: abc-2"))
        assert (problem.status, problem.headers["X-Request-Id"]) == (404, "abc-2")
    for path in ("/v2/models/none", "/v2/models/none/stats", "/v2/nowhere"):
        async with served.api.session.get(
            served.url + path, headers={"X-Request-Id": "abc-3"}
        ) as reply:
            assert (reply.status, reply.headers["X-Request-Id"]) == (404, "abc-3")


async def test_what_failed_in_a_worker_is_in_the_log_under_the_requests_id(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(WithRequestId())

    async def fail(*_: object) -> None:
        raise WorkerError("the model failed while it ran (ValueError)")

    monkeypatch.setattr(served.platform.calls, "call", fail)
    body = as_json({"x": [1]})
    sent = json_post("/call", "X-Request-Id: abc-3", f"Content-Length: {len(body)}") + body
    assert (await talk(served.port, sent)).status == 503
    (record,) = caplog.records
    assert (record.getMessage(), getattr(record, "request_id", "")) == (
        "/call: the model failed while it ran (ValueError)",
        "abc-3",
    )
