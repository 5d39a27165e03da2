"""The in-loop worker: the same host without a process, for tests and for debugging a runtime.

A kernel then runs in the event loop and stalls it; a server never uses this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import Array, Pieces
from aiaas_async.compute.host import Host
from aiaas_async.compute.jobs import Job
from aiaas_async.compute.slots import JOBS_UNDER_WAY
from aiaas_async.errors import AiaasError, WorkerDiedError


class InLoopWorker:
    def __init__(self) -> None:
        self._under_way: deque[asyncio.Future[Answer]] = deque()
        self._dead = asyncio.Event()
        self._stopping = False
        self._host = Host(stop_requested=lambda: self._stopping)

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    @property
    def can_submit(self) -> bool:
        return len(self._under_way) < JOBS_UNDER_WAY and not self._dead.is_set()

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        if self._dead.is_set():
            raise WorkerDiedError("the compute process has died", {"started": False})
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._under_way.append(future)
        batch = {
            a.name: a.parts[0] if len(a.parts) == 1 else np.concatenate(a.parts) for a in arrays
        }
        loop.call_soon(self._run, job, batch, on_progress)
        return future

    def _run(
        self, job: Job, arrays: Mapping[str, Array], on_progress: ProgressHandler | None
    ) -> None:
        if self._dead.is_set():
            return
        future = self._under_way[0]
        try:
            for part in self._host.do(job, arrays):
                if part.final and not future.done():
                    future.set_result(Answer(part.facts, part.arrays))
                elif on_progress is not None:
                    on_progress(part.facts)
        except AiaasError as error:
            if not future.done():
                future.set_exception(error)
        self._under_way.popleft()

    def request_stop(self) -> None:
        self._stopping = True
        if not self._under_way:
            self._dead.set()

    def kill(self) -> None:
        self._dead.set()
        for position, future in enumerate(self._under_way):
            if not future.done():
                started = {"started": position == 0}
                future.set_exception(WorkerDiedError("the compute process died", started))
        self._under_way.clear()

    async def wait_dead(self) -> None:
        await self._dead.wait()


class InLoopWorkers:
    """The source of in-loop workers."""

    async def spawn(self, nice: int = 0) -> InLoopWorker:  # noqa: ARG002 - a port's signature
        return InLoopWorker()

    async def close(self) -> None:
        """Nothing runs outside the loop, so nothing is left to end."""
