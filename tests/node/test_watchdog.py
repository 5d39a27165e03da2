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


async def test_the_timer_left_by_a_job_that_ended_is_not_the_next_one_s() -> None:
    worker = FakeWorker()
    dog = Watchdog(worker)
    await ended(worker, dog, patience_s=0.0, turns=1)
    await ended(worker, dog, patience_s=60.0, turns=20)
    assert worker.alive, "the first one's time was over during the second"
    last = worker.submit(JOB)
    dog.watch(last, 0.0, 0.0)
    with pytest.raises(WorkerDiedError, match="outlived its time of 0 s"):
        await last


async def ended(worker: FakeWorker, dog: Watchdog, patience_s: float, turns: int) -> None:
    """A job that ended after some turns of the loop."""
    future = worker.submit(JOB)
    dog.watch(future, patience_s, 0.0)
    for _ in range(turns - 1):
        await asyncio.sleep(0)
    worker.waiting.pop(0)
    future.set_result(None)  # type: ignore[arg-type]
    await asyncio.sleep(0)
