"""A worker process as the server sees it: a datagram socket, four slots, a pidfd.

Submitting is synchronous: the body is laid into the datagram or the slot and sent, and the
event loop goes on; a reader callback resolves the job's future. Nothing polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from aiaas_async.compute.base import Answer, ProgressHandler
from aiaas_async.compute.frames import (
    INLINE_BYTES,
    MAX_DATAGRAM,
    Array,
    Pieces,
    decode_reply,
    encode,
    lay,
    plan,
    views,
)
from aiaas_async.compute.jobs import Done, Failed, Job, Progress, Reply, Request
from aiaas_async.compute.slots import JOBS_UNDER_WAY, Slot
from aiaas_async.errors import (
    InternalError,
    MemoryBudgetError,
    TooLargeError,
    WorkerDiedError,
    from_code,
)

logger = logging.getLogger(__name__)

_TOLD_S = 1.0  # the socket closes before the process is buried, which tells how it ended


@dataclass(frozen=True, slots=True)
class Born:
    """A forked process; `ended` comes to say how it ended, as `Worker.wait_dead` does."""

    pid: int
    pidfd: int
    ended: asyncio.Future[str]


@dataclass(slots=True)
class _UnderWay:
    number: int
    future: asyncio.Future[Answer]
    on_progress: ProgressHandler | None


class WorkerProcess:
    """Made by `pool.WorkerForks.spawn`; owns `line` and `pidfd` and the slots."""

    def __init__(self, born: Born, line: socket.socket, slots: Sequence[Slot]) -> None:
        self.pid, self._pidfd, self._ended = born.pid, born.pidfd, born.ended
        self._line = line
        self._request_slots, self._reply_slots = slots[:JOBS_UNDER_WAY], slots[JOBS_UNDER_WAY:]
        self._under_way: deque[_UnderWay] = deque()
        self._inbox = memoryview(bytearray(MAX_DATAGRAM))  # making one anew costs 12 us a job
        self._count = 0
        self._stopping = False
        self.alive = True
        self._dead = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(line.fileno(), self._on_readable)

    @property
    def can_submit(self) -> bool:
        return self.alive and not self._stopping and len(self._under_way) < JOBS_UNDER_WAY

    def submit(
        self,
        job: Job,
        arrays: Sequence[Pieces] = (),
        on_progress: ProgressHandler | None = None,
    ) -> asyncio.Future[Answer]:
        if self._stopping or not self.alive:
            raise WorkerDiedError("the compute process takes no more jobs", {"started": False})
        if len(self._under_way) >= JOBS_UNDER_WAY:
            raise InternalError(f"{JOBS_UNDER_WAY} jobs are under way already")
        number = self._count
        datagram = self._datagram(number, job, arrays)
        try:
            self._line.send(datagram)
        except OSError as error:
            # EPIPE or ECONNRESET: it died and the reader has not run yet. Never EAGAIN: the
            # socket's buffer holds more than two datagrams.
            self._on_death()
            raise WorkerDiedError("the compute process has died", {"started": False}) from error
        self._count += 1
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._under_way.append(_UnderWay(number, future, on_progress))
        return future

    def _datagram(self, number: int, job: Job, arrays: Sequence[Pieces]) -> bytes:
        metas, size = plan(arrays)
        if size <= INLINE_BYTES:
            body = bytearray(size)
            lay(arrays, metas, memoryview(body))
            datagram = encode(Request(number, job, metas), body)
        else:
            lay(arrays, metas, self._request_slot(number, size))
            datagram = encode(Request(number, job, metas, size))
        if len(datagram) > MAX_DATAGRAM:
            raise TooLargeError(f"the job's description takes {len(datagram)} bytes")
        return datagram

    def _request_slot(self, number: int, size: int) -> memoryview:
        try:
            return self._request_slots[number % JOBS_UNDER_WAY].view(size)
        except OSError as error:
            raise MemoryBudgetError(
                f"{size} bytes of inputs do not fit in shared memory: {error.strerror}"
            ) from error

    def _on_readable(self) -> None:
        try:
            size = self._line.recv_into(self._inbox)
        except BlockingIOError:
            return
        except ConnectionResetError:
            size = 0
        if not size:
            self._on_death()
            return
        try:
            # Copied out, as from a slot: the answer's arrays belong to the receiver.
            reply, inline = decode_reply(bytearray(self._inbox[:size]))
        except msgspec.MsgspecError:
            reply = None
        if reply is None or not self._under_way or self._under_way[0].number != reply.number:
            logger.error("a worker answered what nobody asked; it is ended")
            self.kill()
            return
        self._resolve(self._under_way[0], reply, inline)

    def _resolve(self, job: _UnderWay, reply: Reply, inline: memoryview) -> None:
        match reply.outcome:
            case Done(facts, compute_us):
                self._under_way.popleft()
                if not job.future.done():
                    job.future.set_result(Answer(facts, self._arrays(reply, inline), compute_us))
            case Failed(code, message, details):
                self._under_way.popleft()
                _fail(job.future, from_code(code, message, details))
            case Progress(facts):
                if job.on_progress is not None:
                    job.on_progress(facts)

    def _arrays(self, reply: Reply, inline: memoryview) -> dict[str, Array]:
        if not reply.slot_bytes:
            return views(reply.arrays, inline)
        # Copied out: the slot is the worker's again as soon as the next job is sent.
        shared = self._reply_slots[reply.number % JOBS_UNDER_WAY].view(reply.slot_bytes)
        return {name: array.copy() for name, array in views(reply.arrays, shared).items()}

    def request_stop(self) -> None:
        self._stopping = True
        if self.alive:
            with contextlib.suppress(OSError):  # it died, and the reader has not run yet
                self._line.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # dead and buried already
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._on_death()

    def _on_death(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._dead.set()
        self._loop.remove_reader(self._line.fileno())
        self._line.close()
        os.close(self._pidfd)
        for slot in (*self._request_slots, *self._reply_slots):
            slot.close()
        for position, job in enumerate(self._under_way):
            facts = {"started": position == 0}
            _fail(job.future, WorkerDiedError("the compute process died during this job", facts))
        self._under_way.clear()

    async def wait_dead(self) -> str:
        await self._dead.wait()
        await asyncio.wait([self._ended], timeout=_TOLD_S)
        return self._ended.result() if self._ended.done() else "died"

    def __repr__(self) -> str:
        state = f"{len(self._under_way)} under way" if self.alive else "dead"
        return f"<WorkerProcess {state}>"


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
