"""Batch jobs: every item once, whatever dies, leaves, joins, stops or is refused."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.data.schema import Column
from aiaas_async.errors import (
    ConflictError,
    InputError,
    InvalidError,
    NotFoundError,
    OverloadedError,
)
from aiaas_async.jobs.board import Running
from aiaas_async.messages import TensorSpec
from aiaas_async.names import ModelRef
from aiaas_async.schedule.assign import ASSIGNMENTS
from aiaas_async.schedule.disciplines import DISCIPLINES
from aiaas_async.service.batchwiring import wire
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.platform import Platform
from aiaas_async.wire.tensors import Array
from tests.runtimes.artifacts import BARE, rows
from tests.service.gate import Gate

Start = Callable[..., AbstractAsyncContextManager[Platform]]
ITEMS = 500
MOST_DONE = 200  # of ten batches of up to three tasks of five items, and those under way


async def prepare(platform: Platform, count: int = ITEMS) -> Array:
    """The doubler, and a data set "things" of `count` items; its values."""
    body = {"name": "double", "version": "1", "inputs": ["x"], "outputs": ["doubled"]}
    await platform.models.register({**body, "graph": BARE})
    await platform.models.commit(ModelRef("double", "1"))
    return await fill(platform, "things", "x", rows(max(count, 1))[:count])


async def fill(platform: Platform, name: str, column: str, values: Array, **declared: Any) -> Array:
    spec = {"dtype": values.dtype.name, "shape": list(values.shape[1:])}
    await platform.datasets.declare(name, {"columns": {column: spec}, **declared})
    if len(values):
        keys = [f"key {number}" for number in range(len(values))]
        await platform.datasets.put(name, {"keys": keys, "columns": {column: values}})
    return values


async def begin(platform: Platform, **asked: Any) -> Running:
    body = {"model": "double", "dataset": "things", "output_dataset": "results", **asked}
    return await platform.batch.start(platform.jobs, body)


async def over(job: Running) -> dict[str, Any]:
    """The result of a job that succeeds."""
    assert job.task is not None
    async with asyncio.timeout(30):
        await asyncio.wait([job.task])
    assert job.record.state == "succeeded", job.record.error
    assert job.record.result is not None
    return job.record.result


async def computed(platform: Platform, batches: int) -> None:
    """Until the nodes have computed so many. A job tells how far it is only now and then."""
    nodes = platform.cluster.nodes.values()
    async with asyncio.timeout(20):
        while sum(node.statistics.batches for node in nodes) < batches:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def error_of(job: Running) -> dict[str, Any]:
    assert job.task is not None
    async with asyncio.timeout(30):
        await asyncio.wait([job.task])
    assert job.record.state == "failed"
    assert job.record.error is not None
    return job.record.error


async def results(platform: Platform, name: str = "results") -> dict[str, Array]:
    source = await platform.datasets.source(name)
    everything = np.arange(len(source))
    values = source.take(everything)["doubled"]
    return dict(zip(source.keys(everything), values, strict=True))


async def check(platform: Platform, values: Array) -> None:
    """Each item's result is there once, under its key."""
    found = await results(platform)
    assert len(found) == len(values)
    source = await platform.datasets.source("results")
    assert int(source.seqs[-1]) == len(values), "nothing was stored twice"
    for number, value in enumerate(values):
        np.testing.assert_array_equal(found[f"key {number}"], 2 * value)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
async def test_every_item_gets_its_result_under_its_key(start: Start, assignment: str) -> None:
    async with start(nodes=3) as platform:
        values = await prepare(platform)
        result = await over(await begin(platform, assignment=assignment, task_items=7))
        await check(platform, values)
        assert result["done"] == result["total"] == ITEMS
        assert sum(result["nodes"].values()) == ITEMS
        assert result["output_dataset"] == "results"


async def test_results_can_be_read_in_every_way_as_soon_as_the_job_is_over(start: Start) -> None:
    async with start(nodes=3) as platform:
        values = await prepare(platform)
        await over(await begin(platform))
        for number in (0, 250, ITEMS - 1):
            item = await platform.datasets.get("results", f"key {number}")
            np.testing.assert_array_equal(item["columns"]["doubled"], 2 * values[number])
        keys = [f"key {number}" for number in range(ITEMS)]
        whole = await platform.datasets.range("results", 0, ITEMS)
        assert sorted(whole["keys"]) == sorted(keys)
        first = await platform.datasets.page("results", None, 300)
        rest = await platform.datasets.page("results", first["next"], 300)
        assert first["keys"] + rest["keys"] == whole["keys"]
        platform.datasets._library.get("results").verify()


