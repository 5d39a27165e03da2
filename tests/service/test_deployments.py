"""Deployments within tight budgets: they move, survive, and are called by whatever names them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.deploy.plan import Plan
from aiaas_async.errors import ConflictError, DeadlineError, MemoryBudgetError, OverloadedError
from aiaas_async.names import ModelRef
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.registry.records import Traffic, VersionRecord
from aiaas_async.service import placement
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.deployment import Deployment, render
from aiaas_async.service.deployments import Deployments
from aiaas_async.service.deploymentspec import DeploymentSpec
from aiaas_async.service.placement import Placement
from aiaas_async.service.platform import Platform
from tests.compute.kept import KeptForks
from tests.nn.graphs import spec
from tests.service.conftest import Start
from tests.service.pushing import push

UNITS, MEMORY = 256, {"node_memory_mb": 1}  # a little less than all four layers; half of them fit
SPLITS = ["pipeline", "tensor"]
X = np.random.default_rng(0).standard_normal((5, UNITS)).astype(np.float32)


def network(layers: int = 4) -> Network:
    made = [{"name": f"d{i}", "op": "dense", "units": UNITS} for i in range(layers)]
    return Network.from_spec(spec(made, [f"d{layers - 1}"], (UNITS,)))


async def pushed(platform: Platform, folder: Path, version: str = "1", layers: int = 4) -> Array:
    """A version of so many layers, committed; what it answers to `X`."""
    made = network(layers)
    params = made.init(1)
    await push(platform, folder, ModelRef("deep", version), made, params)
    return made.predict(params, {"x": X})[made.graph.outputs[0]]


def asked(split: str = "pipeline", version: str = "1", **more: Any) -> dict[str, Any]:
    body = {"model": "deep", "version": version, "mode": "distributed", "split": split}
    return {**body, "nodes": 2, **more}


async def check(platform: Platform, expected: Array, version: str = "1") -> str:
    """One call, checked; who answered."""
    answer = await platform.calls.call(CallRequest({"x": X}, "deep", version))
    (found,) = answer.outputs.values()
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)
    return answer.node


async def calling(platform: Platform, expected: Array, stop: asyncio.Event) -> int:
    """Two callers who never pause, until `stop`; how many calls were answered."""

    async def caller() -> int:
        count = 0
        while not stop.is_set():
            await check(platform, expected)
            count += 1
        return count

    return sum(await asyncio.gather(caller(), caller()))


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that take equally long, whatever else the machine does just now."""

    async def timed(placed: Placement) -> list[float]:
        return [1.0] * len(placed.nodes)

    monkeypatch.setattr(placement, "stage_seconds", timed)


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("split", SPLITS)
async def test_it_moves_though_the_others_have_no_room_for_both_and_no_call_is_lost(
    start: Start, tmp_path: Path, split: str
) -> None:
    async with start(nodes=3, **MEMORY) as platform:
        expected = await pushed(platform, tmp_path)
        with pytest.raises(MemoryBudgetError, match="it would fit with"):
            await platform.deployments.deploy({"model": "deep"})
        deployed = await platform.deployments.deploy(asked(split))
        assert deployed.placement is not None
        stop = asyncio.Event()
        callers = asyncio.create_task(calling(platform, expected, stop))
        leaving = deployed.placement.nodes[0].id
        left = await platform.membership.leave(leaving)
        assert left["failed"] == {}
        await check(platform, expected)
        stop.set()
        assert await callers > 2
        found = render(deployed)
        assert found["state"] == "ready"
        assert leaving not in {node["node"] for node in found["plan"]["nodes"]}


@pytest.mark.usefixtures("even")
async def test_without_room_anywhere_it_has_failed_and_calls_are_answered_at_once(
    start: Start, tmp_path: Path
) -> None:
    async with start(nodes=2, **MEMORY) as platform:
        expected = await pushed(platform, tmp_path)
        deployed = await platform.deployments.deploy(asked())
        with pytest.raises(ConflictError, match="node node-1 is needed by deployment") as caught:
            await platform.membership.leave("node-1")
        assert f"{deployed.id} of deep:1" in caught.value.message
        assert platform.cluster.members == ["node-0", "node-1"]
        await check(platform, expected)
        left = await platform.membership.leave("node-1", force=True)
        assert "2 nodes were asked for" in left["failed"][deployed.id]
        assert "there is one: node-0" in left["failed"][deployed.id]
        assert deployed.state == "failed"
        with pytest.raises(MemoryBudgetError):
            await check(platform, expected)
        await platform.membership.join()
        assert deployed.state == "ready"
        await check(platform, expected)


