"""A job that outlives its time is ended with its worker, and no other's time counts as its own."""

from __future__ import annotations

import asyncio

import pytest

from aiaas_async.compute.jobs import Infer
from aiaas_async.errors import WorkerDiedError
from aiaas_async.node.watchdog import Watchdog
from tests.node.fakes import FakeWorker

JOB = Infer("m:1", 1)


async def test_a_job_s_time_begins_when_the_worker_comes_to_it() -> None:
    worker = FakeWorker()
    dog = Watchdog(worker)
    first, second = worker.submit(JOB), worker.submit(JOB)
    dog.watch(first, 60.0, 0.0)
    dog.watch(second, 0.0, 0.0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert worker.alive
    worker.waiting.pop(0)
    first.set_result(None)  # type: ignore[arg-type]
    with pytest.raises(WorkerDiedError, match="the job outlived its time of 0 s") as caught:
        await second
    assert caught.value.details == {"started": True, "overdue": True}
    assert (worker.alive, dog.proven, dog.bitten) == (False, True, True)


async def test_a_job_may_run_to_the_deadline_of_a_patient_caller() -> None:
    worker = FakeWorker()
    dog = Watchdog(worker)
    future = worker.submit(JOB)
    dog.watch(future, 0.0, asyncio.get_running_loop().time() + 60.0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert worker.alive
    worker.kill()
    with pytest.raises(WorkerDiedError) as caught:
        await future
    assert "overdue" not in caught.value.details
    await asyncio.sleep(0)
    assert (dog.proven, dog.bitten) == (False, False)