async def test_items_with_copies_have_one_result_each(start: Start) -> None:
    async with start(nodes=3) as platform:
        await prepare(platform, 0)
        values = await fill(platform, "copied", "x", rows(ITEMS), replication=2)
        result = await over(await begin(platform, dataset="copied", task_items=7))
        await check(platform, values)
        assert result["done"] == sum(result["nodes"].values()) == ITEMS
        placed = platform.datasets._library.get("results").placement()["nodes"]
        ring = platform.cluster.ring
        owners = [ring.owner(f"key {number}") for number in range(ITEMS)]
        assert {node: facts["rows"] for node, facts in placed.items()} == dict(Counter(owners))


async def test_what_somebody_puts_among_the_results_doubles_none_of_them(start: Start) -> None:
    gate = Gate(after=10)
    async with start(gate) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        keys = [f"key {number}" for number in range(0, ITEMS, 2)]
        theirs = np.zeros((len(keys), 4), np.float32)
        await platform.datasets.put("results", {"keys": keys, "columns": {"doubled": theirs}})
        gate.open.set()
        await over(job)
        found = await results(platform)
        assert len(found) == (await platform.datasets.describe("results"))["count"] == ITEMS
        for number in range(1, ITEMS, 2):
            np.testing.assert_array_equal(found[f"key {number}"], 2 * values[number])


@pytest.mark.parametrize("schedule", DISCIPLINES)
async def test_calls_are_answered_beside_a_job_whatever_the_schedule(
    start: Start, schedule: str
) -> None:
    async with start(schedule=schedule) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        for number in range(20):
            x = rows(1, number)
            answer = await platform.calls.call(CallRequest({"x": x}, "double", key=str(number)))
            np.testing.assert_array_equal(answer.outputs["doubled"], 2 * x)
        await over(job)
        await check(platform, values)


async def test_tasks_are_cut_by_measured_time_when_nobody_says_how(start: Start) -> None:
    async with start() as platform:
        values = await prepare(platform)
        result = await over(await begin(platform))
        await check(platform, values)
        assert 3 <= result["tasks"] < ITEMS / 16, "small ones to measure with, then larger ones"


async def test_all_nodes_work_though_one_holds_all_items(start: Start) -> None:
    async with start(nodes=1) as platform:
        await prepare(platform)
        await platform.cluster.join("late")
        result = await over(await begin(platform, task_items=5))
        assert result["stolen"] > 0
        assert set(result["nodes"]) == {"node-0", "late"}


async def test_a_node_that_joins_during_a_job_takes_part(start: Start) -> None:
    gate = Gate(after=5)
    async with start(gate, nodes=1) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        await platform.membership.join("late")
        gate.open.set()
        result = await over(job)
        await check(platform, values)
        assert result["nodes"]["late"] > 0


async def test_a_node_that_leaves_during_a_job_costs_nothing(start: Start) -> None:
    gate = Gate(after=5)
    async with start(gate, nodes=3) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        leaving = asyncio.create_task(platform.membership.leave("node-1"))
        await asyncio.sleep(0)
        gate.open.set()
        await leaving
        await over(job)
        await check(platform, values)


async def test_a_task_whose_node_failed_it_twice_is_done_elsewhere(start: Start) -> None:
    async with start(Gate(dying=2), nodes=2) as platform:
        values = await prepare(platform, 40)
        await over(await begin(platform, task_items=40))
        await check(platform, values)


async def test_a_version_that_kills_every_worker_fails_the_job_and_says_so(start: Start) -> None:
    async with start(Gate(dying=100)) as platform:
        await prepare(platform, 40)
        error = await error_of(await begin(platform, task_items=40))
        assert error["code"] in ("worker_died", "quarantined")


