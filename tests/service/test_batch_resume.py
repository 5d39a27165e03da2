"""Batch jobs that go on: only with the model, the items and the results they began with."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import ConflictError
from aiaas_async.jobs.board import Running
from aiaas_async.names import ModelRef
from aiaas_async.service.platform import Platform
from aiaas_async.wire.tensors import Array
from tests.runtimes.artifacts import BARE, rows
from tests.service.conftest import Start
from tests.service.gate import Gate
from tests.service.test_batch import begin, error_of, fill, over, prepare, results

COUNT = 100


async def half_done(platform: Platform, gate: Gate) -> tuple[Running, Array]:
    """A job that was cancelled when some of its items had results, and what it doubles."""
    values = await prepare(platform, COUNT)
    job = await begin(platform, task_items=5)
    await gate.reached.wait()
    await platform.jobs.cancel(job.record.id)
    gate.open.set()
    assert 0 < len(await results(platform)) < COUNT
    return job, values


async def results_anew(platform: Platform) -> None:
    """Somebody else's items take the place of the results."""
    await platform.datasets.delete("results")
    await fill(platform, "results", "doubled", -rows(COUNT))


async def items_anew(platform: Platform) -> None:
    await platform.datasets.delete("things")
    await fill(platform, "things", "x", -rows(COUNT))


async def model_anew(platform: Platform) -> None:
    await platform.models.delete("double", "1")
    tripling = {**BARE, "layers": [{**layer, "factor": 3.0} for layer in BARE["layers"]]}
    body = {"name": "double", "version": "1", "inputs": ["x"], "outputs": ["doubled"]}
    await platform.models.register({**body, "graph": tripling})
    await platform.models.commit(ModelRef("double", "1"))


ANEW = [
    (results_anew, "data set results, where the results are, is another one", "made anew"),
    (items_anew, "data set things is another one", "made anew"),
    (model_anew, "double:1 is another one", "registered anew"),
]


@pytest.mark.parametrize(("change", "what", "how"), ANEW)
async def test_a_job_is_not_resumed_with_what_was_made_anew(
    start: Start, change: Any, what: str, how: str
) -> None:
    gate = Gate(after=5)
    async with start(gate) as platform:
        job, _ = await half_done(platform, gate)
        await change(platform)
        before = await results(platform)
        said = f"{what} than job {job.record.id} began with: it was deleted and {how}; start a new"
        with pytest.raises(ConflictError, match=said):
            await platform.jobs.resume(job.record.id)
        assert job.record.state == "cancelled"
        after = await results(platform)
        assert after.keys() == before.keys()


@pytest.mark.parametrize(("change", "what", "how"), ANEW)
async def test_a_job_does_not_go_on_after_a_restart_with_what_was_made_anew(
    start: Start, change: Any, what: str, how: str
) -> None:
    gate = Gate(after=5)
    async with start(gate) as platform:
        job, _ = await half_done(platform, gate)
        await change(platform)
        there = len(await results(platform))
        queued = job.record.moved("queued", finished_at=None, error=None)
        await platform.jobs._save([queued], [])
    async with start() as platform:
        error = await error_of(platform.jobs.get(job.record.id))
        assert (error["code"], error["details"]) == ("conflict", {})
        assert error["message"].startswith(what)
        assert error["message"].endswith("start a new job")
        assert len(await results(platform)) == there


async def test_a_job_of_an_earlier_release_is_resumed_though_it_does_not_know_with_what_it_began(
    start: Start,
) -> None:
    gate = Gate(after=5)
    async with start(gate) as platform:
        job, values = await half_done(platform, gate)
        known = {k: v for k, v in job.record.request.items() if k[0] != "_" or k == "_end_at"}
        changes: dict[str, Any] = {"request": known, "finished_at": None, "error": None}
        await platform.jobs._save([job.record.moved("queued", **changes)], [])
    async with start() as platform:
        assert (await over(platform.jobs.get(job.record.id)))["done"] == COUNT
        found = await results(platform)
        np.testing.assert_array_equal(found["key 7"], 2 * values[7])


async def test_two_jobs_that_are_resumed_at_once_never_write_to_one_data_set(start: Start) -> None:
    gate = Gate(after=0)
    async with start(gate, running_jobs=2) as platform:
        await prepare(platform, COUNT)
        ended = []
        for _ in range(2):
            job = await begin(platform, task_items=5)
            await platform.jobs.cancel(job.record.id)
            ended.append(job.record.id)
        tries = await asyncio.gather(
            *(platform.jobs.resume(each) for each in ended),
            begin(platform),
            return_exceptions=True,
        )
        assert [type(found).__name__ for found in tries].count("ConflictError") == 2
        (going,) = [found for found in tries if isinstance(found, Running)]
        gate.open.set()
        await over(going)
        source = await platform.datasets.source("results")
        assert int(source.seqs[-1]) == COUNT, "nothing was stored twice"


async def test_while_a_resumed_job_is_put_on_the_board_no_new_one_takes_its_results(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(after=0)
    async with start(gate) as platform:
        await prepare(platform, COUNT)
        job = await begin(platform, task_items=5)
        await platform.jobs.cancel(job.record.id)
        saving, save, saved = asyncio.Event(), platform.jobs._save, asyncio.Event()

        async def slow(records: Any, forgotten: Any) -> None:
            saving.set()
            await saved.wait()
            await save(records, forgotten)

        monkeypatch.setattr(platform.jobs, "_save", slow)
        resuming = asyncio.create_task(platform.jobs.resume(job.record.id))
        await saving.wait()
        with pytest.raises(ConflictError, match="another job writes to data set results"):
            async with asyncio.timeout(5):
                await begin(platform)
        saved.set()
        gate.open.set()
        await over(await resuming)
