"""Where worker processes come from: the server's handle on the fork server.

The fork server is started first of all, so that its import of numpy overlaps the server's own
imports; if it dies it is started again at the next `spawn`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import deque
from typing import Any

from aiaas_async.compute.frames import MAX_DATAGRAM
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.compute.slots import JOBS_UNDER_WAY, Slot
from aiaas_async.errors import WorkerDiedError

# Set before numpy is imported in the fork server; every BLAS that numpy may be linked to.
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SOCKET_BUFFER = 4 * MAX_DATAGRAM


def start_fork_server(threads: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process; returns at once, before it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "aiaas_async.compute.forkserver", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    ours.setblocking(False)
    return process, ours


class WorkerForks:
    """Spawns workers with `threads` BLAS threads each and at most `memory_limit` bytes of
    address space (0: no limit)."""

    def __init__(self, threads: int = 1, memory_limit: int = 0) -> None:
        self._threads, self._memory_limit = threads, memory_limit
        self._process, self._control = start_fork_server(threads)
        self._ready: asyncio.Future[None] | None = None
        self._waiting: deque[asyncio.Future[tuple[int, int]]] = deque()

    async def spawn(self, nice: int = 0) -> WorkerProcess:
        """Fork a worker; raises `WorkerDiedError` if that cannot be done."""
        await self._connect()
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (line, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        slots = [Slot.create() for _ in range(2 * JOBS_UNDER_WAY)]
        try:
            pid, pidfd = await self._fork(nice, [theirs.fileno(), *(s.fileno() for s in slots)])
        except BaseException:
            line.close()
            for slot in slots:
                slot.close()
            raise
        finally:
            theirs.close()
        line.setblocking(False)
        return WorkerProcess(pid, pidfd, line, slots)

    async def _fork(self, nice: int, fds: list[int]) -> tuple[int, int]:
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        order = {"fork": {"nice": nice, "memory_limit": self._memory_limit}}
        socket.send_fds(self._control, [json.dumps(order).encode()], fds)
        return await future

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self._ready is None:
            self._ready = loop.create_future()
            loop.add_reader(self._control.fileno(), self._on_readable)
        await asyncio.shield(self._ready)

    def _on_readable(self) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 65536, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message, fds = b"", []
        if not message:
            self._on_death()
        else:
            self._on_message(json.loads(message), fds)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        if "ready" in message and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        elif "pid" in message:
            future = self._waiting.popleft()
            if future.cancelled():
                os.close(fds[0])  # its socket is closed too, so that worker exits by itself
            else:
                future.set_result((message["pid"], fds[0]))
        elif "error" in message:
            error = WorkerDiedError(f"no compute process could be started: {message['error']}")
            self._waiting.popleft().set_exception(error)

    def _on_death(self) -> None:
        """The fork server is gone, and by PR_SET_PDEATHSIG every worker with it: start anew."""
        self._disconnect()
        error = WorkerDiedError("the process that starts workers died; it is being restarted")
        while self._waiting:
            self._waiting.popleft().set_exception(error)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        self._ready = None
        self._process.wait()
        self._process, self._control = start_fork_server(self._threads)

    def _disconnect(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()

    async def close(self) -> None:
        """End the fork server, and with it any worker still alive."""
        self._disconnect()
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