async def test_a_pipeline_is_cut_by_what_its_stages_take_on_this_machine(
    start: Start, tmp_path: Path
) -> None:
    """By their shapes all layers cost the same; in truth gelu takes many times what relu does."""
    layers = [{"name": f"l{i}", "op": "gelu" if i < 3 else "relu"} for i in range(6)]
    graph = spec(layers, ["l5"], (1 << 15,))
    async with start(nodes=2) as platform:
        body = {"name": "deep", "version": "1", "inputs": ["x"], "outputs": ["l5"]}
        await platform.models.register({**body, "graph": graph})
        await platform.models.commit(ModelRef("deep", "1"))
        planned = await platform.deployments.preview(asked())
        assert [node["layers"] for node in planned["nodes"]] == [
            ["l0", "l1", "l2"],
            ["l3", "l4", "l5"],
        ]
        placed = render(await platform.deployments.deploy(asked()))["plan"]["nodes"]
        assert placed[0]["layers"] in (["l0"], ["l0", "l1"])
        x = np.random.default_rng(0).standard_normal((3, 1 << 15)).astype(np.float32)
        answer = await platform.calls.call(CallRequest({"x": x}, "deep"))
        expected = Network.from_spec(graph).predict({}, {"x": x})["l5"]
        np.testing.assert_array_equal(answer.outputs["l5"], expected)
        await platform.deployments.settled()
        loaded = [len(node.status()["loaded"]) for node in platform.cluster.nodes.values()]
        assert loaded == [1, 1]


async def test_a_better_cut_that_does_not_fit_leaves_the_one_that_does(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, times = placement.place, iter([[9.0, 1.0]])

    async def timed(_: Placement) -> list[float]:
        return next(times)

    async def balky(plan: Plan, *given: Any) -> Placement:
        if plan.nodes[0].nbytes < plan.nodes[1].nbytes:
            raise MemoryBudgetError("somebody was faster")
        return await whole(plan, *given)

    monkeypatch.setattr(placement, "stage_seconds", timed)
    monkeypatch.setattr(placement, "place", balky)
    async with start(nodes=2) as platform:
        expected = await pushed(platform, tmp_path)
        deployed = await platform.deployments.deploy(asked())
        assert deployed.placement is not None
        sizes = [node.nbytes for node in deployed.placement.plan.nodes]
        assert sizes[0] == sizes[1]
        await check(platform, expected)


async def test_calls_of_a_divided_version_wait_as_the_settings_say_and_are_seen(
    start: Start, tmp_path: Path
) -> None:
    async with start(schedule="priority", mailbox_items=2) as platform:
        expected = await pushed(platform, tmp_path)
        deployed = await platform.deployments.deploy(asked("tensor", max_batch_size=5))
        await check(platform, expected)
        assert render(deployed)["mailbox"]["accepted"] == 1
        calls = [asyncio.create_task(check(platform, expected)) for _ in range(5)]
        while not all(call.done() for call in calls):
            assert platform.deployments.waiting()[deployed.ref] <= 2
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, OverloadedError)]
        assert len(refused) == render(deployed)["mailbox"]["refused"] > 0


@pytest.mark.parametrize("split", SPLITS)
async def test_a_platform_that_ends_leaves_nothing_of_a_deployment_running(
    start: Start, tmp_path: Path, split: str
) -> None:
    before = asyncio.all_tasks()
    async with start(nodes=2) as platform:
        expected = await pushed(platform, tmp_path)
        await platform.deployments.deploy(asked(split))
        await platform.deployments.deploy(asked(split))
        await check(platform, expected)
    assert asyncio.all_tasks() == before


