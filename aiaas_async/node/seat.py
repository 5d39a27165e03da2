"""A worker's seat: it always comes to hold a live worker with room for a job.

A dead worker is replaced at once; when starting fails again and again, ever more slowly. A job
that outlives its time is ended with its worker: there is no other way to stop a running kernel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiaas_async.compute.base import Answer, Worker, WorkerSource
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.jobs import Job
from aiaas_async.errors import WorkerDiedError

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 5.0


class WorkerSeat:
    """`on_new_worker` runs whenever a fresh worker, which has nothing loaded, takes the seat."""

    def __init__(self, source: WorkerSource, on_new_worker: Callable[[], None]) -> None:
        self._source, self._on_new_worker = source, on_new_worker
        self._worker: Worker | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.started = 0

    @property
    def alive(self) -> bool:
        return self._worker is not None and self._worker.alive

    @property
    def pid(self) -> int | None:
        """Of the live worker's process, if it has one of its own."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    async def start(self) -> None:
        """Seat the first worker; from then on the seat is kept filled."""
        self._keeper = asyncio.create_task(self._keep())
        await self.free()

    async def _keep(self) -> None:
        while True:
            self._worker = await self._spawn()
            self.started += 1
            self._on_new_worker()
            self._changed.set()
            await self._worker.wait_dead()
            logger.warning("a worker died; another takes its seat")

    async def _spawn(self) -> Worker:
        backoff = _FIRST_BACKOFF_S
        while True:
            try:
                return await self._source.spawn()
            except WorkerDiedError as error:
                logger.warning("no worker could be started, next try in %.2f s: %s", backoff, error)
                await asyncio.sleep(backoff)
                backoff = min(_MAX_BACKOFF_S, backoff * 2)

    async def free(self) -> Worker:
        """The live worker, once it can take a job."""
        while self._worker is None or not self._worker.can_submit:
            self._changed.clear()
            await self._changed.wait()
        return self._worker

    def run(
        self, worker: Worker, job: Job, arrays: Sequence[Pieces], end_by: float
    ) -> asyncio.Future[Answer]:
        """Submit `job` to `worker`, which is ended if no answer came by `end_by` (loop time)."""
        future = worker.submit(job, arrays)
        watchdog = asyncio.get_running_loop().call_at(end_by, worker.kill)

        def finished(_: asyncio.Future[Answer]) -> None:
            watchdog.cancel()
            self._changed.set()

        future.add_done_callback(finished)
        return future

    async def do(self, job: Job, timeout_s: float) -> Answer:
        """Submit `job` when there is room, and wait for its answer."""
        worker = await self.free()
        return await self.run(worker, job, (), asyncio.get_running_loop().time() + timeout_s)

    async def vacate(self, grace_s: float) -> None:
        """Let the worker finish and exit; end it after `grace_s` seconds."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._worker is None:
            return
        self._worker.request_stop()
        try:
            await asyncio.wait_for(self._worker.wait_dead(), grace_s)
        except TimeoutError:
            self._worker.kill()
