"""What is no HTTP, what comes too slowly, and who hangs up."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web_protocol
from aiohttp.http_parser import HttpRequestParserPy

from aiaas_async.http import protocol
from tests.http.conftest import IN_COMMON, Served
from tests.http.models import commit_doubler
from tests.http.raw import as_json, chunk, connected, head, json_post, talk

NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: other\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /call HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /call HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: +5\r\n\r\n",
    b"POST /call HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST /call HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"POST /call HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\rb\r\n\r\n",
]


@IN_COMMON
@pytest.mark.parametrize("sent", NOT_HTTP, ids=range(len(NOT_HTTP)))
async def test_what_is_no_http_is_400_in_our_own_form_without_a_traceback(
    common: Served, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reply = await talk(common.port, sent)
    assert (reply.status, reply.code) == (400, "malformed")
    assert not caplog.records


BROKEN_CHUNKS = [b"zz\r\n", b"-1\r\n\r\n", b"\r\n\r\n"]


@pytest.mark.parametrize("broken", BROKEN_CHUNKS, ids=range(len(BROKEN_CHUNKS)))
@pytest.mark.parametrize("path", ["/call", "/models/m/versions/1.0/files/f"])
async def test_broken_chunks_are_400(
    served: Served, path: str, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await commit_doubler(served.api, "other")
    await served.api.post(
        "/register", {"name": "m", "version": "1.0", "inputs": ["x"], "outputs": ["y"]}
    )
    method = "POST" if path == "/call" else "PUT"
    fields = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    caplog.clear()
    reply = await talk(served.port, head(method, path, *fields), chunk(b'{"x":'), broken)
    assert (reply.status, reply.code) == (400, "malformed")
    assert not caplog.records
    assert (await served.api.get("/models/m/versions/1.0")).value["files"] == []


async def test_a_connection_that_asks_nothing_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    for sent in (b"", b"GET / HT", head("GET", "/")[:-2]):
        async with connected(served.port) as (reader, writer):
            writer.write(sent)
            assert await reader.read() == b""


async def test_a_connection_that_asked_stays_open_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    async with connected(served.port) as (reader, writer):
        for _ in range(2):
            writer.write(head("GET", "/health/live"))
            assert b"200 OK" in await reader.readuntil(b"true}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)


@pytest.mark.parametrize("served", [{"read_timeout_s": 0.1}], indirect=True)
async def test_a_body_that_does_not_come_is_504(served: Served) -> None:
    await served.api.post(
        "/register", {"name": "m", "version": "1.0", "inputs": ["x"], "outputs": ["y"]}
    )
    for request in (
        json_post("/call", "Content-Length: 100"),
        json_post("/call", "Transfer-Encoding: chunked"),
        head("PUT", "/models/m/versions/1.0/files/f", "Content-Length: 100"),
    ):
        reply = await talk(served.port, request)
        assert (reply.status, reply.code) == (504, "deadline")
        assert reply.headers["Connection"] == "close"


async def test_an_expectation_is_answered(served: Served) -> None:
    body = as_json({"name": "none"})
    fields = (f"Content-Length: {len(body)}", "Expect: 100-continue")
    async with connected(served.port) as (reader, writer):
        writer.write(json_post("/discover", *fields))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    async with connected(served.port) as (reader, writer):
        writer.write(head("GET", "/health/live") * 50)
        for _ in range(50):
            assert b"200 OK" in await reader.readuntil(b"true}")


@pytest.fixture(params=["c", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser of requests: aiohttp's in C, or what it takes where there is none."""
    if request.param == "python":
        monkeypatch.setattr(web_protocol, "HttpRequestParser", HttpRequestParserPy)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://127.0.0.1/health/live", 200),
        ("http://localhost:1/health/live?x=/y", 200),
        ("HTTP://[::1]/v2/health/live", 200),
        ("http://127.0.0.1/models?limit=1", 200),
        ("http://127.0.0.1/nowhere", 404),
        ("http://127.0.0.1//health/live", 404),
        ("http://127.0.0.1?x=/health/live", 404),
        ("http://127.0.0.1", 404),
        ("/health/live", 200),
    ],
)
async def test_a_target_may_be_a_whole_address(served: Served, target: str, status: int) -> None:
    assert (await talk(served.port, head("GET", target))).status == status


@pytest.mark.usefixtures("parser")
async def test_the_query_of_a_whole_address_is_read(served: Served) -> None:
    await commit_doubler(served.api)
    reply = await talk(served.port, head("GET", "http://127.0.0.1/models?limit=x"))
    assert (reply.status, reply.code) == (422, "invalid")


@pytest.mark.usefixtures("parser")
async def test_the_server_itself_has_no_options(served: Served) -> None:
    assert (await talk(served.port, head("OPTIONS", "*"))).status == 404
