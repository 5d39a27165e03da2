"""A training job has the items it was accepted with, though their files move or grow."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aiaas_async.data.source import Source
from aiaas_async.jobs.board import Running
from aiaas_async.service.platform import Platform
from tests.service.conftest import Start
from tests.service.test_distributed import progress, result, same_bits, submitted, with_points
from tests.training.data import points

LONG: dict[str, Any] = {"method": "sgd", "epochs": 100_000, "checkpoint_every_s": 1000}


async def running_and_queued(platform: Platform) -> tuple[Running, Running]:
    first = await submitted(platform, "1", **LONG)
    second = await submitted(platform, "2", method="sgd", epochs=2)
    await progress(first, lambda facts: facts.get("step", 0) > 5)
    return first, second


async def put_more(platform: Platform) -> None:
    columns = points(10, seed=9)
    await platform.datasets.put(
        "points", {"keys": [f"k{n}" for n in range(10)], "columns": columns}
    )


async def failed(job: Running) -> dict[str, str]:
    assert job.task is not None
    await asyncio.wait([job.task])
    assert job.record.state == "failed"
    assert job.record.error is not None
    return job.record.error


async def test_jobs_go_on_after_a_node_left_and_the_server_was_restarted(start: Start) -> None:
    async with start(nodes=3) as platform:
        await with_points(platform)
        first, second = await running_and_queued(platform)
        await platform.membership.leave("node-2")
    async with start(nodes=3) as platform:
        await platform.datasets.describe("points")
        again = platform.jobs.get(first.record.id)
        await progress(again, lambda facts: facts.get("step", 0) > 5)
        await platform.jobs.cancel(first.record.id)
        assert again.record.state == "cancelled"
        await result(platform.jobs.get(second.record.id))


async def test_a_data_set_that_is_compacted_while_a_job_is_accepted_fails_it_not(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, compacted, digest = threading.Event(), threading.Event(), Source.digest

    def slow(source: Source) -> str:
        counting.set()
        assert compacted.wait(20)
        return digest(source)

    async with start() as platform:
        await with_points(platform)
        await with_points(platform)  # each item replaced by itself: half of the files is waste
        monkeypatch.setattr(Source, "digest", slow)
        accepting = asyncio.create_task(submitted(platform, method="sgd", epochs=2))
        await asyncio.to_thread(counting.wait, 20)
        assert (await platform.datasets.compact("points"))["freed_bytes"] > 0
        compacted.set()
        await result(await accepting)


async def test_items_put_since_a_job_was_accepted_are_none_of_its_own_also_after_a_restart(
    start: Start,
) -> None:
    async with start() as platform:
        await with_points(platform)
        await result(await submitted(platform, "alone", method="sgd", epochs=2))
        first, second = await running_and_queued(platform)
        await put_more(platform)
    async with start() as platform:
        await platform.jobs.cancel(first.record.id)
        await result(platform.jobs.get(second.record.id))
        await same_bits(platform, "alone", "2")


async def test_a_job_whose_items_were_replaced_and_their_files_gone_says_so(start: Start) -> None:
    async with start(nodes=3) as platform:
        await with_points(platform)
        first, second = await running_and_queued(platform)
        await put_more(platform)
        await platform.membership.leave("node-2")
    async with start(nodes=3) as platform:
        await platform.jobs.cancel(first.record.id)
        error = await failed(platform.jobs.get(second.record.id))
        assert error["code"] == "conflict"
        assert error["message"] == (
            f"data set points has changed since job {second.record.id} was accepted, and the files "
            "it had then are gone; start it anew, from its parent or its graph"
        )