async def test_a_defect_in_placing_one_again_is_its_failure_alone(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with start() as platform:
        for version in ("1", "2"):
            await pushed(platform, tmp_path, version)
            await platform.deployments.deploy(asked(version=version))
    place = Deployments._place

    async def broken(self: Deployments, record: VersionRecord, spec: DeploymentSpec) -> Placement:
        if record.ref.version == "1":
            raise ZeroDivisionError
        return await place(self, record, spec)

    monkeypatch.setattr(Deployments, "_place", broken)
    async with start() as platform:
        async with asyncio.timeout(5):
            await platform.deployments.restored.wait()
        first, second = map(render, platform.deployments.all())
    assert (first["state"], second["state"]) == ("failed", "ready")
    assert first["reason"] == "the server met a defect of its own, which its log tells"
    assert "ZeroDivisionError" in caplog.text


async def test_a_call_waits_for_one_that_moves_only_until_its_deadline() -> None:
    moving = Deployment("a", ModelRef("m", "1"), DeploymentSpec(model="m"))
    moving.arrived = asyncio.Event()
    assert moving.state == "moving"
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineError, match="was moving"):
        await moving.placed(now)
    assert moving.waiting == 0


@pytest.mark.usefixtures("even")
@pytest.mark.parametrize("traffic", [Traffic(shadow="2"), Traffic("2", 1.0)])
async def test_copies_and_canaries_go_to_where_a_version_is_deployed(
    start: Start, tmp_path: Path, traffic: Traffic
) -> None:
    async with start(nodes=2, **MEMORY) as platform:
        small = await pushed(platform, tmp_path, "1", layers=1)
        large = await pushed(platform, tmp_path, "2")
        await platform.deployments.deploy(asked(version="2"))
        await platform.models.set_alias("deep", "live", "1", None, traffic)
        node = await check(platform, small if traffic.shadow else large, "live")
        await platform.calls.shadows.settled()
        statistics = platform.calls.shadows.statistics
        assert (statistics.answered, statistics.failed) == (1 if traffic.shadow else 0, 0)
        assert ("+" in node) is (traffic.canary is not None)


async def test_a_version_is_replaced_only_once_the_new_one_can_answer(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(nodes=2) as platform:
        expected = await pushed(platform, tmp_path)
        first = await platform.deployments.deploy(asked())
        old = first.placement

        async def refuse(*_: Any) -> Placement:
            raise MemoryBudgetError("a piece does not fit after all")

        with monkeypatch.context() as patch:
            patch.setattr("aiaas_async.service.placement.place", refuse)
            with pytest.raises(MemoryBudgetError):
                await platform.deployments.deploy(asked("tensor"))
        assert platform.deployments.ready(ModelRef("deep", "1")) is first
        assert first.placement is old
        await check(platform, expected)


def mapped(pid: int, where: Callable[[str], bool]) -> int:
    """Bytes of files that a process maps."""
    found = 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and where(fields[5]):
            first, last = (int(end, 16) for end in fields[0].split("-"))
            found += last - first
    return found


@pytest.mark.usefixtures("even")
@pytest.mark.real
async def test_each_worker_maps_its_part_alone_and_its_death_costs_no_call_nor_room(
    start: Start, tmp_path: Path
) -> None:
    forks = KeptForks()
    async with start(forks, nodes=2, **MEMORY) as platform:
        expected = await pushed(platform, tmp_path)
        await platform.deployments.deploy(asked())
        workers = [worker for worker in forks.made if worker.alive]
        half = 2 * 4 * (UNITS * UNITS + UNITS)
        for worker in workers:
            assert half <= mapped(worker.pid, lambda path: "/artifacts/" in path) < 1.1 * half
        stop = asyncio.Event()
        callers = asyncio.create_task(calling(platform, expected, stop))
        await check(platform, expected)
        os.kill(workers[1].pid, signal.SIGKILL)
        await workers[1].wait_dead()
        assert all(node.free_bytes < half for node in platform.cluster.nodes.values())
        for _ in range(3):
            await check(platform, expected)
        stop.set()
        assert await callers > 0
        assert len([worker for worker in forks.made if worker.alive]) == 2
