"""Bodies as they arrive: in pieces, of which there are never too many."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import numpy as np
import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from aiaas_async.errors import DeadlineError, OverloadedError, TooLargeError
from aiaas_async.http import body
from aiaas_async.http.body import aligned, joined, read_body, read_pieces
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.pace import Pace

MIB = 1 << 20
PIECE = b"0123456789abcdef"


def arriving(declared: int | None) -> tuple[web.Request, StreamReader]:
    """A request whose head has come, and where its body will come."""
    protocol = Mock(spec=BaseProtocol, connected=True)
    content = StreamReader(protocol, 1 << 16, loop=asyncio.get_running_loop())
    length = {"Content-Length": str(declared)} if declared is not None else {}
    return make_mocked_request("POST", "/call", length, payload=content), content


def reading(request: web.Request, pace: Pace | None = None) -> asyncio.Task[list[bytes]]:
    budget = BodyBudget(MIB, pace or Pace(rate=0))
    return asyncio.create_task(read_pieces(request, MIB, budget, 60.0))


@pytest.mark.parametrize("count", [1, 2, 1000, 5000])
@pytest.mark.parametrize("declared", [True, False])
async def test_the_pieces_make_the_body_and_are_not_many(count: int, declared: bool) -> None:
    request, content = arriving(len(PIECE) * count if declared else None)
    pieces = reading(request)
    for _ in range(count):
        content.feed_data(PIECE)
        await asyncio.sleep(0)
    content.feed_eof()
    assert len(await pieces) <= 1024
    assert b"".join(await pieces) == PIECE * count


async def test_whoever_waits_for_a_declared_body_is_woken_once() -> None:
    request, content = arriving(300_000)
    content.feed_data(bytes(200_000))
    pieces = reading(request)
    await asyncio.sleep(0)
    content._protocol.pause_reading.reset_mock()  # type: ignore[attr-defined]
    for _ in range(5):
        content.feed_data(bytes(20_000))
        await asyncio.sleep(0)
        assert content._waiter is None
    content.feed_eof()
    assert [len(piece) for piece in await pieces] == [200_000, *[20_000] * 5]
    content._protocol.pause_reading.assert_not_called()  # type: ignore[attr-defined]


async def test_a_declared_body_has_the_time_that_its_bytes_bought() -> None:
    request, content = arriving(4000)
    pieces = reading(request, Pace(grace_s=0.0, rate=100_000))
    content.feed_data(bytes(3000))  # buy 30 ms
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineError, match="too slowly"):
        await pieces
    assert asyncio.get_running_loop().time() - started >= 0.03


async def test_what_comes_while_a_declared_body_is_waited_for_buys_time_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "_GLANCE_S", 0.0)  # it looks again at every turn of the loop
    request, content = arriving(100_000)
    pieces = reading(request, Pace(grace_s=0.0, rate=1_000_000))
    started = asyncio.get_running_loop().time()
    for _ in range(9):
        content.feed_data(bytes(10_000))  # each buys 10 ms
        await asyncio.sleep(0)
    with pytest.raises(DeadlineError, match="too slowly"):
        await pieces
    assert asyncio.get_running_loop().time() - started >= 0.09


async def test_a_declared_body_that_trickles_in_is_joined_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "_GLANCE_S", 0.0)
    request, content = arriving(3000)
    pieces = reading(request)
    for _ in range(30):
        for _ in range(100):
            content.feed_data(b"x")
        for _ in range(5):
            await asyncio.sleep(0)
    content.feed_eof()
    assert len(await pieces) < 100
    assert joined(await pieces) == b"x" * 3000


async def test_a_body_after_its_head_has_no_empty_piece() -> None:
    request, content = arriving(1000)
    pieces = reading(request)
    await asyncio.sleep(0)
    content.feed_data(bytes(1000))
    content.feed_eof()
    assert [len(piece) for piece in await pieces] == [1000]


async def test_a_body_that_its_budget_has_no_room_for_is_refused_before_it_comes() -> None:
    request, _ = arriving(1000)
    budget = BodyBudget(1500)
    budget.take(1000)
    with pytest.raises(OverloadedError):
        await read_body(request, MIB, budget, 60.0)
    assert budget.used == 1000


async def test_an_undeclared_body_is_refused_when_it_grows_too_large() -> None:
    request, content = arriving(None)
    pieces = reading(request)
    for _ in range(17):
        content.feed_data(bytes(1 << 16))
        await asyncio.sleep(0)
    with pytest.raises(TooLargeError):
        await pieces


@pytest.mark.parametrize("at", [0, 1, 3, 16, 21])
def test_what_begins_anywhere_in_a_body_can_lie_where_arrays_must(at: int) -> None:
    pieces = [b"abcdefghijkl", b"mnopqrstuvwxyz"]
    found = aligned(pieces, at)
    assert found == joined(pieces) == b"abcdefghijklmnopqrstuvwxyz"
    assert np.frombuffer(found, np.uint8)[at:].ctypes.data % 16 == 0
