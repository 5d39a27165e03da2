"""A run alone ends when it is asked to, whatever its worker does."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from aiaas_async.compute.base import Answer
from aiaas_async.compute.inloop import InLoopWorker, InLoopWorkers
from aiaas_async.compute.jobs import Job, Train
from aiaas_async.service import alone as module
from tests.service.conftest import Start
from tests.service.test_distributed import (
    WatchedForks,
    beyond,
    progress,
    result,
    submitted,
    with_points,
)

LONG: dict[str, Any] = {"method": "sgd", "epochs": 100_000}


class StuckWorkers(InLoopWorkers):
    """The first training never moves."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck: Stuck | None = None

    async def spawn(self, nice: int = 0) -> InLoopWorker:
        if not nice or self.stuck is not None:
            return await super().spawn(nice)
        self.stuck = Stuck()
        return self.stuck


class Stuck(InLoopWorker):
    def __init__(self) -> None:
        super().__init__()
        self.trains = asyncio.Event()

    def submit(self, job: Job, *given: Any, **named: Any) -> asyncio.Future[Answer]:
        assert isinstance(job, Train)
        self.trains.set()
        return asyncio.get_running_loop().create_future()


async def test_a_worker_that_does_not_stop_is_killed_and_holds_up_no_other_job(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.01)
    workers = StuckWorkers()
    async with start(workers, job_nice=5) as platform:
        await with_points(platform)
        job = await submitted(platform, **LONG)
        behind = await submitted(platform, "2", method="sgd", epochs=1)
        async with asyncio.timeout(20):
            while workers.stuck is None:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0)
            await workers.stuck.trains.wait()
            await platform.jobs.cancel(job.record.id)
        assert job.record.state == "cancelled"
        assert job.record.error is not None
        assert "had not stopped after 0.01 s and was killed" in job.record.error["message"]
        assert not workers.stuck.alive
        await result(behind)


@pytest.mark.real
async def test_a_process_that_stands_still_is_killed_and_its_job_goes_on_from_its_checkpoint(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.5)
    forks = WatchedForks()
    async with start(forks) as platform:
        await with_points(platform)
        job = await submitted(platform, epochs=2000, method="sgd", checkpoint_every_steps=10)
        await progress(job, beyond(20))
        os.kill(forks.crews[0].pid, signal.SIGSTOP)
        async with asyncio.timeout(20):
            await platform.jobs.cancel(job.record.id)
        assert job.record.state == "cancelled"
        assert "was killed by SIGKILL" in await forks.crews[0].wait_dead()
        again = await platform.jobs.resume(job.record.id)
        await progress(again, lambda facts: "resumed" in facts)
        await platform.jobs.cancel(job.record.id)
