"""Workers that finish no call until the test says so: for deadlines, full mailboxes, leavers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.inloop import InLoopWorker
from aiaas_async.compute.jobs import Infer, Job
from aiaas_async.compute.slots import JOBS_UNDER_WAY
from aiaas_async.errors import WorkerDiedError


class HeldWorkers:
    """The source of them; everything but calls is done at once."""

    def __init__(self) -> None:
        self.workers: list[HeldWorker] = []
        self.open = False

    async def spawn(self, nice: int = 0) -> HeldWorker:
        self.workers.append(HeldWorker(self))
        return self.workers[-1]

    async def close(self) -> None: ...

    @property
    def held(self) -> int:
        return sum(len(worker.held) for worker in self.workers)

    def release(self) -> None:
        """Finish what is held, and hold nothing from now on."""
        self.open = True
        for worker in self.workers:
            worker.release()


class HeldWorker(InLoopWorker):
    def __init__(self, source: HeldWorkers) -> None:
        super().__init__()
        self._source = source
        self.held: list[tuple[asyncio.Future[Answer], Job, Sequence[Pieces]]] = []

    @property
    def can_submit(self) -> bool:
        return super().can_submit and len(self.held) < JOBS_UNDER_WAY

    def submit(
        self, job: Job, arrays: Sequence[Pieces] = (), on_progress: ProgressHandler | None = None
    ) -> asyncio.Future[Answer]:
        if self._source.open or not isinstance(job, Infer):
            return super().submit(job, arrays, on_progress)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.held.append((future, job, arrays))
        return future

    def release(self) -> None:
        waiting, self.held = self.held, []
        for future, job, arrays in waiting:
            super().submit(job, arrays).add_done_callback(partial(_pass, future))

    def kill(self) -> None:
        for future, _, _ in self.held:
            if not future.done():
                future.set_exception(WorkerDiedError("killed", {"started": True}))
        self.held.clear()
        super().kill()

    def request_stop(self) -> None:
        if not self.held:
            super().request_stop()


def _pass(to: asyncio.Future[Answer], done: asyncio.Future[Answer]) -> None:
    if not to.done():
        to.set_result(done.result())