async def test_a_cancelled_job_keeps_what_it_computed(start: Start) -> None:
    gate = Gate(after=10)
    async with start(gate) as platform:
        await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        for name in (job.record.request["dataset"], job.record.request["output_dataset"]):
            with pytest.raises(ConflictError, match=f"in use by batch job {job.record.id}"):
                await platform.datasets.delete(name)
        await platform.jobs.cancel(job.record.id)
        assert job.record.state == "cancelled"
        assert job.record.error is not None
        assert 0 < len(await results(platform)) <= MOST_DONE
        gate.open.set()


async def test_a_job_interrupted_by_a_restart_does_the_rest_once(start: Start) -> None:
    gate = Gate(after=10)
    async with start(gate) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        assert job.task is not None
        job.task.add_done_callback(lambda _: gate.open.set())
    async with start() as platform:
        result = await over(platform.jobs.get(job.record.id))
        await check(platform, values)
        assert 0 < result["skipped"] <= MOST_DONE
        assert result["done"] == ITEMS
        assert sum(result["nodes"].values()) == ITEMS - result["skipped"]


async def test_items_replaced_since_the_job_began_are_computed_again_when_it_goes_on(
    start: Start,
) -> None:
    gate = Gate(after=10)
    async with start(gate) as platform:
        values = await prepare(platform)
        job = await begin(platform, task_items=5)
        await gate.reached.wait()
        await platform.jobs.cancel(job.record.id)
        gate.open.set()
        before = await results(platform)
        replaced = [next(iter(before)), next(key for key in things(values) if key not in before)]
        for key in replaced:
            values[int(key.removeprefix("key "))] += 1
        fresh = np.stack([things(values)[key] for key in replaced])
        await platform.datasets.put("things", {"keys": replaced, "columns": {"x": fresh}})
        result = await over(await platform.jobs.resume(job.record.id))
        assert (result["done"], result["skipped"]) == (ITEMS, len(before) - 1)
        found = await results(platform)
        assert found.keys() == things(values).keys()
        for key, value in things(values).items():
            np.testing.assert_array_equal(found[key], 2 * value)


def things(values: Array) -> dict[str, Array]:
    return {f"key {number}": value for number, value in enumerate(values)}


async def test_a_job_whose_time_is_over_fails_and_says_how_far_it_came(start: Start) -> None:
    gate = Gate(after=10)
    async with start(gate) as platform:
        await prepare(platform)
        error = await error_of(await begin(platform, task_items=5, timeout_s=0.2))
        assert error["code"] == "deadline"
        assert "of 500 items" in error["message"]
        gate.open.set()


async def test_columns_go_to_the_inputs_they_are_mapped_to(start: Start) -> None:
    async with start() as platform:
        await prepare(platform)
        values = await fill(platform, "other", "measured", rows(20).astype(np.float64))
        await over(await begin(platform, dataset="other", inputs={"measured": "x"}))
        found = await results(platform)
        np.testing.assert_allclose(found["key 3"], 2 * values[3], rtol=1e-6)


async def test_without_a_name_the_results_get_a_data_set_of_their_own(start: Start) -> None:
    async with start() as platform:
        await prepare(platform, 10)
        job = await platform.batch.start(platform.jobs, {"model": "double", "dataset": "things"})
        result = await over(job)
        assert len(await results(platform, result["output_dataset"])) == 10


@pytest.mark.parametrize("somebody_puts", [False, True])
async def test_a_job_that_is_not_accepted_leaves_no_data_set_but_what_others_put(
    start: Start, monkeypatch: pytest.MonkeyPatch, somebody_puts: bool
) -> None:
    async with start() as platform:
        await prepare(platform, 10)

        async def full(kind: str, request: dict[str, Any]) -> Running:
            if somebody_puts:
                columns = {"doubled": np.zeros((1, *rows(1).shape[1:]), np.float32)}
                await platform.datasets.put("results", {"keys": ["k"], "columns": columns})
            raise OverloadedError("256 jobs wait already")

        monkeypatch.setattr(platform.jobs, "submit", full)
        with pytest.raises(OverloadedError):
            await begin(platform)
        left = {facts["name"]: facts["count"] for facts in await platform.datasets.list_all()}
        assert left == {"things": 10, **({"results": 1} if somebody_puts else {})}


