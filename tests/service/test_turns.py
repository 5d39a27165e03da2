"""Changes of one data set take turns; whoever waits holds no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from aiaas_async.errors import StoppingError, StorageError
from aiaas_async.service.turns import Turns


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    made = Turns("change")
    yield made
    await made.stop()


class Held:
    """Work that is under way until it is `free`."""

    def __init__(self) -> None:
        self.begun, self.free, self.done = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.free.wait(10)
        self.done.set()

    async def is_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 10)


async def test_those_who_wait_for_one_keep_nobody_from_another(turns: Turns) -> None:
    held, order = Held(), list[int]()
    first = asyncio.create_task(turns.take("a", held))
    await held.is_begun()
    rest = [asyncio.create_task(turns.take("a", order.append, n)) for n in range(50)]
    await turns.take("b", lambda: None)
    assert order == []
    held.free.set()
    await asyncio.gather(first, *rest)
    assert order == list(range(50))


async def test_the_next_begins_when_the_last_is_done_though_nobody_waits_for_it(
    turns: Turns,
) -> None:
    held, after = Held(), list[bool]()
    first = asyncio.create_task(turns.take("a", held))
    await held.is_begun()
    first.cancel()
    second = asyncio.create_task(turns.take("a", lambda: after.append(held.done.is_set())))
    await turns.take("b", lambda: None)
    assert not first.done()
    held.free.set()
    await second
    assert after == [True]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_nobody_waits_for_is_not_begun(turns: Turns) -> None:
    held, order = Held(), list[int]()
    first = asyncio.create_task(turns.take("a", held))
    await held.is_begun()
    second = asyncio.create_task(turns.take("a", order.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    held.free.set()
    await first
    await turns.take("a", order.append, 3)
    assert order == [3]


async def test_what_fails_is_told_and_the_next_has_its_turn(turns: Turns) -> None:
    def fails() -> None:
        raise StorageError("no space left")

    with pytest.raises(StorageError):
        await turns.take("a", fails)
    assert await turns.take("a", lambda: 7) == 7


async def test_it_stops_when_what_waits_has_had_its_turn(turns: Turns) -> None:
    held, order = Held(), list[int]()
    first = asyncio.create_task(turns.take("a", held))
    await held.is_begun()
    second = asyncio.create_task(turns.take("a", order.append, 2))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(turns.stop())
    held.free.set()
    await stopping
    assert order == [2]
    await asyncio.gather(first, second)


async def test_who_comes_after_it_has_stopped_is_told_so(turns: Turns) -> None:
    await turns.stop()
    for late in (turns.take("a", lambda: None), turns.beside(lambda: None)):
        with pytest.raises(StoppingError, match="shutting down"):
            await late
