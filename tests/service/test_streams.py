"""An answer in parts is ended on its node whenever its caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import numpy as np
import pytest_asyncio

from aiaas_async.compute.base import Answer
from aiaas_async.compute.jobs import CloseStream, Job, NextPart, OpenStream
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.work import Servable
from aiaas_async.schedule.origin import A_CALL
from aiaas_async.service.seating import Seat, Seating
from aiaas_async.service.streams import Streams
from tests.node.fakes import FakeSource, FakeWorker, call, servable


class One:
    """Seats everything at one node, whose worker answers as the test says."""

    def __init__(self, node: Node, worker: FakeWorker) -> None:
        self._node, self._worker = node, worker
        self.streams = Streams(cast(Seating, self))
        self.parts = self.streams.parts(
            call(servable()), asyncio.get_running_loop().time() + 60, A_CALL
        )

    async def seat(self, of: Servable, key: str, deadline: float) -> Seat:
        return self._node, of

    async def asked(self) -> Job:
        return (await self._worker.next()).job

    def answer(self, answer: Answer) -> None:
        self._worker.waiting.pop(0).future.set_result(answer)


@pytest_asyncio.fixture
async def one() -> AsyncIterator[One]:
    source = FakeSource()
    node = Node("n0", source, NodeLimits(), Quarantine(), Cores())
    await node.start()
    yield One(node, source.workers[0])
    await node.stop(0.0)


async def test_a_stream_whose_caller_left_as_it_was_opened_is_closed(one: One) -> None:
    first = asyncio.ensure_future(anext(one.parts))
    opened = await one.asked()
    assert isinstance(opened, OpenStream)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    one.answer(Answer())
    async with asyncio.timeout(5):
        assert await one.asked() == CloseStream(opened.stream)
    one.answer(Answer())


async def test_one_whose_caller_left_between_parts_is_closed(one: One) -> None:
    first = asyncio.ensure_future(anext(one.parts))
    await one.asked()
    one.answer(Answer())
    following = await one.asked()
    assert isinstance(following, NextPart)
    part = {"y": np.ones((1, 2))}
    one.answer(Answer({}, part))
    assert await first == part
    assert await one.asked() == following
    await one.parts.aclose()
    one.answer(Answer({}, part))
    async with asyncio.timeout(5):
        assert await one.asked() == CloseStream(following.stream)
    one.answer(Answer())


async def test_one_that_came_to_its_end_is_not_closed_again(one: One) -> None:
    whole = asyncio.ensure_future(_all(one))
    for answer in (Answer(), Answer({}, {"y": np.ones((1, 2))}), Answer({"end": True})):
        await one.asked()
        one.answer(answer)
    assert await whole == 1
    assert not one._worker.waiting
    assert not any(isinstance(job, CloseStream) for job in one._worker.log)


async def _all(one: One) -> int:
    return len([part async for part in one.parts])
