"""Work in threads of its own: few at a time, whoever goes away."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio

from aiaas_async.errors import MalformedError, OverloadedError, StoppingError
from aiaas_async.service import ownthreads
from aiaas_async.service.ownthreads import OwnThreads
from tests.service.held import Held

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="none")


@pytest.fixture
def held() -> Held:
    return Held()


@pytest_asyncio.fixture
async def one(held: Held) -> AsyncIterator[OwnThreads]:
    made = OwnThreads("long bodies")
    yield made
    held.free.set()
    await made.stop()


async def test_what_the_work_gives_or_raises_is_told(one: OwnThreads) -> None:
    def fails() -> None:
        raise MalformedError("no JSON")

    assert await one.do(lambda: 7) == 7
    with pytest.raises(MalformedError, match="no JSON"):
        await one.do(fails)
    assert await one.do(lambda: 8) == 8


async def test_there_is_one_at_a_time_though_those_who_asked_go_away(
    one: OwnThreads, held: Held
) -> None:
    first = asyncio.create_task(one.do(held))
    await held.is_begun()
    rest = [asyncio.create_task(one.do(held)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in (first, *rest[:3]):
        task.cancel()
    await asyncio.wait(rest[:3])
    assert not first.done()
    held.free.set()
    assert await rest[3] == 7
    assert first.cancelled()
    assert (held.most, held.now) == (1, 0)


async def test_two_of_them_may_be_so_at_once_where_there_are_two_threads(held: Held) -> None:
    two = OwnThreads("inputs", 2)
    asked = [asyncio.create_task(two.do(held)) for _ in range(3)]
    await held.is_begun()
    await held.is_begun()
    held.free.set()
    assert await asyncio.gather(*asked) == [7, 7, 7]
    assert held.most == 2
    await two.stop()


async def test_it_keeps_no_default_thread_and_needs_none(one: OwnThreads, held: Held) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    asked = [asyncio.create_task(one.do(held)) for _ in range(4)]
    await held.is_begun()
    assert await asyncio.to_thread(lambda: 1) == 1
    disk, slow = threading.Event(), Held()
    reading = asyncio.create_task(asyncio.to_thread(disk.wait, 10))
    held.free.set()
    slow.free.set()
    assert await asyncio.gather(*asked, one.do(slow)) == [7] * 5
    assert not reading.done()
    disk.set()
    assert await reading


async def test_who_waits_too_long_for_a_turn_is_told_so(
    one: OwnThreads, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownthreads, "PATIENCE_S", 0.0)
    first = asyncio.create_task(one.do_by(asyncio.get_running_loop().time() + 10, held))
    await held.is_begun()
    with pytest.raises(OverloadedError, match=r"^no thread for long bodies was free within 0 s;"):
        await one.do(held)
    with pytest.raises(TimeoutError):
        await one.do_by(asyncio.get_running_loop().time(), held)
    held.free.set()
    assert await first == 7
    assert held.most == 1


async def test_the_thread_sees_who_asks(one: OwnThreads) -> None:
    NAME.set("a request")
    assert await one.do(NAME.get) == "a request"


async def test_it_stops_when_what_waits_has_had_its_turn(one: OwnThreads, held: Held) -> None:
    asked = [asyncio.create_task(one.do(held)) for _ in range(2)]
    await held.is_begun()
    stopping = asyncio.create_task(one.stop())
    await asyncio.sleep(0)
    late = asyncio.create_task(one.do(held))
    held.free.set()
    await stopping
    assert await asyncio.gather(*asked) == [7, 7]
    with pytest.raises(StoppingError):
        await late
    with pytest.raises(StoppingError):
        await one.do(held)
