"""ONNX models in worker processes: a bad file harms no other model, and threads are as asked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from aiaas_async.compute.frames import whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Inspect, Load, Unload
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.errors import ArtifactError, MemoryBudgetError
from tests.compute.processes import names_in
from tests.runtimes.onnxmodels import (
    BIAS,
    WEIGHT,
    linear,
    model,
    rows,
    stored,
    value,
    weight_in,
)

pytestmark = pytest.mark.real


@asynccontextmanager
async def worker_of(threads: int = 1, memory_limit: int = 0) -> AsyncIterator[WorkerProcess]:
    forks = WorkerForks(threads, memory_limit)
    try:
        yield await forks.spawn()
    finally:
        await forks.close()


def files(folder: Path, data: bytes, name: str = "0a1b") -> ArtifactFiles:
    return ArtifactFiles("onnx", {"model.onnx": str(stored(folder, data, name))})


async def test_a_worker_serves_on_beside_files_that_fail_to_load(tmp_path: Path) -> None:
    data, x, refused = linear().SerializeToString(), rows(4), list[str]()
    async with worker_of() as worker:
        inspected = await worker.submit(Inspect(files(tmp_path, data)))
        loaded = await worker.submit(Load("m", files(tmp_path, data)))
        # Whether it draws numbers is asked of the file alone.
        assert {**inspected.facts, "deterministic": False} == loaded.facts
        for number in range(0, len(data), 5):
            damaged = data[:number] + bytes([data[number] ^ 0x91]) + data[number + 1 :]
            try:  # a byte of a weight or a name may change without harm
                await worker.submit(Load("damaged", files(tmp_path, damaged, "2c3d")))
            except ArtifactError as error:
                refused.append(error.message)
        answer = await worker.submit(Infer("m", 4, ("y",)), whole({"x": x}))
        np.testing.assert_allclose(answer.arrays["y"], x @ WEIGHT + BIAS, rtol=1e-5)
        await worker.submit(Unload("m"))
    assert len(refused) > len(data) / 20
    assert not any(str(tmp_path) in message for message in refused)


@pytest.mark.parametrize("threads", [1, 2])
async def test_a_model_computes_on_as_many_threads_as_its_worker_was_given(
    tmp_path: Path, threads: int
) -> None:
    given, counts = files(tmp_path, linear().SerializeToString()), list[int]()
    async with worker_of(threads) as worker:
        for job in (Inspect(given), Load("m", given), Load("n", given)):
            await worker.submit(job)
            counts.append(len(names_in(f"/proc/{worker.pid}/task")))
    assert [count - counts[0] for count in counts] == [0, threads - 1, 2 * (threads - 1)]


@pytest.mark.parametrize("length", [1 << 30, 1 << 29], ids=["beyond the map", "beyond the copy"])
async def test_weights_beyond_the_worker_s_memory_are_refused_and_it_lives_on(
    tmp_path: Path, length: int
) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["b"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    made = model(nodes, [value("x")], [value("y")])
    made.graph.initializer.append(weight_in("b.bin", length=str(length)))
    made.graph.initializer[0].dims[0] = length // 4
    given = files(tmp_path, made.SerializeToString())
    stored(tmp_path, b"", "2c3d")
    os.truncate(tmp_path / "2c3d", length)  # no block of it is on the disk
    given.files["b.bin"] = str(tmp_path / "2c3d")
    async with worker_of(memory_limit=1 << 30) as worker:
        for job in (Inspect(given), Load("large", given)):
            with pytest.raises(MemoryBudgetError, match="more"):
                await worker.submit(job)
        small = files(tmp_path, linear().SerializeToString())
        await worker.submit(Load("m", small))
        answer = await worker.submit(Infer("m", 2), whole({"x": rows(2)}))
        assert len(answer.arrays["y"]) == 2
