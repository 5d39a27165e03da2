"""An open-loop load: requests leave when they are due, whether or not others were answered.

A closed loop (wrk) slows down with the server, and so never overloads it. Arrivals are Poisson.
Latencies count from when a request was due, so a stall of the generator itself is not hidden; how
late it left is kept beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_CONNECTIONS = 8000


@dataclass
class Outcome:
    """Per answered request: when it was due and when it left (seconds from the start), latency in
    s from when it was due, status."""

    due: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    sent: int = 0
    lost: int = 0  # connections that broke, and requests no connection was free for
    late: float = 0.0  # seconds after it was due that a request left, at worst

    def accepted(self) -> NDArray[np.float64]:
        """Latencies of the 200s, in ms."""
        return self._latencies(np.array(self.status) == 200)

    def refused(self) -> NDArray[np.float64]:
        """Latencies of all others, in ms."""
        return self._latencies(np.array(self.status) != 200)

    def refused_after_leaving(self) -> NDArray[np.float64]:
        """As `refused`, but from when the request left: what the server is answerable for."""
        answered = np.array(self.due, np.float64) + np.array(self.latency, np.float64)
        taken = 1000 * (answered - np.array(self.left, np.float64))
        refused: NDArray[np.float64] = taken[np.array(self.status) != 200]
        return refused

    def _latencies(self, these: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.array(self.latency, np.float64)[these] * 1000


class _Connection(asyncio.Protocol):
    """One request at a time over a kept connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._head = b""
        self._missing = -1  # bytes of the body still to come; -1: the head is not whole
        self._status = 0
        self.due = self.left = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # uvloop's is no asyncio.Transport

    def send(self, due: float, left: float, request: bytes) -> None:
        self.due, self.left, self._head, self._missing = due, left, b"", -1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            head, separator, rest = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._status = int(head[9:12])
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._missing = int(length or 0) - len(rest)
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._missing = -1
            self._load.done(self, self._status)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._load.broken(self)


class Load:
    """Sends `request` to `port` at `rate` a second for `seconds`."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request = port, request
        self._free: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._started = 0.0
        self._idle = asyncio.Event()
        self.outcome = Outcome()

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        while len(self._free) < count:
            _, made = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
            self._free.append(made)

    async def run(self, rate: float, seconds: float, *, wait: bool = True) -> Outcome:
        """Returns when all are answered; without `wait`, when the last has left."""
        gaps = np.random.default_rng(3).exponential(1 / rate, int(rate * seconds * 1.2) + 100)
        dues = np.cumsum(gaps)
        dues = dues[dues < seconds]
        self.outcome = outcome = Outcome()
        self._started = time.perf_counter()
        for due in dues.tolist():
            ahead = due - (time.perf_counter() - self._started)
            if ahead > 0:
                await asyncio.sleep(ahead)
            self._leave(due)
        if wait:
            await self.settle()
        return outcome

    async def settle(self, patience: float = 30.0) -> None:
        """Until all are answered; those that are not after `patience` seconds are lost."""
        if self._busy:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), patience)
        self.outcome.lost += len(self._busy)

    def _leave(self, due: float) -> None:
        outcome = self.outcome
        outcome.sent += 1
        if self._free:
            self._send(self._free.pop(), due)
        elif len(self._busy) + len(self._opening) < _MOST_CONNECTIONS:
            task = asyncio.ensure_future(self._open(due))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            outcome.lost += 1

    def _send(self, connection: _Connection, due: float) -> None:
        now = time.perf_counter() - self._started
        self.outcome.late = max(self.outcome.late, now - due)
        self._busy.add(connection)
        connection.send(due, now, self._request)

    async def _open(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self.outcome.lost += 1
            return
        self._send(made, due)

    def done(self, connection: _Connection, status: int) -> None:
        self._rest(connection)
        self._free.append(connection)
        outcome = self.outcome
        outcome.due.append(connection.due)
        outcome.left.append(connection.left)
        outcome.latency.append(time.perf_counter() - self._started - connection.due)
        outcome.status.append(status)

    def _rest(self, connection: _Connection) -> None:
        self._busy.discard(connection)
        if not self._busy:
            self._idle.set()

    def broken(self, connection: _Connection) -> None:
        if connection in self._busy:
            self._rest(connection)
            self.outcome.lost += 1
        elif connection in self._free:
            self._free.remove(connection)

    def close(self) -> None:
        for connection in [*self._free, *self._busy]:
            if connection.transport is not None:
                connection.transport.close()
