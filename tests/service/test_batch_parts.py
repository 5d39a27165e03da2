"""Batch jobs on a version that no node holds whole: through its deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.names import ModelRef
from aiaas_async.nn.network import Network
from aiaas_async.service.platform import Platform
from aiaas_async.wire.tensors import Array
from tests.service.conftest import Start
from tests.service.test_batch import computed, error_of, fill, over

UNITS = 512
GRAPH: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [UNITS]}],
    "layers": [
        {"name": f"{op}{i}", "op": op, **({"units": UNITS} if op == "dense" else {})}
        for i in range(4)
        for op in ("dense", "relu")
    ],
    "outputs": ["relu3"],
}
SMALL = {"node_memory_mb": 3}  # of the 4 MB that the version has


async def prepare(platform: Platform, folder: Path, count: int) -> Array:
    """The version "deep" and a data set "things"; the outputs as one process computes them."""
    network = Network.from_spec(GRAPH)
    params = network.init(1)
    write_tensors(folder / "weights", params)
    await platform.models.register(
        {"name": "deep", "version": "1", "graph": GRAPH, "inputs": ["x"], "outputs": ["relu3"]}
    )

    async def chunks() -> AsyncIterator[bytes]:
        yield (folder / "weights").read_bytes()

    ref = ModelRef("deep", "1")
    await platform.models.upload(ref, "model.safetensors", chunks(), None)
    await platform.models.commit(ref)
    x = np.random.default_rng(0).standard_normal((count, UNITS)).astype(np.float32)
    await fill(platform, "things", "x", x)
    return network.predict(params, {"x": x}, None)["relu3"]


async def check(platform: Platform, expected: Array) -> None:
    source = await platform.datasets.source("results")
    everything = np.arange(len(source))
    assert int(source.seqs[-1]) == len(expected), "nothing was stored twice"
    found = dict(zip(source.keys(everything), source.take(everything)["relu3"], strict=True))
    for number, value in enumerate(expected):
        np.testing.assert_allclose(found[f"key {number}"], value, rtol=1e-4, atol=1e-5)


ASKED = {"model": "deep", "dataset": "things", "output_dataset": "results", "task_items": 9}


@pytest.mark.parametrize("split", ["pipeline", "tensor"])
async def test_a_version_deployed_in_parts_runs_over_a_data_set(
    start: Start, tmp_path: Path, split: str
) -> None:
    async with start(InLoopWorkers(), **SMALL) as platform:
        expected = await prepare(platform, tmp_path, 50)
        await platform.deployments.deploy(
            {"model": "deep", "mode": "distributed", "split": split, "nodes": 2}
        )
        result = await over(await platform.batch.start(platform.jobs, ASKED))
        await check(platform, expected)
        assert "+" in next(iter(result["nodes"])), "several nodes did each task"


async def test_a_version_too_large_for_a_node_fails_the_job_where_it_is_not_deployed(
    start: Start, tmp_path: Path
) -> None:
    async with start(InLoopWorkers(), **SMALL) as platform:
        await prepare(platform, tmp_path, 5)
        error = await error_of(await platform.batch.start(platform.jobs, ASKED))
        assert error["code"] == "unplaceable"


async def test_a_resumed_job_waits_until_its_version_is_placed_again(
    start: Start, tmp_path: Path
) -> None:
    body = {"model": "deep", "mode": "distributed", "split": "pipeline", "nodes": 2}
    async with start(InLoopWorkers(), **SMALL) as platform:
        expected = await prepare(platform, tmp_path, 50)
        await platform.deployments.deploy(body)
        job = await platform.batch.start(platform.jobs, ASKED)
    async with start(InLoopWorkers(), **SMALL) as platform:
        await over(platform.jobs.get(job.record.id))
        await check(platform, expected)


@pytest.mark.real
async def test_it_moves_on_when_the_worker_of_a_part_dies(start: Start, tmp_path: Path) -> None:
    async with start(WorkerForks(), **SMALL) as platform:
        expected = await prepare(platform, tmp_path, 300)
        await platform.deployments.deploy(
            {"model": "deep", "mode": "distributed", "split": "pipeline", "nodes": 2}
        )
        node = platform.cluster.nodes["node-0"]
        job = await platform.batch.start(platform.jobs, {**ASKED, "task_items": 3})
        await computed(platform, 20)
        worker = node._seat._worker
        assert worker is not None
        worker.kill()
        await over(job)
        await check(platform, expected)