async def test_an_item_that_the_model_refuses_fails_the_job_and_is_named(start: Start) -> None:
    async with start() as platform:
        await prepare(platform, 0)
        values = rows(10)
        values[4, 2] = np.nan
        keys = [f"key {number}" for number in range(10)]
        await platform.datasets.put("things", {"keys": keys, "columns": {"x": values}})
        error = await error_of(await begin(platform, task_items=1))
        assert error["code"] == "invalid_input"
        assert "key 4" in error["message"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"inputs": {"y": "x"}}, "no column 'y'"),
        ({"inputs": {"x": "z"}}, "no input 'z'"),
        ({"outputs": ["tripled"]}, "no output 'tripled'"),
        ({"outputs": []}, "'outputs'"),
        ({"assignment": "best"}, "power_of_two"),
        ({"task_items": 0}, "task_items"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"priority": "high"}, "priority"),
        ({"output_dataset": "things"}, "computed from"),
        ({"output_dataset": "../etc"}, "data set name"),
        ({"colour": "red"}, "no field 'colour'"),
        ({"dataset": "wide"}, "expects x"),
        ({"dataset": "single"}, r"got float32 \[1\]"),
        ({"dataset": "named"}, "no column for input 'x'"),
        ({"dataset": "empty"}, "empty"),
    ],
)
async def test_what_cannot_work_is_refused_before_the_job_starts(
    start: Start, asked: dict[str, Any], says: str
) -> None:
    async with start() as platform:
        await prepare(platform, 3)
        await fill(platform, "wide", "x", np.ones((2, 5), np.float32))
        await fill(platform, "single", "x", np.ones((2,), np.float32))
        await fill(platform, "named", "y", rows(2))
        await fill(platform, "empty", "x", rows(0))
        with pytest.raises(InvalidError, match=says):
            await begin(platform, **asked)
        assert platform.jobs.all() == []
        with pytest.raises(NotFoundError):
            await platform.datasets.source("results")


def test_a_column_that_only_looks_like_a_batch_is_told_from_one() -> None:
    columns = {"x": Column("float32", (4,))}
    with pytest.raises(InputError, match=r"takes \[1, 4\]"):
        wire(columns, [TensorSpec("x", "float32", (1, 4))], {})


@pytest.mark.parametrize("asked", [{"model": "none"}, {"version": "9"}, {"dataset": "none"}])
async def test_what_is_not_there_is_not_found(start: Start, asked: dict[str, Any]) -> None:
    async with start() as platform:
        await prepare(platform, 3)
        with pytest.raises(NotFoundError):
            await begin(platform, **asked)


async def test_results_never_mix_with_items_that_are_there(start: Start) -> None:
    async with start() as platform:
        await prepare(platform, 3)
        await over(await begin(platform))
        with pytest.raises(ConflictError, match="items already"):
            await begin(platform)


async def test_two_jobs_never_write_to_one_data_set(start: Start) -> None:
    gate = Gate(after=0)
    async with start(gate, running_jobs=2) as platform:
        await prepare(platform, 3)
        tries = await asyncio.gather(begin(platform), begin(platform), return_exceptions=True)
        assert sorted(type(found).__name__ for found in tries) == ["ConflictError", "Running"]
        with pytest.raises(ConflictError, match="writes to"):
            await begin(platform)
        gate.open.set()


async def test_progress_tells_how_far_it_is_and_who_did_what(start: Start) -> None:
    async with start() as platform:
        await prepare(platform)
        job = await begin(platform, task_items=50)
        await over(job)
        last = job.events.latest
        assert (last["done"], last["total"], last["waiting"]) == (ITEMS, ITEMS, 0)
        assert last["items_per_s"] > 0


@pytest.mark.real
async def test_workers_killed_again_and_again_cost_no_item_and_double_none(start: Start) -> None:
    async with start(WorkerForks()) as platform:
        values = await prepare(platform, 5000)
        job = await begin(platform, task_items=10)
        for kill in range(2):
            await computed(platform, 20 * (kill + 1))
            worker = platform.cluster.nodes[f"node-{kill}"]._seat._worker
            assert isinstance(worker, WorkerProcess)
            os.kill(worker.pid, signal.SIGKILL)
        await over(job)
        await check(platform, values)
        assert sum(n._seat.started for n in platform.cluster.nodes.values()) == 4
