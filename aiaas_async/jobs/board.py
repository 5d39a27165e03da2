"""The job board: accepts jobs, runs a few at a time, remembers them all.

A job is acknowledged when its record is on disk. What was queued or running when the server went
away runs again at the next start; each kind of job resumes from its own checkpoints.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiaas_async.actors.unbroken import Unbroken
from aiaas_async.errors import (
    AiaasError,
    CancelledJobError,
    ConflictError,
    InternalError,
    NotFoundError,
    OverloadedError,
)
from aiaas_async.jobs.events import EventLog
from aiaas_async.jobs.record import JobRecord
from aiaas_async.names import clip

logger = logging.getLogger(__name__)


MAX_WAITING = 256
MAX_FINISHED = 1000  # older finished jobs are forgotten


@dataclass(slots=True)
class Running:
    """A job as its runner sees it. `cancel` is set when it shall come to its end."""

    record: JobRecord
    events: EventLog = field(default_factory=EventLog)
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled_by_user: bool = False
    task: asyncio.Task[None] | None = None


class Runner(Protocol):
    """What does one kind of job."""

    async def run(self, job: Running) -> dict[str, Any]:
        """Do it and return its result. Raise `CancelledJobError` when `job.cancel` ended it."""

    def resuming(
        self, board: JobBoard, record: JobRecord
    ) -> AbstractAsyncContextManager[dict[str, Any]]:
        """The request with which a job that was cancelled or failed goes on where it ended; left
        when it is on the board.

        Raises `ConflictError` or `NotFoundError` where that cannot be.
        """

    def forget(self, job_id: str) -> None:
        """Delete what the job left on disk: its record says that it succeeded, or is gone."""


Save = Callable[[Sequence[JobRecord], Sequence[str]], Awaitable[None]]


class JobBoard:
    """`save(records, forgotten ids)` makes changes durable before it returns."""

    def __init__(self, runners: Mapping[str, Runner], save: Save, max_running: int = 1) -> None:
        self._runners, self._save = runners, save
        self._jobs: dict[str, Running] = {}
        self._slots = asyncio.Semaphore(max_running)
        self._stopping = False
        self._resuming: set[str] = set()
        self.accepting = Unbroken()  # what is on disk is on the board too

    def restore(self, records: Sequence[JobRecord]) -> None:
        """Take up the records of an earlier run, and start again what was not over."""
        for record in sorted(records, key=lambda r: r.created_at):
            # Still "running" on disk: the server was killed under it.
            unfinished = record.moved("queued") if record.state == "running" else record
            job = Running(unfinished, EventLog(record.starts))
            self._jobs[record.id] = job
            if record.over:
                job.events.add("end", outcome(job))
            else:
                self._begin(job)

    async def submit(self, kind: str, request: dict[str, Any]) -> Running:
        """Accept a job, or nothing of it, also when the one who asked goes away. Raises
        `OverloadedError` when too many wait."""
        return await self.accepting.do(self._submit(kind, request))

    async def _submit(self, kind: str, request: dict[str, Any]) -> Running:
        self._check_room()
        record = JobRecord(
            id=secrets.token_hex(8),
            kind=kind,
            state="queued",
            request=request,
            created_at=time.time(),
        )
        await self._save([record], [])
        job = Running(record)
        self._jobs[record.id] = job
        self._begin(job)
        await self._forget_old()
        return job

    async def resume(self, job_id: str) -> Running:
        """Have a job that was cancelled or failed go on where it ended.

        Raises what its runner's `resuming` does, `ConflictError` for a job in another state, and
        `OverloadedError` when too many wait.
        """
        return await self.accepting.do(self._resume(job_id))

    async def _resume(self, job_id: str) -> Running:
        ended = self.get(job_id)
        state = "being resumed" if job_id in self._resuming else ended.record.state
        if state not in ("cancelled", "failed"):
            raise ConflictError(
                f"job {job_id} is {state}; only one that was cancelled or failed is resumed"
            )
        self._check_room()
        self._resuming.add(job_id)
        try:
            async with self._runners[ended.record.kind].resuming(self, ended.record) as request:
                changes: dict[str, Any] = {"request": request, "finished_at": None, "error": None}
                record = ended.record.moved("queued", **changes)
                await self._save([record], [])
                job = self._jobs[job_id] = Running(record, ended.events.continued())
        finally:
            self._resuming.discard(job_id)
        logger.info("%s, to go on", _told(record))
        self._begin(job)
        return job

    def _check_room(self) -> None:
        if sum(not job.record.over for job in self._jobs.values()) >= MAX_WAITING:
            raise OverloadedError(f"{MAX_WAITING} jobs wait already", retry_after=10.0)

    def _begin(self, job: Running) -> None:
        job.task = asyncio.create_task(self._run(job), name=f"job {job.record.id}")

    async def _run(self, job: Running) -> None:
        async with self._slots:
            if job.cancel.is_set() or self._stopping:
                return await self._end_unstarted(job)
            try:
                starts = job.record.starts + 1
                await self._move(job, "running", started_at=time.time(), starts=starts)
                result = await self._runners[job.record.kind].run(job)
            except CancelledJobError as error:
                await self._stopped(job, error)
            except AiaasError as error:
                await self._failed(job, error)
            except Exception:
                logger.exception("job %s met a defect", job.record.id)
                await self._failed(job, InternalError("the job met a defect of the server"))
            else:
                await self._move(job, "succeeded", finished_at=time.time(), result=result)
                await asyncio.to_thread(self._runners[job.record.kind].forget, job.record.id)

    async def _end_unstarted(self, job: Running) -> None:
        if job.cancelled_by_user:
            await self._move(job, "cancelled", finished_at=time.time())

    async def _stopped(self, job: Running, error: CancelledJobError) -> None:
        """Cancelled by a user it is over; stopped with the server it resumes."""
        if job.cancelled_by_user:
            facts = {"code": error.code, "message": error.message, "details": error.details}
            await self._move(job, "cancelled", finished_at=time.time(), error=facts)
        else:
            await self._move(job, "queued")

    async def _failed(self, job: Running, error: AiaasError) -> None:
        facts = {"code": error.code, "message": error.message, "details": error.details}
        await self._move(job, "failed", finished_at=time.time(), error=facts)

    async def _move(self, job: Running, state: Any, **changes: Any) -> None:
        record = job.record.moved(state, progress=progress_of(job), **changes)
        try:
            await self._save([record], [])
        except AiaasError as error:
            # The job's own end still holds in memory; at the next start it runs again.
            logger.error("job %s: its state could not be saved: %s", record.id, error)  # noqa: TRY400
        job.record = record
        logger.info("%s", _told(record))
        job.events.add("end" if record.over else "state", outcome(job))

    async def _forget_old(self) -> None:
        """Forget the oldest of too many that are over, with what they left."""
        over = [job.record for job in self._jobs.values() if job.record.over]
        free = [record for record in over if record.id not in self._resuming]
        count = max(0, len(over) - MAX_FINISHED)
        old = sorted(free, key=lambda r: r.finished_at or 0.0)[:count]
        if not old:
            return
        for record in old:  # at once: while the disk is waited for, others forget and resume
            del self._jobs[record.id]
        try:
            await self._save([], [record.id for record in old])
        except AiaasError as error:
            told = "%d old jobs are not forgotten, and back at the next start: %s"
            logger.error(told, len(old), error.message)  # noqa: TRY400
            return
        for record in old:
            await asyncio.to_thread(self._runners[record.kind].forget, record.id)

    def get(self, job_id: str) -> Running:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFoundError(
                f"no job has the id {clip(job_id)}; `aiaas jobs` or GET /jobs lists them"
            ) from None

    def all(self) -> list[Running]:
        """Every remembered job, newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.record.created_at)

    async def cancel(self, job_id: str) -> Running:
        """Ask a job to end; returns when it has. One that is over already stays as it is."""
        job = self.get(job_id)
        if not job.record.over and job.task is not None:
            job.cancelled_by_user = True
            job.cancel.set()
            if job.record.state == "queued":
                await self._move(job, "cancelled", finished_at=time.time())
                job.task.cancel()
            await asyncio.wait([job.task])
        return job

    async def stop(self, grace_s: float) -> None:
        """Ask running jobs to checkpoint and end; they resume at the next start."""
        self._stopping = True
        await self.accepting.settle(grace_s)
        running = [job.task for job in self._jobs.values() if job.task and not job.task.done()]
        for job in self._jobs.values():
            job.cancel.set()
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def _told(record: JobRecord) -> str:
    """A line of the log: which job is in which state, and why it failed."""
    asked = [str(record.request[each]) for each in ("model", "version") if each in record.request]
    of = f" of {':'.join(asked)}" if asked else ""
    why = f": {record.error['message']}" if record.error else ""
    return f"{record.kind} job {record.id}{of}: {record.state}{why}"


def progress_of(job: Running) -> dict[str, Any]:
    """The newest, if need be that of a run before."""
    return job.events.latest or job.record.progress


def outcome(job: Running) -> dict[str, Any]:
    """What changed with a job's state, as its followers get it."""
    record = job.record
    return {
        "job": record.id,
        "kind": record.kind,
        "state": record.state,
        "result": record.result,
        "error": record.error,
    }


def render(job: Running) -> dict[str, Any]:
    """The JSON-like form of a job; what its request keeps under "_…" is the server's own."""
    record = job.record
    return {
        "job": record.id,
        "kind": record.kind,
        "state": record.state,
        "request": {k: v for k, v in record.request.items() if not k.startswith("_")},
        "created_at": record.created_at,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "starts": record.starts,
        "progress": progress_of(job),
        "result": record.result,
        "error": record.error,
    }
