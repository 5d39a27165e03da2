"""One connection too many is answered and closed; the others do not notice."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import OverloadedError, QuotaError
from aiaas_async.http import admission as module
from aiaas_async.http.admission import Admission, refusal_of
from tests.http.api import check
from tests.http.conftest import Served
from tests.http.raw import connected, head, read_reply

ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", ""])


@given(
    st.integers(0, 6), st.integers(0, 3), st.lists(st.tuples(st.booleans(), ADDRESSES), max_size=40)
)
def test_as_many_are_let_in_as_the_limits_say(
    limit: int, per_address: int, steps: list[tuple[bool, str]]
) -> None:
    admission, inside = Admission(limit, per_address), Counter[str]()
    for comes, address in steps:
        if not comes:
            if inside[address]:
                inside[address] -= 1
                admission.leave(address)
            continue
        full = 0 < limit <= inside.total()
        many = 0 < per_address <= inside[address] and address not in ("127.0.0.1", "::1")
        refused = admission.admit(address)
        if full:
            assert isinstance(refused, OverloadedError)
        elif many:
            assert isinstance(refused, QuotaError)
        else:
            assert refused is None
            inside[address] += 1
        assert admission.open == inside.total()


LIMITED = [{"max_connections": 3, "max_connections_per_address": 1}]


@pytest.mark.parametrize("served", LIMITED, indirect=True)
async def test_a_connection_too_many_is_503_and_the_place_of_one_that_leaves_is_free(
    served: Served,
) -> None:
    await served.api.session.close()
    async with AsyncExitStack() as stack:
        inside = [await stack.enter_async_context(connected(served.port)) for _ in range(3)]
        for reader, writer in inside:
            writer.write(head("GET", "/health/live"))
            assert b"200 OK" in await reader.readuntil(b"true}")
        async with connected(served.port) as (reader, writer):
            writer.write(head("POST", "/call", "Content-Length: 1000000") + bytes(100_000))
            reply = check(await read_reply(reader), b"\0")
            assert (reply.status, reply.code) == (503, "overloaded")
            assert reply.headers["Connection"] == "close"
            assert await reader.read() == b""
        inside[0][1].write(head("GET", "/health/live"))
        assert b"200 OK" in await inside[0][0].readuntil(b"true}")
        inside[0][1].write(head("GET", "/health/live", "Connection: close"))
        assert (await inside[0][0].read()).endswith(b"true}")
        async with connected(served.port) as (reader, writer):
            writer.write(head("GET", "/health/live"))
            assert b"200 OK" in await reader.readuntil(b"true}")


@pytest.mark.parametrize("served", [{"max_connections": 1}], indirect=True)
async def test_who_does_not_read_the_refusal_is_let_go_all_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.02)
    monkeypatch.setattr(module, "MAX_LINGERING", 1)
    await served.api.session.close()
    async with connected(served.port) as (first, writer):
        writer.write(head("GET", "/health/live"))
        await first.readuntil(b"true}")
        async with connected(served.port) as (reader, _), connected(served.port) as (other, _):
            assert b" 503 " in await reader.readline()
            # Beyond the few that are answered, connections are just closed.
            with pytest.raises(ConnectionError):
                await _read_all(other)
            await _read_all(reader)


async def _read_all(reader: object) -> bytes:
    found: bytes = await reader.read()  # type: ignore[attr-defined]
    if not found:
        raise ConnectionResetError
    return found


def test_a_refusal_tells_its_length_and_when_to_come_again() -> None:
    top, _, body = refusal_of(QuotaError("many", retry_after=2.5)).partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in top
    assert b"Retry-After: 3" in top
