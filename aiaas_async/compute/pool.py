"""Where worker processes come from: the server's handle on the fork server.

The fork server is started first of all, so that its import of numpy overlaps the server's own
imports; if it dies, the next `spawn` starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, Self
from weakref import WeakSet

from aiaas_async.compute.frames import MAX_DATAGRAM
from aiaas_async.compute.process import Born, WorkerProcess
from aiaas_async.compute.slots import JOBS_UNDER_WAY, Slot
from aiaas_async.errors import WorkerDiedError
from aiaas_async.runtimes.table import NO_TARGETS, check_targets

# Set before numpy is imported in the fork server; every BLAS that numpy may be linked to.
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# 2**20 cycles, 0.4 ms: OpenBLAS's threads would spin for 2**26 after each product, 120 ms of a core
# that others want. Shorter, and a thread would sleep between the layers of a network.
_IDLE_SPIN = {"OPENBLAS_THREAD_TIMEOUT": "20"}
_SOCKET_BUFFER = 4 * MAX_DATAGRAM


def start_fork_server(
    threads: int, runtimes: Mapping[str, str] = NO_TARGETS
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process; returns at once, before it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = _IDLE_SPIN | os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [
            sys.executable,
            "-m",
            "aiaas_async.compute.forkserver",
            str(theirs.fileno()),
            json.dumps(dict(runtimes)),
        ],
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
    address space (0: no limit). `runtimes` are the operator's own, name → "package.module:Class";
    `InvalidError` for one that cannot be."""

    def __init__(
        self,
        threads: int = 1,
        memory_limit: int = 0,
        runtimes: Mapping[str, str] = NO_TARGETS,
    ) -> None:
        self._threads, self._memory_limit = threads, memory_limit
        self._runtimes = check_targets(runtimes)
        self._server: _ForkServer | None = _ForkServer.start(threads, self._runtimes)
        self._workers: WeakSet[WorkerProcess] = WeakSet()
        self._closed = False

    async def spawn(self, nice: int = 0) -> WorkerProcess:
        """Fork a worker; raises `WorkerDiedError` if that cannot be done."""
        if self._closed:
            raise WorkerDiedError("no compute process is started any more: the server stops")
        try:
            if self._server is None or self._server.dead:
                self._server = _ForkServer.start(self._threads, self._runtimes)
            worker = await self._spawn(self._server, nice)
        except OSError as error:
            raise WorkerDiedError(
                f"no compute process could be started: {error.strerror}"
            ) from error
        self._workers.add(worker)
        return worker

    async def _spawn(self, server: _ForkServer, nice: int) -> WorkerProcess:
        await server.ready()
        with contextlib.ExitStack() as undo:
            line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(line.close)
            with theirs:
                for end in (line, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
                slots = []
                for _ in range(2 * JOBS_UNDER_WAY):
                    slots.append(Slot.create())
                    undo.callback(slots[-1].close)
                fds = [theirs.fileno(), *(slot.fileno() for slot in slots)]
                born = await server.fork(fds, nice, self._memory_limit)
            undo.pop_all()
        line.setblocking(False)
        return WorkerProcess(born, line, slots)

    async def close(self) -> None:
        """End the workers that are still alive, and the fork server."""
        self._closed = True
        for worker in tuple(self._workers):
            worker.kill()
        if self._server is not None:
            await self._server.close()


class _ForkServer:
    """One life of the fork server. Forks are answered in the order they are asked for."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process, self._control = process, control
        self._ready: asyncio.Future[None] | None = None
        self._waiting: deque[asyncio.Future[Born]] = deque()
        self._living: dict[int, asyncio.Future[str]] = {}  # by pid, which is ours until it is told
        self.dead = False

    @classmethod
    def start(cls, threads: int, runtimes: Mapping[str, str]) -> Self:
        return cls(*start_fork_server(threads, runtimes))

    async def ready(self) -> None:
        """Wait until it has imported what workers need. Raises `WorkerDiedError`."""
        if self._ready is None:
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            self._ready.add_done_callback(asyncio.Future.exception)  # its waiters may be gone
            loop.add_reader(self._control.fileno(), self._on_readable)
        await asyncio.shield(self._ready)

    async def fork(self, fds: list[int], nice: int, memory_limit: int) -> Born:
        """A worker that holds `fds`. Raises `WorkerDiedError`, `OSError`."""
        if self.dead:
            raise _died()
        order = {"fork": {"nice": nice, "memory_limit": memory_limit}}
        socket.send_fds(self._control, [json.dumps(order).encode()], fds)
        future: asyncio.Future[Born] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

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
        if "ready" in message:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
            return
        if "ended" in message:
            if (told := self._living.pop(message["ended"], None)) is not None:
                told.set_result(_in_words(message["status"]))
            return
        future = self._waiting.popleft()
        if future.done():  # cancelled; that worker sees its line closed, and exits by itself
            for fd in fds:
                os.close(fd)
        elif "pid" in message and fds:
            told = self._living[message["pid"]] = asyncio.get_running_loop().create_future()
            future.set_result(Born(message["pid"], fds[0], told))
        else:
            reason = message.get("error", "too many open files")
            future.set_exception(WorkerDiedError(f"no compute process could be started: {reason}"))

    def _on_death(self) -> None:
        """It is gone, and by PR_SET_PDEATHSIG every worker with it."""
        self._disconnect()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(_died())
        for future in self._waiting:
            if not future.done():
                future.set_exception(_died())
        self._waiting.clear()
        self._process.kill()  # its line is closed, so it is as good as gone; this makes it so
        self._process.wait()

    def _disconnect(self) -> None:
        self.dead = True
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        for told in self._living.values():
            told.set_result("died with the process that starts workers")
        self._living.clear()

    async def close(self) -> None:
        if self.dead:
            return
        self._disconnect()
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)


def _in_words(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time one
        name = f"signal {-status}"
    return f"was killed by {name}"


def _died() -> WorkerDiedError:
    return WorkerDiedError("the process that starts workers died; it is started again")
