"""The in-loop worker: the same host without a process, for tests and for debugging a runtime.

A kernel then runs in the event loop and stalls it; a server never uses this. Between the parts
of a long job the loop runs on, so progress arrives and a stop is heard as from a process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import Array, Pieces
from aiaas_async.compute.host import Host, Part, failure
from aiaas_async.compute.jobs import Job
from aiaas_async.compute.slots import JOBS_UNDER_WAY
from aiaas_async.errors import InternalError, WorkerDiedError, from_code
from aiaas_async.runtimes.table import NO_TARGETS, check_targets


@dataclass(slots=True)
class _UnderWay:
    parts: Iterator[Part]
    future: asyncio.Future[Answer]
    on_progress: ProgressHandler | None
    started: float = field(default_factory=time.perf_counter)


class InLoopWorker:
    pid = None

    def __init__(self, runtimes: Mapping[str, str] = NO_TARGETS) -> None:
        self._under_way: deque[_UnderWay] = deque()
        self._dead = asyncio.Event()
        self._stopping = False
        self._host = Host(lambda: self._stopping, runtimes)
        self._loop = asyncio.get_running_loop()

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    @property
    def can_submit(self) -> bool:
        room = len(self._under_way) < JOBS_UNDER_WAY
        return room and not self._stopping and not self._dead.is_set()

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        if self._stopping or self._dead.is_set():
            raise WorkerDiedError("the compute process takes no more jobs", {"started": False})
        if not self.can_submit:
            raise InternalError(f"{JOBS_UNDER_WAY} jobs are under way already")
        future: asyncio.Future[Answer] = self._loop.create_future()
        batch = {array.name: np.concatenate(array.parts) for array in arrays if array.shape}
        batch |= {array.name: array.parts[0].copy() for array in arrays if not array.shape}
        self._under_way.append(_UnderWay(self._host.do(job, batch), future, on_progress))
        if len(self._under_way) == 1:
            self._loop.call_soon(self._advance)
        return future

    def _advance(self) -> None:
        """Compute the next part of the oldest job."""
        if self._dead.is_set():
            return
        job = self._under_way[0]
        try:
            part = next(job.parts)
        except Exception as error:
            failed = failure(error)
            _settle(job.future, from_code(failed.code, failed.message, failed.details))
            self._finish()
            return
        if part.final:
            spent = int((time.perf_counter() - job.started) * 1e6)
            _settle(job.future, Answer(part.facts, _owned(part.arrays), spent))
            self._finish()
            return
        self._loop.call_soon(self._advance)
        if job.on_progress is not None and part.told:
            job.on_progress(part.facts)

    def _finish(self) -> None:
        self._under_way.popleft()
        if self._under_way:
            self._under_way[0].started = time.perf_counter()
            self._loop.call_soon(self._advance)
        elif self._stopping:
            self._dead.set()

    def request_stop(self) -> None:
        self._stopping = True
        if not self._under_way:
            self._dead.set()

    def kill(self) -> None:
        self._dead.set()
        for position, job in enumerate(self._under_way):
            facts = {"started": position == 0}
            _settle(job.future, WorkerDiedError("the compute process died during this job", facts))
        self._under_way.clear()

    async def wait_dead(self) -> str:
        await self._dead.wait()
        return "was ended"


class InLoopWorkers:
    """The source of in-loop workers; `runtimes` as for `pool.WorkerForks`."""

    def __init__(self, runtimes: Mapping[str, str] = NO_TARGETS) -> None:
        self._runtimes = check_targets(runtimes)

    async def spawn(self, nice: int = 0) -> InLoopWorker:  # noqa: ARG002 - a port's signature
        return InLoopWorker(self._runtimes)

    async def close(self) -> None:
        """Nothing runs outside the loop, so nothing is left to end."""


def _owned(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies: an output may be a view of an input or of the weights."""
    return {name: array.copy() for name, array in arrays.items()}


def _settle(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
