"""Steps of an answer in parts, as a node takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.base import Answer
from aiaas_async.compute.jobs import CloseStream, NextPart, OpenStream, StreamJob
from aiaas_async.errors import WorkerError
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.work import Release, Servable, StreamStep, WorkItem
from tests.node.fakes import FakeSource, call, servable


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
async def node(source: FakeSource) -> AsyncIterator[Node]:
    made = Node("n0", source, NodeLimits(), Quarantine(), Cores())
    await made.start()
    yield made
    await made.stop(0.0)


def step(node: Node, of: Servable, job: StreamJob, **arrays: Any) -> WorkItem:
    deadline = asyncio.get_running_loop().time() + 60
    return node.submit(StreamStep(of, job, arrays), 100, deadline)


async def test_the_first_step_loads_and_later_ones_reach_the_same_worker(
    node: Node, source: FakeSource
) -> None:
    of = servable()
    opening = step(node, of, OpenStream(of.id, "s", None, 60.0), x=np.ones((1, 1)))
    opened = await source.workers[0].next()
    assert [piece.name for piece in opened.arrays] == ["x"]
    source.workers[0].waiting.pop(0).future.set_result(Answer())
    await opening.reply
    following = step(node, of, NextPart("s"))
    await source.workers[0].next()
    part = {"y": np.zeros((1, 1))}
    source.workers[0].waiting.pop(0).future.set_result(Answer({}, part, 5))
    assert (await following.reply).arrays == part


async def test_a_step_of_a_version_that_is_gone_is_an_error_at_once(node: Node) -> None:
    for job in (NextPart("s"), CloseStream("s")):
        with pytest.raises(WorkerError, match="was lost with its worker"):
            await step(node, servable(), job).reply


async def test_a_worker_that_dies_takes_its_streams_along(node: Node, source: FakeSource) -> None:
    of = servable()
    opening = step(node, of, OpenStream(of.id, "s", None, 60.0))
    await source.workers[0].next()
    source.workers[0].waiting.pop(0).future.set_result(Answer())
    await opening.reply
    following = step(node, of, NextPart("s"))
    await source.workers[0].next()
    source.workers[0].kill()
    with pytest.raises(WorkerError, match="was lost with its worker"):
        await following.reply


async def test_a_version_has_a_new_incarnation_with_every_load(
    node: Node, source: FakeSource
) -> None:
    of = servable()
    assert node.incarnation(of.id) == 0
    for expected in (1, 2):
        item = node.submit(call(of, 1.0, 1), 100, None)
        await source.workers[0].next()
        source.workers[0].finish()
        await item.reply
        assert node.incarnation(of.id) == expected
        await node.submit(Release(of.id), 0, None).reply
        assert node.incarnation(of.id) == 0
