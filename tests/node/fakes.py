"""A worker whose every answer the test decides, and a source of such workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Job, Load, Unload
from aiaas_async.errors import WorkerDiedError
from aiaas_async.messages import TensorSpec
from aiaas_async.names import ModelRef
from aiaas_async.node.work import Call, Servable


@dataclass
class Submitted:
    job: Job
    arrays: Sequence[Pieces]
    future: asyncio.Future[Answer]


class FakeWorker:
    """Loads and unloads succeed at once; calls wait for `finish`, `fail` or `kill`."""

    pid = None

    def __init__(self) -> None:
        self.log: list[Job] = []
        self.waiting: list[Submitted] = []
        self._dead = asyncio.Event()
        self.arrived = asyncio.Event()
        self.kill_on_load: set[str] = set()

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    @property
    def can_submit(self) -> bool:
        return self.alive and len(self.waiting) < 2

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        if not self.alive:
            raise WorkerDiedError("dead", {"started": False})
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.log.append(job)
        if isinstance(job, Load) and job.model in self.kill_on_load:
            self._dead.set()
            future.set_exception(WorkerDiedError("dead", {"started": True}))
        elif isinstance(job, Load | Unload):
            future.set_result(Answer())
        else:
            self.waiting.append(Submitted(job, arrays, future))
            self.arrived.set()
        return future

    async def next(self) -> Submitted:
        while not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        return self.waiting[0]

    def finish(self, compute_us: int = 1000) -> None:
        """Answer the oldest call: output y is input x, doubled."""
        done = self.waiting.pop(0)
        x = np.concatenate([part for piece in done.arrays for part in piece.parts])
        done.future.set_result(Answer({}, {"y": x * 2}, compute_us))

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0).future.set_exception(error)

    def kill(self) -> None:
        self._dead.set()
        for position, job in enumerate(self.waiting):
            if job.future.done():  # cancelled
                continue
            job.future.set_exception(WorkerDiedError("dead", {"started": position == 0}))
        self.waiting.clear()

    def request_stop(self) -> None:
        if not self.waiting:
            self._dead.set()

    async def wait_dead(self) -> str:
        await self._dead.wait()
        return "was ended"


@dataclass
class FakeSource:
    workers: list[FakeWorker] = field(default_factory=list)
    kill_on_load: set[str] = field(default_factory=set)
    refuse: int = 0
    spawned: asyncio.Event = field(default_factory=asyncio.Event)

    async def worker(self, number: int) -> FakeWorker:
        """The worker that is spawned as the `number`th, counted from 0; waits for it."""
        while len(self.workers) <= number:
            self.spawned.clear()
            await self.spawned.wait()
        return self.workers[number]

    async def spawn(self, nice: int = 0) -> FakeWorker:
        if self.refuse:
            self.refuse -= 1
            raise WorkerDiedError("no process can be made")
        worker = FakeWorker()
        worker.kill_on_load = self.kill_on_load
        self.workers.append(worker)
        self.spawned.set()
        return worker

    async def close(self) -> None: ...


def servable(name: str = "m", nbytes: int = 100, max_batch_size: int = 8) -> Servable:
    spec = (TensorSpec("x", "float32", (2,)),)
    return Servable(
        ModelRef(name, "1"), ArtifactFiles("numpy", {}), spec, spec, nbytes, max_batch_size
    )


def call(of: Servable, value: float = 1.0, rows: int = 1) -> Call:
    return Call(of, {"x": np.full((rows, 2), value, np.float32)}, rows)


def inferences(worker: FakeWorker) -> list[Infer]:
    return [job for job in worker.log if isinstance(job, Infer)]
