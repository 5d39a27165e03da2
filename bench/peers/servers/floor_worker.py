"""The floor with a process of its own for what it computes: the least that a server can take which
does not compute in its event loop. `floor_worker.py PORT`.

One request at a time, binary, of the large network: no queue, no check, no batch.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import deque
from typing import Any

import numpy as np
import uvloop
from aiohttp import web
from served import HEADER, load, read, write

_NAME = "large"
_MOST_BYTES = 1 << 16


def work(line: socket.socket) -> None:
    """The worker: inputs in, outputs out, until the other side has gone."""
    model = load(_NAME)
    while body := line.recv(_MOST_BYTES):
        line.send(model(np.frombuffer(body, np.float32).reshape(1, -1)).tobytes())


class Worker:
    """It answers in the order in which it was asked."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._loop = line, asyncio.get_running_loop()
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._loop.add_reader(line.fileno(), self._on_readable)

    def ask(self, x: Any) -> asyncio.Future[bytes]:
        self._line.send(x.tobytes())
        self._asked.append(self._loop.create_future())
        return self._asked[-1]

    def _on_readable(self) -> None:
        body, answered = self._line.recv(_MOST_BYTES), self._asked.popleft()
        if not answered.done():  # its caller may have gone
            answered.set_result(body)


def started() -> socket.socket:
    """A line to a new worker."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, "worker", str(its.fileno())]
    subprocess.Popen(command, pass_fds=[its.fileno()])
    its.close()
    ours.setblocking(False)
    return ours


async def application(line: socket.socket) -> web.Application:
    worker = Worker(line)

    async def infer(request: web.Request) -> web.Response:
        length = request.headers.get(HEADER)
        x = read(await request.read(), length)
        y = np.frombuffer(await worker.ask(x), np.float32).reshape(1, -1)
        body, headers = write(_NAME, y, length is not None)
        return web.Response(body=body, headers=headers)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post(f"/v2/models/{_NAME}/infer", infer)
    return app


def main() -> None:
    if sys.argv[1] == "worker":
        work(socket.socket(fileno=int(sys.argv[2])))
        return
    uvloop.install()
    web.run_app(application(started()), host="127.0.0.1", port=int(sys.argv[1]), access_log=None)


if __name__ == "__main__":
    main()
