"""In-loop workers that a test holds back, or lets die, at the call it names."""

from __future__ import annotations

import asyncio
from typing import Any

from aiaas_async.compute.base import Answer, ProgressHandler, Worker
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.jobs import Infer, Job, Scan


class Gate:
    """In-loop workers; calls wait from the `after`th on until the gate is opened, and
    `dying` of them kill their worker instead."""

    def __init__(self, after: int = 10**9, dying: int = 0) -> None:
        self.after, self.dying = after, dying
        self.open = asyncio.Event()
        self.reached = asyncio.Event()
        self.seen = 0
        self._inner = InLoopWorkers()

    async def spawn(self, nice: int = 0) -> Worker:
        return Gated(self, await self._inner.spawn(nice))

    async def close(self) -> None: ...


class Gated:
    def __init__(self, gate: Gate, inner: Worker) -> None:
        self._gate, self._inner = gate, inner
        self._held: list[asyncio.Task[None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def alive(self) -> bool:
        return self._inner.alive

    @property
    def can_submit(self) -> bool:
        return self._inner.can_submit and not any(not task.done() for task in self._held)

    def submit(
        self, job: Job, arrays: Any = (), on_progress: ProgressHandler | None = None
    ) -> asyncio.Future[Answer]:
        gate = self._gate
        if not isinstance(job, Infer | Scan):
            return self._inner.submit(job, arrays, on_progress)
        gate.seen += 1
        if gate.dying:
            gate.dying -= 1
            future = self._inner.submit(job, arrays, on_progress)
            self._inner.kill()
            return future
        if gate.seen <= gate.after or gate.open.is_set():
            return self._inner.submit(job, arrays, on_progress)
        gate.reached.set()
        later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._held.append(asyncio.create_task(self._when_open(job, arrays, later)))
        return later

    async def _when_open(
        self, job: Job, arrays: list[Pieces], later: asyncio.Future[Answer]
    ) -> None:
        await self._gate.open.wait()
        try:
            answer = await self._inner.submit(job, arrays)
        except Exception as error:
            later.set_exception(error)
        else:
            later.set_result(answer)

    def kill(self) -> None:
        self._inner.kill()

    def request_stop(self) -> None:
        self._inner.request_stop()

    async def wait_dead(self) -> str:
        return await self._inner.wait_dead()
