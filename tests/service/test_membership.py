"""Nodes join and leave while calls run: no call is lost, and only the keys concerned move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.compute.inloop import InLoopWorker, InLoopWorkers
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.errors import (
    ConflictError,
    InvalidNameError,
    NotFoundError,
    StorageError,
    WorkerDiedError,
)
from aiaas_async.names import ModelRef
from aiaas_async.service import cluster
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.platform import Platform
from tests.runtimes.artifacts import BARE, rows
from tests.service.conftest import Start
from tests.service.movement import HeldMove


async def with_doubler(platform: Platform) -> None:
    body = {"name": "double", "version": "1", "inputs": ["x"], "outputs": ["doubled"]}
    await platform.models.register({**body, "graph": BARE})
    await platform.models.commit(ModelRef("double", "1"))


async def call(platform: Platform, number: int) -> str:
    """One call with its own key, checked; the node that answered."""
    x = rows(1, number)
    request = CallRequest({"x": x}, "double", key=f"key {number}")
    answer = await platform.calls.call(request)
    np.testing.assert_array_equal(answer.outputs["doubled"], 2 * x)
    return answer.node


async def calling(platform: Platform, stop: asyncio.Event, done: list[str]) -> None:
    """Eight callers who never pause, until `stop`."""

    async def caller(first: int) -> None:
        number = first
        while not stop.is_set():
            done.append(await call(platform, number))
            number += 8

    async with asyncio.TaskGroup() as group:
        for first in range(8):
            group.create_task(caller(first))


async def change_under_load(platform: Platform) -> None:
    await with_doubler(platform)
    stop, done = asyncio.Event(), list[str]()
    load = asyncio.create_task(calling(platform, stop, done))
    for _ in range(3):
        joined = await platform.membership.join()
        assert joined["id"] == "node-2"
        await until(lambda: "node-2" in done[-50:])
        left = await platform.membership.leave("node-2")
        assert left["state"] == "left"
        assert set(platform.cluster.nodes) == {"node-0", "node-1"}
    stop.set()
    await load
    assert len(done) > 100


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - whatever holds has no event of its own
            await asyncio.sleep(0)


async def test_no_call_is_lost_while_nodes_come_and_go(start: Start) -> None:
    async with start() as platform:
        await change_under_load(platform)


@pytest.mark.real
async def test_no_call_is_lost_with_real_workers(start: Start) -> None:
    async with start(WorkerForks()) as platform:
        await change_under_load(platform)


async def test_what_a_node_could_not_finish_in_time_another_does(start: Start) -> None:
    async with start(grace_s=0.0) as platform:
        await with_doubler(platform)
        calls = [asyncio.create_task(call(platform, number)) for number in range(64)]
        await until(lambda: platform.cluster.nodes["node-1"].load > 0)
        await platform.membership.leave("node-1")
        assert len(await asyncio.gather(*calls)) == 64


async def test_data_follows_the_ring_and_only_what_must_move_moves(start: Start) -> None:
    count = 20_000
    async with start(nodes=4) as platform:
        await declared(platform, count)
        joined = await platform.membership.join("spare")
        assert 0 < joined["moved"]["copies"] <= 1.2 * count / 5
        facts = await platform.datasets.describe("points")
        assert (facts["count"], set(facts["nodes"])) == (
            count,
            {"node-0", "node-1", "node-2", "node-3", "spare"},
        )
        digest = facts["digest"]
        explained = await platform.membership.explain("key")
        left = await platform.membership.leave("node-1")
        assert left["moved"]["copies"] == explained["would_move"]["node-1"]["rows"]
        assert left["moved"]["copies"] <= 1.2 * count / 5
        facts = await platform.datasets.describe("points")
        assert facts["digest"] == digest
        assert "node-1" not in facts["nodes"]


async def declared(platform: Platform, count: int) -> None:
    await platform.datasets.declare("points", {"columns": {"x": {"dtype": "int64"}}})
    keys = [f"key {number}" for number in range(count)]
    await platform.datasets.put("points", {"keys": keys, "columns": {"x": np.arange(count)}})


async def test_the_last_node_stays(start: Start) -> None:
    async with start(nodes=1) as platform:
        with pytest.raises(ConflictError, match="the last one"):
            await platform.membership.leave("node-0")
        await platform.membership.join("b")
        await platform.membership.leave("node-0")
        assert platform.cluster.ring.members == ("b",)


async def test_names_that_cannot_be_are_refused(start: Start) -> None:
    async with start() as platform:
        with pytest.raises(ConflictError, match="'node-0' is there already"):
            await platform.membership.join("node-0")
        with pytest.raises(InvalidNameError, match="node id"):
            await platform.membership.join("../x")
        with pytest.raises(NotFoundError, match="'nobody'"):
            await platform.membership.leave("nobody")


async def test_a_change_goes_on_when_the_one_who_asked_goes_away(start: Start) -> None:
    async with start() as platform:
        asked = asyncio.create_task(platform.membership.join("c"))
        await asyncio.sleep(0)
        asked.cancel()
        await until(lambda: "c" in platform.cluster.ring)
        await platform.membership.leave("c")


async def test_two_who_remove_the_last_two_nodes_cannot_both_succeed(start: Start) -> None:
    async with start() as platform:
        leaving = [platform.membership.leave(node) for node in ("node-0", "node-1")]
        outcomes = await asyncio.gather(*leaving, return_exceptions=True)
        assert [type(each) for each in outcomes] == [dict, ConflictError]


async def filled(platform: Platform, *names: str) -> None:
    for name in names:
        await platform.datasets.declare(name, {"columns": {"x": {"dtype": "int64"}}})
        keys = [f"key {number}" for number in range(100)]
        await platform.datasets.put(name, {"keys": keys, "columns": {"x": np.arange(100)}})


async def check_readable(platform: Platform, *names: str) -> None:
    async with asyncio.timeout(5):
        for name in names:
            for number in range(100):
                item = await platform.datasets.get(name, f"key {number}")
                assert item["columns"]["x"] == number
            page = await platform.datasets.page(name, None, 1000)
            assert sorted(page["columns"]["x"].tolist()) == list(range(100))


async def test_data_is_readable_while_it_moves(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as platform:
        await filled(platform, "moving", "other")
        held = HeldMove(monkeypatch)
        joining = asyncio.create_task(platform.membership.join("c"))
        await held.reached.wait()
        await check_readable(platform, "moving", "other")
        assert not joining.done()
        held.free.set()
        assert (await joining)["moved"]["copies"] > 0
        await check_readable(platform, "moving", "other")
        assert "c" in (await platform.datasets.describe("moving"))["nodes"]


async def test_data_that_cannot_move_stays_readable_and_is_reported(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as platform:
        await filled(platform, "moving", "other")
        with monkeypatch.context() as patch:
            held = HeldMove(patch, StorageError("the disk is full"))
            joining = asyncio.create_task(platform.membership.join("c"))
            await held.reached.wait()
            await check_readable(platform, "moving", "other")
            held.free.set()
            joined = await joining
        assert joined["moved"] == {"copies": 0, "error": "the disk is full"}
        await check_readable(platform, "moving", "other")
        nodes = (await platform.datasets.describe("moving"))["nodes"]
        assert sum(facts["rows"] for node, facts in nodes.items() if node != "c") == 100
        left = await platform.membership.leave("c")
        assert "error" not in left["moved"]
        await check_readable(platform, "moving", "other")


async def test_a_damaged_data_set_is_not_counted_in_what_would_move_and_that_is_said(
    start: Start, scratch: Path
) -> None:
    async with start() as platform:
        await filled(platform, "one", "two")
        assert (await platform.membership.explain("key"))["damaged"] == {}
    for spec in (scratch / "datasets").glob("*/spec.json"):
        if b'"one"' in spec.read_bytes():
            (spec.parent / "commit.bin").write_bytes(b"")
    async with start() as platform:
        facts = await platform.membership.explain("key")
        assert set(facts["damaged"]) == {"one"}
        assert sum(each["rows"] for each in facts["would_move"].values()) == 100


async def test_the_explanation_says_who_holds_what(start: Start) -> None:
    async with start(nodes=3) as platform:
        await declared(platform, 300)
        facts = await platform.membership.explain("some key")
        assert facts["owner"] == facts["clockwise"][0]
        assert sum(each["rows"] for each in facts["would_move"].values()) == 300
        assert sum(each["keys"] for each in facts["would_move"].values()) == pytest.approx(1.0)


class FewWorkers(InLoopWorkers):
    """Two, and then no more."""

    left = 2

    async def spawn(self, nice: int = 0) -> InLoopWorker:
        if not self.left:
            raise WorkerDiedError("no process can be made")
        self.left -= 1
        return await super().spawn(nice)


async def test_a_node_that_gets_no_worker_does_not_join(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "JOIN_TIMEOUT_S", 0.1)
    async with start(FewWorkers()) as platform:
        with pytest.raises(WorkerDiedError, match=r"'c' got no worker within 0\.1 s"):
            await platform.membership.join("c")
        assert set(platform.cluster.nodes) == {"node-0", "node-1"}
        await platform.membership.leave("node-1")
