"""A distributed run: one worker of its own for each participating node, and shared memory.

The workers meet in the shared memory; the event loop only starts them, listens, and looks now and
then whether all show signs of life. One that died or got stuck ends the attempt: the run goes on
from its checkpoint with fresh workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from aiaas_async.compute.base import Answer, Worker, WorkerSource
from aiaas_async.compute.jobs import ArtifactFiles, TrainPart
from aiaas_async.compute.slots import Slot
from aiaas_async.errors import CancelledJobError, WorkerDiedError
from aiaas_async.jobs.board import Running
from aiaas_async.training.crew import Count, Header

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.25


class CrewRun:
    """One attempt of the job `job` with a worker for each of `nodes`."""

    def __init__(self, job: Running, nodes: Sequence[str], step_timeout_s: float) -> None:
        self._job, self._nodes = job, tuple(nodes)
        self._step_timeout_s = step_timeout_s
        self._workers: list[Worker] = []
        self._told_to_stop = False

    async def run(
        self,
        source: WorkerSource,
        nice: int,
        artifact: ArtifactFiles,
        task: dict[str, Any],
        directory: str,
    ) -> dict[str, Any]:
        """The first worker's final facts. Raises the error of whichever worker failed, and
        `WorkerDiedError` for one that died or was ended because it got stuck."""
        memory = Slot.create()
        try:
            for _ in self._nodes:
                self._workers.append(await source.spawn(nice))
            # The workers open it while they start; it has no name that could be left behind.
            file = f"/proc/{os.getpid()}/fd/{memory.fileno()}"
            answers = [
                worker.submit(
                    TrainPart(artifact, task, directory, rank, self._nodes, file),
                    (),
                    lambda facts: self._job.events.add("progress", facts),
                )
                for rank, worker in enumerate(self._workers)
            ]
            now = asyncio.get_running_loop().time()
            return await self._watch(answers, Pulse(Header(memory), len(self._nodes), now))
        finally:
            for worker in self._workers:
                worker.kill()
            memory.close()

    async def _watch(self, answers: list[asyncio.Future[Answer]], pulse: Pulse) -> dict[str, Any]:
        cancelled = asyncio.create_task(self._job.cancel.wait())
        try:
            while not answers[0].done():
                waited = [each for each in answers if not each.done()]
                events: list[asyncio.Future[Any]] = [*waited]
                if not self._told_to_stop:
                    events.append(cancelled)
                await asyncio.wait(
                    events, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                _raise_failure(answers)
                if cancelled.done():
                    self._stop_all()
                self._check_alive(answers, pulse)
            _raise_failure(answers)
            return answers[0].result().facts
        finally:
            cancelled.cancel()
            for answer in answers:
                answer.add_done_callback(heard)

    def _stop_all(self) -> None:
        """Ask for a checkpoint and the end; the first worker decides after which step."""
        if not self._told_to_stop:
            self._told_to_stop = True
            for worker in self._workers:
                worker.request_stop()

    def _check_alive(self, answers: list[asyncio.Future[Answer]], pulse: Pulse) -> None:
        """Raise `WorkerDiedError` for a worker that is stuck; all are ended then."""
        found = pulse.stuck(asyncio.get_running_loop().time(), self._step_timeout_s)
        stuck = [rank for rank in found if not answers[rank].done()]
        if stuck:
            nodes = ", ".join(self._nodes[rank] for rank in stuck)
            message = (
                f"the worker of {nodes} showed no sign of life for {self._step_timeout_s:g} s; "
                "raise plan.step_timeout_s if its steps may take that long"
            )
            logger.warning("job %s: %s", self._job.record.id, message)
            raise WorkerDiedError(message, {"started": True})


class Pulse:
    """When each worker last showed a sign of life, or rightly waited for the others."""

    def __init__(self, header: Header, world: int, now: float) -> None:
        self._counts = header.counts[:world]
        self._beats = [-1] * world
        self._seen = [now] * world

    def stuck(self, now: float, patience_s: float) -> list[int]:
        """Those whose turn it is, and who have not moved for `patience_s`."""
        for rank, beat in enumerate(self._counts[:, Count.BEAT].tolist()):
            if beat != self._beats[rank] or self._waits(rank):
                self._beats[rank], self._seen[rank] = beat, now
        return [rank for rank, seen in enumerate(self._seen) if now - seen > patience_s]

    def _waits(self, rank: int) -> bool:
        """Whether it waits for one who is behind; who only did not notice is stuck itself."""
        met = self._counts[:, Count.MET]
        return bool(self._counts[rank, Count.WAITING]) and bool(met[rank] > met.min())


def _raise_failure(answers: Sequence[asyncio.Future[Answer]]) -> None:
    """Raise what ended a worker. Of a stop, the first worker's word counts: it saves first."""
    for rank, answer in enumerate(answers):
        error = answer.exception() if answer.done() else None
        if error is not None and (rank == 0 or not isinstance(error, CancelledJobError)):
            raise error


def heard(answer: asyncio.Future[Answer]) -> None:
    """So that nobody complains of an error that came too late to matter."""
    if not answer.cancelled():
        answer.exception()
