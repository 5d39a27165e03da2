"""A worker's seat: it always comes to hold a live worker with room for a job.

A dead worker is replaced at once; where workers cannot be started, or die before they finished a
first job, ever more slowly: at 10 MB of address space each, 200 a second were born and died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context

from aiaas_async.compute.base import Answer, Worker, WorkerSource
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.jobs import Job
from aiaas_async.errors import WorkerDiedError
from aiaas_async.node.watchdog import Watchdog

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.05, 5.0


class WorkerSeat:
    """`on_new_worker` runs whenever a fresh worker, which has nothing loaded, takes the seat;
    the log calls it by the `name` of whom it works for."""

    def __init__(self, name: str, source: WorkerSource, on_new_worker: Callable[[], None]) -> None:
        self._name, self._source, self._on_new_worker = name, source, on_new_worker
        self._worker: Worker | None = None
        self._watchdog: Watchdog | None = None
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
        # In a context of its own: it outlives the request that had it started, if any.
        self._keeper = asyncio.create_task(self._keep(), context=Context())
        await self.free()

    async def _keep(self) -> None:
        backoff = _FIRST_BACKOFF_S
        while True:
            worker = await self._spawn()
            watchdog = Watchdog(worker)
            self._worker, self._watchdog = worker, watchdog
            self.started += 1
            self._on_new_worker()
            self._changed.set()
            how = await worker.wait_dead()
            if watchdog.proven or watchdog.bitten:
                backoff = _FIRST_BACKOFF_S
                said = "%s: its worker %s; another takes its seat"
                logger.warning(said, self._name, "outlived its time" if watchdog.bitten else how)
                continue
            said = "%s: its worker %s before it finished a first job; the next one in %.2f s"
            logger.warning(said, self._name, how, backoff)
            await asyncio.sleep(backoff)
            backoff = min(_MAX_BACKOFF_S, backoff * 2)

    async def _spawn(self) -> Worker:
        backoff = _FIRST_BACKOFF_S
        while True:
            try:
                return await self._source.spawn()
            except WorkerDiedError as error:
                said = "%s: no worker could be started, next try in %.2f s: %s"
                logger.warning(said, self._name, backoff, error)
                await asyncio.sleep(backoff)
                backoff = min(_MAX_BACKOFF_S, backoff * 2)

    @property
    def ready(self) -> Worker | None:
        """The live worker, if it can take a job now."""
        worker = self._worker
        return worker if worker is not None and worker.can_submit else None

    async def free(self) -> Worker:
        """The live worker, once it can take a job."""
        while (worker := self.ready) is None:
            self._changed.clear()
            await self._changed.wait()
        return worker

    def run(
        self,
        worker: Worker,
        job: Job,
        arrays: Sequence[Pieces],
        patience_s: float,
        until: float = 0.0,
    ) -> asyncio.Future[Answer]:
        """Submit `job` to `worker`, the one that `free` gave, and `watch` it."""
        future = worker.submit(job, arrays)
        self.watch(future, patience_s, until)
        return future

    def watch(self, future: asyncio.Future[Answer], patience_s: float, until: float) -> None:
        """`future` is of a job that the worker was just given: the worker is ended where it runs
        longer than `patience_s` and beyond `until` (loop time)."""
        assert self._watchdog is not None
        self._watchdog.watch(future, patience_s, until)
        future.add_done_callback(lambda _: self._changed.set())

    async def do(self, job: Job, timeout_s: float) -> Answer:
        """Submit `job` when there is room, and wait for its answer."""
        worker = await self.free()
        return await self.run(worker, job, (), timeout_s)

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
