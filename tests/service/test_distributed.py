"""Distributed jobs: over the ring's nodes, through deaths and stalls, to the same weights."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.compute.slots import Slot
from aiaas_async.errors import InvalidError, WorkerDiedError
from aiaas_async.formats.safetensors import map_tensors
from aiaas_async.jobs.board import Running, render
from aiaas_async.nn.layer import Array
from aiaas_async.service.distributed import Pulse
from aiaas_async.service.platform import Platform
from aiaas_async.training.crew import Count, Header
from tests.service.conftest import Start
from tests.training.data import GRAPH, points
from tests.training.test_distributed import PLAIN

PLAN: dict[str, Any] = {
    "method": "distributed",
    "epochs": 4,
    "batch_size": 16,
    "momentum": 0.9,
    "seed": 3,
}


class WatchedForks(WorkerForks):
    """Remembers the workers of jobs, which are nice."""

    def __init__(self) -> None:
        super().__init__()
        self.crews: list[WorkerProcess] = []
        self._grown = asyncio.Event()

    async def spawn(self, nice: int = 0) -> WorkerProcess:
        worker = await super().spawn(nice)
        if nice:
            self.crews.append(worker)
            self._grown.set()
        return worker

    async def until(self, count: int) -> None:
        """Until that many workers of jobs have been started."""
        async with asyncio.timeout(20):
            while len(self.crews) < count:
                self._grown.clear()
                await self._grown.wait()


async def with_points(platform: Platform, count: int = 100) -> None:
    columns = {"x": {"dtype": "float32", "shape": [6]}, "y": {"dtype": "int64"}}
    await platform.datasets.declare("points", {"columns": columns})
    keys = [f"k{number}" for number in range(count)]
    await platform.datasets.put("points", {"keys": keys, "columns": points(count)})


async def submitted(
    platform: Platform, version: str = "1", request: dict[str, Any] | None = None, **plan: Any
) -> Running:
    body = {"model": "clouds", "version": version, "dataset": "points", "graph": PLAIN}
    body |= {"plan": {**PLAN, **plan}, **(request or {})}
    return await platform.training.start(platform.jobs, body)


async def result(job: Running) -> dict[str, Any]:
    assert job.task is not None
    async with asyncio.timeout(60):
        await asyncio.wait([job.task])
    assert job.record.state == "succeeded", job.record.error
    assert job.record.result is not None
    return job.record.result


async def progress(job: Running, enough: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(60):
        async for event in job.events.follow():
            if event.kind == "progress" and enough(event.data):
                return


async def weights(platform: Platform, version: str) -> dict[str, Array]:
    record = platform.models.catalog.version("clouds", version)
    path = await platform.models.path_of(record.file("weights.safetensors"))
    return dict(map_tensors(path).tensors)


async def same_bits(platform: Platform, one: str, other: str) -> None:
    found = await weights(platform, other)
    for name, array in (await weights(platform, one)).items():
        assert found[name].tobytes() == array.tobytes()


async def test_a_distributed_job_equals_a_single_one_and_tells_of_its_nodes(start: Start) -> None:
    async with start(nodes=3) as platform:
        await with_points(platform)
        job = await submitted(platform, verify=True)
        facts = await result(job)
        assert job.record.request["plan"]["nodes"] == 3
        assert facts["verified"]["passed"]
        assert set(facts["nodes"]) == {"node-0", "node-1", "node-2"}
        assert set(render(job)["progress"]["nodes"]) == set(facts["nodes"])
        await result(await submitted(platform, "2", method="sgd"))
        single = await weights(platform, "2")
        for name, array in (await weights(platform, "1")).items():
            np.testing.assert_allclose(array, single[name], atol=1e-5)


async def test_what_cannot_be_divided_is_refused_at_once(start: Start) -> None:
    async with start() as platform:
        await with_points(platform)
        with pytest.raises(InvalidError, match="asks for 3 nodes; there are 2"):
            await submitted(platform, nodes=3)
        with pytest.raises(InvalidError, match=r"plan.nodes is for the method distributed"):
            await submitted(platform, nodes=2, method="sgd")
        with pytest.raises(InvalidError, match="'norm': batch_norm's statistics"):
            await submitted(platform, request={"graph": GRAPH})
        await result(await submitted(platform, "1", {"graph": GRAPH}, method="sgd", epochs=1))
        further = {"graph": None, "parent": "clouds:1"}
        with pytest.raises(InvalidError, match=r"use layer_norm, or nodes: 1"):
            await submitted(platform, "2", further)
        await result(await submitted(platform, "2", further, nodes=1, epochs=1))


async def test_it_stops_with_the_server_and_goes_on_to_the_same_bits(start: Start) -> None:
    async with start() as platform:
        await with_points(platform)
        await result(await submitted(platform, "whole", epochs=60))
        job = await submitted(platform, "parted", epochs=60)
        await progress(job, lambda facts: facts.get("epoch", 0) >= 5)
    async with start() as platform:
        again = platform.jobs.get(job.record.id)
        await result(again)
        assert again.record.starts == 2
        told = [facts for facts in again.events.progress() if "val_loss" in facts]
        assert [facts["epoch"] for facts in told] == list(range(1, 61))
        await same_bits(platform, "whole", "parted")


async def test_a_cancelled_run_ends(start: Start) -> None:
    async with start() as platform:
        await with_points(platform)
        job = await submitted(platform, epochs=50_000)
        await progress(job, lambda facts: "nodes" in facts)
        await platform.jobs.cancel(job.record.id)
        assert job.record.state == "cancelled"


def test_who_is_stuck_is_who_the_others_wait_for() -> None:
    memory = Slot.create()
    header = Header(memory)
    pulse = Pulse(header, 3, 0.0)
    header.counts[:3, Count.MET] = [5, 4, 5]
    header.counts[:3, Count.WAITING] = [1, 0, 1]
    header.counts[:3, Count.BEAT] = 7
    assert pulse.stuck(1.0, 2.0) == []
    assert pulse.stuck(2.9, 2.0) == []
    assert pulse.stuck(3.1, 2.0) == [1]
    header.counts[1, Count.BEAT] += 1
    assert pulse.stuck(3.2, 2.0) == []
    header.counts[1, Count.MET] = 5  # all are here: whoever does not go on now is stuck
    assert pulse.stuck(9.0, 2.0) == [0, 1, 2]
    memory.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("rank", "harm"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (0, signal.SIGSTOP)]
)
async def test_a_worker_that_dies_or_stalls_is_replaced_and_the_bits_are_the_same(
    start: Start, rank: int, harm: signal.Signals
) -> None:
    forks = WatchedForks()
    async with start(forks) as platform:
        await with_points(platform)
        plan: dict[str, Any] = {"epochs": 200, "checkpoint_every_steps": 10, "step_timeout_s": 2.0}
        await result(await submitted(platform, "whole", **plan))
        unharmed = len(forks.crews)
        job = await submitted(platform, "harmed", **plan)
        await progress(job, lambda facts: facts.get("step", 0) >= 20)
        os.kill(forks.crews[unharmed + rank].pid, harm)
        await result(job)
        assert {"restarted": 1} in job.events.progress()
        assert len(forks.crews) == unharmed + 4
        await same_bits(platform, "whole", "harmed")


@pytest.mark.real
async def test_a_crew_that_dies_again_and_again_fails_the_job(start: Start) -> None:
    forks = WatchedForks()
    async with start(forks) as platform:
        await with_points(platform)
        job = await submitted(platform, epochs=50_000)
        for attempt in range(1, 4):
            await progress(job, lambda facts: "nodes" in facts)
            await forks.until(2 * attempt)
            forks.crews[-1].kill()
        assert job.task is not None
        await asyncio.wait([job.task])
        assert job.record.error is not None
        assert job.record.error["code"] == WorkerDiedError.code


def beyond(step: int) -> Callable[[dict[str, Any]], bool]:
    return lambda facts: facts.get("step", 0) >= step


@pytest.mark.real
async def test_deaths_with_checkpoints_in_between_do_not_add_up(start: Start) -> None:
    forks = WatchedForks()
    async with start(forks) as platform:
        await with_points(platform)
        job = await submitted(platform, epochs=400, checkpoint_every_steps=5)
        for deaths in range(1, 5):
            await progress(job, beyond(deaths * 200))
            forks.crews[-1].kill()
        assert (await result(job))["epochs"] == 400
        restarts = [f["restarted"] for f in job.events.progress() if "restarted" in f]
        assert restarts == [1, 2, 3, 4]


@pytest.mark.real
async def test_nodes_come_and_go_while_a_run_goes_on(start: Start) -> None:
    async with start(WorkerForks()) as platform:
        await with_points(platform)
        job = await submitted(platform, epochs=300)
        await progress(job, lambda facts: "nodes" in facts)
        await platform.membership.join("late")
        await platform.membership.leave("node-1")
        assert (await result(job))["epochs"] == 300
        assert (await platform.datasets.describe("points"))["count"] == 100
