"""Bodies that come too slowly, and replies that nobody reads."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.http.pace import Pace
from aiaas_async.http.protocol import Connection
from tests.http.conftest import Served
from tests.http.models import metadata, succeed
from tests.http.raw import PATIENCE_S, connected, head, json_post, read_reply

RATES = st.integers(1, 1 << 30)
BYTES = st.integers(0, 1 << 40)
SECONDS = st.floats(0, 3600)
SLOW = [{"body_grace_s": 0.1, "body_min_kib_s": 64}]


@given(SECONDS, RATES, BYTES, BYTES)
def test_what_has_come_buys_time_at_the_rate(
    grace: float, rate: int, moved: int, more: int
) -> None:
    pace = Pace(grace, rate)
    assert pace.allowed_s(0) == grace
    bought = pace.allowed_s(moved + more) - pace.allowed_s(moved)
    assert bought == pytest.approx(more / rate, rel=1e-6, abs=1e-3)


@given(RATES, st.floats(0.001, 3600), BYTES)
def test_a_pace_is_kept_by_as_many_bytes_as_it_asks_for(
    rate: int, seconds: float, moved: int
) -> None:
    assert Pace(1.0, rate).keeps(moved, seconds) == (
        moved / seconds >= rate or moved >= rate * seconds
    )


def test_a_rate_of_nothing_asks_for_nothing() -> None:
    assert Pace(5.0, 0).allowed_s(0) == float("inf")
    assert Pace(5.0, 0).keeps(0, 3600)


REQUESTS = {
    "call": json_post("/call", "Content-Length: 1000000"),
    "chunked call": json_post("/call", "Transfer-Encoding: chunked"),
    "upload": head("PUT", "/models/m/versions/1.0/files/f", "Content-Length: 1000000"),
}


@pytest.mark.parametrize("served", SLOW, indirect=True)
@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_body_that_stops_is_refused_after_the_grace(served: Served, request_: str) -> None:
    await succeed(served.api.post("/register", metadata()))
    first = b"a\r\n0123456789\r\n" if "chunked" in request_ else b"0123456789"
    async with connected(served.port) as (reader, writer):
        writer.write(REQUESTS[request_] + first)
        reply = await read_reply(reader)
        assert reply.status == 504
        assert b"at least 64 KiB a second are expected after 0.1 s" in reply.value
        assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize("served", [{"body_grace_s": 0.1, "body_min_kib_s": 1}], indirect=True)
async def test_a_body_that_came_fast_may_pause_for_as_long_as_it_bought(served: Served) -> None:
    """400 KiB buy 400 s; without them 0.1 s would have been too long."""
    await succeed(served.api.post("/register", metadata()))
    size, given = 500 << 10, 400 << 10
    async with connected(served.port) as (reader, writer):
        path = "/models/m/versions/1.0/files/f"
        writer.write(head("PUT", path, f"Content-Length: {size}") + bytes(given))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answered := _read(reader)), 0.3)
        writer.write(bytes(size - given))
        assert (await answered).startswith(b"HTTP/1.1 201")


def _read(reader: asyncio.StreamReader) -> asyncio.Task[bytes]:
    return asyncio.create_task(reader.readline())


@pytest.mark.parametrize("served", SLOW, indirect=True)
async def test_a_reader_that_reads_nothing_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    lost = Connection.connection_lost

    def watched(self: Connection, exc: BaseException | None) -> None:
        lost(self, exc)
        gone.set()

    monkeypatch.setattr(Connection, "connection_lost", watched)
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", served.port))
        await loop.sock_sendall(deaf, head("GET", "/openapi.json") * 2000)
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
    assert (await served.api.get("/health/live")).status == 200
