"""A run alone: one worker of its own, which computes until it is done or asked to stop."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.jobs import Train
from aiaas_async.errors import CancelledJobError
from aiaas_async.jobs.board import Running
from aiaas_async.service.distributed import heard

LONGEST_RUN_S: Final = 7 * 86_400.0
# From a request to stop to the end: a worker hears it after a step, and writes a checkpoint then.
# One that takes longer is stuck, or not worth the wait of all jobs behind it: what it loses is
# what came since the last checkpoint.
STOP_S: Final = 10.0


async def run_alone(job: Running, source: WorkerSource, nice: int, order: Train) -> dict[str, Any]:
    """The worker's final facts. Raises what ended it, and `CancelledJobError` also for one that
    was asked to stop and had to be killed."""
    worker = await source.spawn(nice)
    cancelled = asyncio.create_task(job.cancel.wait())
    try:
        answer = worker.submit(order, (), lambda facts: job.events.add("progress", facts))
        answer.add_done_callback(heard)
        waited: list[asyncio.Future[Any]] = [answer, cancelled]
        # A run of a week is stopped like a cancelled one: at a checkpoint.
        await asyncio.wait(waited, timeout=LONGEST_RUN_S, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            worker.request_stop()
            await asyncio.wait([answer], timeout=STOP_S)
        if not answer.done():
            raise CancelledJobError(
                f"the worker had not stopped after {STOP_S:g} s and was killed; the last "
                "checkpoint before, if there is one, is kept"
            )
        return answer.result().facts
    finally:
        cancelled.cancel()
        worker.kill()
