"""The compute port: what a node asks of a worker, whoever implements it.

Two implementations: `process.WorkerProcess` (a real process) and `inloop.InLoopWorker` (the same
host in the event loop, for tests and debugging). A third for other machines would fit here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiaas_async.compute.frames import Array, Pieces
from aiaas_async.compute.jobs import Job


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished job: facts, arrays that belong to the receiver, microseconds of compute."""

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    compute_us: int = 0


ProgressHandler = Callable[[dict[str, Any]], None]


class Worker(Protocol):
    """One worker. Jobs are done in the order of `submit`; at most two may be under way."""

    @property
    def pid(self) -> int | None:
        """Of its process, if it has one of its own."""

    @property
    def alive(self) -> bool: ...

    @property
    def can_submit(self) -> bool:
        """Whether it lives and fewer than two jobs are under way."""

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        """Start `job`. The future fails with the job's own error, or with `WorkerDiedError`
        (details `started`: whether the worker had begun this job when it died)."""

    def request_stop(self) -> None:
        """Ask a long job to come to its end, and the worker to exit when it is idle."""

    def kill(self) -> None:
        """End the worker at once; what is under way fails with `WorkerDiedError`."""

    async def wait_dead(self) -> str:
        """How it ended, in words that follow "the worker": "was killed by SIGSEGV"."""


class WorkerSource(Protocol):
    """Where workers come from."""

    async def spawn(self, nice: int = 0) -> Worker: ...

    async def close(self) -> None: ...
