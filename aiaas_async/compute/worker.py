"""The worker process: one loop that receives a job, does it, and answers.

It is synchronous on purpose: a worker has one core, and a job has it whole. Jobs arrive as
datagrams; large bodies lie in the slots. The socket's other end closing is the order to stop.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Mapping, Sequence

import numpy as np

from aiaas_async.compute.frames import (
    INLINE_BYTES,
    MAX_DATAGRAM,
    Array,
    decode_request,
    encode,
    lay,
    plan,
    views,
    whole,
)
from aiaas_async.compute.host import Host, failure
from aiaas_async.compute.jobs import Done, Failed, Progress, Reply, Request
from aiaas_async.compute.slots import JOBS_UNDER_WAY, Slot
from aiaas_async.errors import InternalError
from aiaas_async.nn.memory import keep_freed_memory
from aiaas_async.runtimes.table import NO_TARGETS

logger = logging.getLogger(__name__)


class _LineClosedError(Exception):
    """The server is gone: nobody is left to answer."""


def preload() -> None:
    """Import what every worker needs, and touch BLAS once, before the first fork."""
    np.ones((8, 8), np.float32) @ np.ones((8, 8), np.float32)


def run(fds: Sequence[int], targets: Mapping[str, str] = NO_TARGETS) -> None:
    """Serve jobs from the socket `fds[0]`; `fds[1:]` are request slots, then reply slots.
    `targets` are the runtimes of the server's configuration."""
    keep_freed_memory()
    slots = [Slot(fd) for fd in fds[1:]]
    with socket.socket(fileno=fds[0]) as line:
        Worker(line, slots[:JOBS_UNDER_WAY], slots[JOBS_UNDER_WAY:], targets).serve()
    for slot in slots:
        slot.close()


class Worker:
    def __init__(
        self,
        line: socket.socket,
        requests: Sequence[Slot],
        replies: Sequence[Slot],
        targets: Mapping[str, str] = NO_TARGETS,
    ) -> None:
        self._line, self._requests, self._replies = line, requests, replies
        self._inbox = memoryview(bytearray(MAX_DATAGRAM))  # making one anew costs 12 us a job
        self._host = Host(stop_requested=self._stop_requested, targets=targets)
        self._closing = select.poll()
        self._closing.register(line, select.POLLRDHUP)

    def serve(self) -> None:
        """Answer jobs until the line closes."""
        try:
            while size := self._line.recv_into(self._inbox):
                self._answer(*decode_request(self._inbox[:size]))
        except (_LineClosedError, ConnectionResetError):
            return

    def _answer(self, request: Request, inline: memoryview) -> None:
        started = time.perf_counter_ns()
        try:
            arrays = self._arrays(request, inline)
            for part in self._host.do(request.job, arrays):
                if not part.told:
                    continue
                spent = (time.perf_counter_ns() - started) // 1000
                self._send(request.number, part.outcome(spent), part.arrays)
        except _LineClosedError:
            raise
        except Exception as error:
            self._send(request.number, failure(error), {})

    def _arrays(self, request: Request, inline: memoryview) -> dict[str, Array]:
        if not request.slot_bytes:
            return views(request.arrays, inline)
        slot = self._requests[request.number % JOBS_UNDER_WAY]
        return views(request.arrays, slot.view(request.slot_bytes))

    def _send(
        self, number: int, outcome: Done | Progress | Failed, arrays: dict[str, Array]
    ) -> None:
        pieces = whole(arrays)
        metas, size = plan(pieces)
        if size <= INLINE_BYTES:
            body = bytearray(size)
            lay(pieces, metas, memoryview(body))
            datagram = encode(Reply(number, outcome, metas), body)
        else:
            lay(pieces, metas, self._replies[number % JOBS_UNDER_WAY].view(size))
            datagram = encode(Reply(number, outcome, metas, size))
        if len(datagram) > MAX_DATAGRAM:
            raise InternalError(f"an answer's description takes {len(datagram)} bytes")
        try:
            self._line.send(datagram)
        except OSError as error:
            raise _LineClosedError from error

    def _stop_requested(self) -> bool:
        """Whether the server closed its side: a long job then comes to its end. Jobs that wait
        are no such order, so the line itself is asked and not what lies in it."""
        return bool(self._closing.poll(0))
