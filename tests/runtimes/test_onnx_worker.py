"""ONNX models in worker processes: a bad file harms no other model, and threads are as asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from aiaas_async.compute.frames import whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Inspect, Load, Unload
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.errors import ArtifactError
from tests.compute.processes import names_in
from tests.runtimes.onnxmodels import BIAS, WEIGHT, linear, rows, stored

pytestmark = pytest.mark.real


@asynccontextmanager
async def worker_of(threads: int = 1) -> AsyncIterator[WorkerProcess]:
    forks = WorkerForks(threads)
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
        assert inspected.facts == loaded.facts
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
