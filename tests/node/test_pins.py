"""What is pinned is so until it is released, and no longer, whatever else waits or dies."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from aiaas_async.errors import OverloadedError
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.work import Hold, Message, Release, WorkItem
from aiaas_async.schedule.origin import A_CALL, Origin
from tests.node.fakes import FakeSource, FakeWorker, call, servable

ANY = servable(max_batch_size=1)
PINNED = dataclasses.replace(servable("a"), piece="#d.0")  # of a deployment
NEXT = dataclasses.replace(servable("b"), piece="#d.1")


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
async def node(source: FakeSource) -> AsyncIterator[Node]:
    """It holds a piece, and two more messages fill its mailbox."""
    made = Node("n0", source, NodeLimits(mailbox_items=2), Quarantine(), Cores())
    await made.start()
    await ask(made, Hold(PINNED, pin=True)).reply
    yield made
    await made.stop(0.0)


def ask(node: Node, message: Message, origin: Origin = A_CALL) -> WorkItem:
    return node.submit(message, 0, asyncio.get_running_loop().time() + 60, origin)


async def turn(node: Node) -> None:
    """Until all is done that waits by now."""
    await ask(node, Release("none:1")).reply


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what a node has taken has no event of its own
            await asyncio.sleep(0)


async def busy(node: Node) -> list[WorkItem]:
    """As many calls as the worker takes, so that the next one waits."""
    calls = []
    for _ in range(2):
        calls.append(ask(node, call(ANY)))
        await until(lambda: not node.waiting())
    return calls


async def finish(worker: FakeWorker, count: int) -> None:
    for _ in range(count):
        await worker.next()
        worker.finish()


async def test_what_is_released_while_a_new_worker_comes_is_not_pinned_again(
    node: Node, source: FakeSource
) -> None:
    source.workers[0].kill()
    released = ask(node, Release(PINNED.id))
    second = await source.worker(1)
    await released.reply
    await turn(node)
    assert second.log == []
    assert node.status()["pinned"] == []
    assert node.free_bytes == node.budget_bytes


async def test_a_full_mailbox_refuses_neither_the_pieces_of_a_deployment_nor_what_ends_them(
    node: Node, source: FakeSource
) -> None:
    calls = [*await busy(node), ask(node, call(ANY)), ask(node, call(ANY))]
    with pytest.raises(OverloadedError):
        ask(node, Hold(servable("c")))  # as anybody may, as often as he likes
    release, held = ask(node, Release(PINNED.id)), ask(node, Hold(NEXT, pin=True))
    await finish(source.workers[0], len(calls))
    await asyncio.gather(release.reply, held.reply, *(each.reply for each in calls))
    assert node.status()["pinned"] == [NEXT.id]


async def test_another_tenants_call_does_not_send_a_release_away(
    node: Node, source: FakeSource
) -> None:
    calls = await busy(node)
    releases = [ask(node, Release(each)) for each in ("c:1", "d:1", PINNED.id)]
    with pytest.raises(OverloadedError):
        ask(node, call(ANY), Origin(tenant="another"))
    await finish(source.workers[0], len(calls))
    await asyncio.gather(*(each.reply for each in releases))
    assert node.status()["pinned"] == []


async def test_a_release_that_nobody_waits_for_any_more_is_carried_out(node: Node) -> None:
    ask(node, Release(PINNED.id)).reply.cancel()
    await turn(node)
    assert node.status()["pinned"] == []
