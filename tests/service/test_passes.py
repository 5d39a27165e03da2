"""Calls of a divided version go through its pieces together, and each gets its own rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aiaas_async.errors import DeadlineError, InputError, OverloadedError, StoppingError
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.work import Call, Result
from aiaas_async.schedule.origin import Origin
from aiaas_async.service.passes import Passes
from tests.node.fakes import call, servable


class Pieces:
    """A version that doubles; a pass waits until it is let go, and a row of 13 fails it."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, call: Call, deadline: float, origin: Origin) -> Result:
        self.rows.append(call.rows)
        await self.go.wait()
        if (call.arrays["x"] == 13).any():
            raise InputError("thirteen")
        return Result("n0+n1", {"y": call.arrays["x"] * 2}, compute_s=0.001, batch_size=call.rows)


@pytest.fixture
def pieces() -> Pieces:
    return Pieces()


@pytest_asyncio.fixture
async def passes(pieces: Pieces) -> AsyncIterator[Passes]:
    made = Passes(pieces, NodeLimits())
    yield made
    await made.stop()


def in_a_minute() -> float:
    return asyncio.get_running_loop().time() + 60


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_calls_that_come_together_are_one_pass(passes: Passes, pieces: Pieces) -> None:
    model = servable()
    asked = [passes.call(call(model, float(n), n), in_a_minute()) for n in (1, 2, 3)]
    answers = await asyncio.gather(*asked)
    assert pieces.rows == [6]
    assert [a.arrays["y"][:, 0].tolist() for a in answers] == [[2], [4, 4], [6, 6, 6]]
    assert {a.batch_size for a in answers} == {6}


async def test_one_pass_is_under_way_at_a_time_and_what_waits_is_the_next(
    passes: Passes, pieces: Pieces
) -> None:
    model = servable()
    pieces.go.clear()
    first = asyncio.create_task(passes.call(call(model), in_a_minute()))
    await turns()
    rest = [asyncio.create_task(passes.call(call(model), in_a_minute())) for _ in range(3)]
    await turns()
    assert pieces.rows == [1]
    pieces.go.set()
    await asyncio.gather(first, *rest)
    assert pieces.rows == [1, 3]


async def test_one_bad_call_in_a_pass_fails_alone(passes: Passes, pieces: Pieces) -> None:
    model = servable()
    asked = [passes.call(call(model, value), in_a_minute()) for value in (1.0, 13.0, 2.0)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Result, InputError, Result]
    assert pieces.rows == [3, 1, 1, 1]


async def test_a_pass_never_exceeds_the_versions_maximum(passes: Passes, pieces: Pieces) -> None:
    model = servable(max_batch_size=4)
    await asyncio.gather(*(passes.call(call(model), in_a_minute()) for _ in range(10)))
    assert max(pieces.rows) == 4
    assert sum(pieces.rows) == 10


async def test_an_expired_call_is_answered_and_costs_no_pass(
    passes: Passes, pieces: Pieces
) -> None:
    model = servable()
    pieces.go.clear()
    first = asyncio.create_task(passes.call(call(model), in_a_minute()))
    await turns()
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineError):
        await passes.call(call(model), now)
    pieces.go.set()
    await first
    assert pieces.rows == [1]


async def test_who_waits_when_it_stops_is_told_so(pieces: Pieces) -> None:
    passes, model = Passes(pieces, NodeLimits()), servable()
    pieces.go.clear()
    asked = [asyncio.create_task(passes.call(call(model), in_a_minute())) for _ in range(2)]
    await turns()
    asked.append(asyncio.create_task(passes.call(call(model), in_a_minute())))
    await turns()
    await passes.stop()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoppingError}
    assert pieces.rows == [2]


async def test_how_many_may_wait_for_a_pass_their_nodes_limits_say(pieces: Pieces) -> None:
    passes, model = Passes(pieces, NodeLimits(mailbox_items=2)), servable(max_batch_size=1)
    pieces.go.clear()
    asked = [asyncio.create_task(passes.call(call(model), in_a_minute()))]
    await turns()
    asked += [asyncio.create_task(passes.call(call(model), in_a_minute())) for _ in range(2)]
    await turns()
    with pytest.raises(OverloadedError):
        await passes.call(call(model), in_a_minute())
    assert (passes.waiting(), passes.statistics().refused) == (2, 1)
    pieces.go.set()
    await asyncio.gather(*asked)
    assert (passes.waiting(), passes.statistics().accepted) == (0, 3)
    await passes.stop()


async def served_by(limits: NodeLimits, pieces: Pieces, *origins: Origin) -> list[Origin]:
    """The order in which calls that wait behind another are served."""
    passes, model, served = Passes(pieces, limits), servable(max_batch_size=1), []

    async def ask(origin: Origin) -> None:
        await passes.call(call(model), in_a_minute(), origin)
        served.append(origin)

    pieces.go.clear()
    first = asyncio.create_task(passes.call(call(model), in_a_minute()))
    await turns()
    asked = [asyncio.create_task(ask(origin)) for origin in origins]
    await turns()
    pieces.go.set()
    await asyncio.gather(first, *asked)
    await passes.stop()
    return served


async def test_the_schedule_of_the_nodes_says_whose_pass_is_next(pieces: Pieces) -> None:
    low, high = Origin(), Origin(priority=5)
    assert await served_by(NodeLimits(schedule="priority"), pieces, low, high) == [high, low]
    assert await served_by(NodeLimits(schedule="fifo"), pieces, low, high) == [low, high]


async def test_tenants_share_the_passes_by_their_weights(pieces: Pieces) -> None:
    light, heavy = Origin(tenant="light"), Origin(tenant="heavy")
    waiting = [*[light] * 12, *[heavy] * 12]
    equal = await served_by(NodeLimits(), pieces, *waiting)
    weighted = await served_by(NodeLimits(tenants={"heavy": 4.0}), pieces, *waiting)
    assert (equal[-1], weighted[-1]) == (heavy, light)
