"""Data sets are compacted on demand and by themselves, and not under a job that names files."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import ConflictError, NotFoundError
from aiaas_async.service import datasets as module
from aiaas_async.service.platform import Platform
from tests.runtimes.artifacts import GRAPH
from tests.service.conftest import Start

KEYS = [f"key {number}" for number in range(100)]


async def fill(platform: Platform, times: int) -> None:
    spec = {"x": {"dtype": "float32", "shape": [4]}, "label": {"dtype": "int64", "shape": []}}
    await platform.datasets.declare("things", {"columns": spec})
    for turn in range(times):
        columns = {"x": np.full((100, 4), turn, np.float32), "label": np.arange(100) % 3}
        await platform.datasets.put("things", {"keys": KEYS, "columns": columns})


async def reclaimable(platform: Platform) -> int:
    facts: dict[str, Any] = await platform.datasets.describe("things")
    return int(facts["reclaimable_bytes"])


async def until_compact(platform: Platform) -> None:
    async with asyncio.timeout(10):
        while await reclaimable(platform) > 100 * 24:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)


async def test_what_was_replaced_shows_and_is_given_back(start: Start) -> None:
    async with start() as platform:
        await fill(platform, 3)
        assert await reclaimable(platform) == 2 * 100 * 24
        assert (await platform.datasets.compact("things"))["freed_bytes"] > 2 * 100 * 24
        assert await reclaimable(platform) == 0
        assert await platform.datasets.compact("things") == {"freed_bytes": 0}
        assert (await platform.datasets.get("things", "key 7"))["columns"]["x"][0] == 2
        with pytest.raises(NotFoundError):
            await platform.datasets.compact("nothing")


async def test_a_data_set_that_is_mostly_waste_is_compacted_by_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WASTE_BYTES", 100 * 24)
    async with start() as platform:
        await fill(platform, 5)
        await until_compact(platform)
        for key in KEYS[:90]:
            await platform.datasets.delete_item("things", key)
        await until_compact(platform)
        assert (await platform.datasets.describe("things"))["count"] == 10


async def test_under_a_training_job_that_waits_the_files_stay(start: Start) -> None:
    async with start() as platform:
        await fill(platform, 2)
        request = {
            "model": "m",
            "version": "1",
            "dataset": "things",
            "graph": {**GRAPH, "outputs": ["logits"], "layers": GRAPH["layers"][:3]},
            "plan": {"target": "label", "loss": "cross_entropy", "epochs": 1, "batch_size": 16},
        }
        job = await platform.training.start(platform.jobs, request)
        with pytest.raises(ConflictError, match=job.record.id):
            await platform.datasets.compact("things")
        said = f"data set things is in use by train job {job.record.id}; cancel that first"
        with pytest.raises(ConflictError, match=said):
            await platform.datasets.delete("things")
        assert job.task is not None
        async with asyncio.timeout(20):
            await asyncio.wait([job.task])
        assert job.record.state == "succeeded", job.record.error
        assert (await platform.datasets.compact("things"))["freed_bytes"] > 0
        await platform.datasets.delete("things")
