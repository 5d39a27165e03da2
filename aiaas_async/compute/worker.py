"""The worker process: one loop that receives a job, does it, and answers.

It is synchronous on purpose: a worker has one core, and a job has it whole. Jobs arrive as
datagrams; large bodies lie in the slots. The socket's other end closing is the order to stop.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence

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
from aiaas_async.compute.host import Host
from aiaas_async.compute.jobs import Done, Failed, Progress, Reply, Request
from aiaas_async.compute.slots import JOBS_UNDER_WAY, Slot
from aiaas_async.errors import AiaasError

logger = logging.getLogger(__name__)


def preload() -> None:
    """Import what every worker needs, and touch BLAS once, before the first fork."""
    np.ones((8, 8), np.float32) @ np.ones((8, 8), np.float32)


def run(fds: Sequence[int]) -> None:
    """Serve jobs from the socket `fds[0]`; `fds[1:]` are request slots, then reply slots."""
    line = socket.socket(fileno=fds[0])
    slots = [Slot(fd) for fd in fds[1:]]
    Worker(line, slots[:JOBS_UNDER_WAY], slots[JOBS_UNDER_WAY:]).serve()


class Worker:
    def __init__(
        self, line: socket.socket, requests: Sequence[Slot], replies: Sequence[Slot]
    ) -> None:
        self._line, self._requests, self._replies = line, requests, replies
        self._host = Host(stop_requested=self._stop_requested)

    def serve(self) -> None:
        """Answer jobs until the line closes."""
        while datagram := self._line.recv(MAX_DATAGRAM):
            request, inline = decode_request(datagram)
            body = inline
            if request.slot_bytes:
                slot = self._requests[request.number % JOBS_UNDER_WAY]
                body = slot.view(request.slot_bytes)
            self._answer(request, views(request.arrays, body))

    def _answer(self, request: Request, arrays: dict[str, Array]) -> None:
        started = time.perf_counter_ns()
        try:
            for part in self._host.do(request.job, arrays):
                spent = (time.perf_counter_ns() - started) // 1000
                self._send(request.number, part.outcome(spent), part.arrays)
        except AiaasError as error:
            failed = Failed(error.code, error.message, error.details)
            self._send(request.number, failed, {})
        except MemoryError:
            message = "the model needs more memory than its worker may use"
            self._send(request.number, Failed("memory_budget", message), {})
        except Exception as error:
            # A defect in a runtime or a kernel: the log gets the traceback, the caller a class.
            logger.exception("a job failed in its worker")
            failed = Failed("worker", f"the model failed while it ran ({type(error).__name__})")
            self._send(request.number, failed, {})

    def _send(
        self, number: int, outcome: Done | Progress | Failed, arrays: dict[str, Array]
    ) -> None:
        pieces = whole(arrays)
        metas, size = plan(pieces)
        if size <= INLINE_BYTES:
            body = bytearray(size)
            lay(pieces, metas, memoryview(body))
            self._line.send(encode(Reply(number, outcome, metas), body))
        else:
            slot = self._replies[number % JOBS_UNDER_WAY]
            lay(pieces, metas, slot.view(size))
            self._line.send(encode(Reply(number, outcome, metas, size)))

    def _stop_requested(self) -> bool:
        """Whether the line is closed or another frame waits: a long job then comes to its end."""
        try:
            self._line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True
