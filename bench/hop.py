"""A hop to a worker and back: this project's worker beside `ProcessPoolExecutor(1)`.

    python -m bench.hop [--rounds N] [--hops N]

Both double an array of float32: 3 KB and 600 KB. Rounds are interleaved, so that a slow minute
of the machine meets all alike; the table shows medians over all hops, one at a time. The bare
line is the floor: the same bytes through a socket to a process that sends them back unread. The
doubling line has that process read them as an array, double it and send that: the least that any
worker does, without a name for the model, checks, deadlines or errors.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import uvloop

from aiaas_async.compute.frames import Array, whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Load
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess

# (what, numbers in a row, the most our time may be of the executor's)
SIZES = (("3 KB", 768, 1 / 10), ("600 KB", 150_528, 1 / 5))
_LINE_BYTES = 150 * 1024
Hop = Callable[[Array], Awaitable[Array]]


def double(x: Array) -> Array:
    """What the executor's process does."""
    return x * np.float32(2)


def doubler(numbers: int) -> ArtifactFiles:
    """The same as a layer graph."""
    graph = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [numbers]}],
        "layers": [{"name": "y", "op": "scale", "factor": 2.0}],
        "outputs": ["y"],
    }
    return ArtifactFiles("numpy", {}, graph)


def by_worker(worker: WorkerProcess, numbers: int) -> Hop:
    async def hop(x: Array) -> Array:
        answer = await worker.submit(Infer(f"double-{numbers}", 1), whole({"x": x}))
        return answer.arrays["y"]

    return hop


def by_executor(executor: ProcessPoolExecutor) -> Hop:
    loop = asyncio.get_running_loop()

    async def hop(x: Array) -> Array:
        return await loop.run_in_executor(executor, double, x)

    return hop


def start_echo(doubles: bool = False) -> socket.socket:
    """A line to a new process that sends back what it gets, or doubles it as float32."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        buffer = memoryview(bytearray(_LINE_BYTES))
        while size := theirs.recv_into(buffer):
            got = buffer[:size]
            theirs.send(double(np.frombuffer(got, np.float32)).data if doubles else got)
        os._exit(0)
    theirs.close()
    ours.setblocking(False)
    return ours


def by_line(line: socket.socket, doubles: bool = False) -> Hop:
    """600 KB go in pieces, since a datagram holds less."""
    loop, buffer = asyncio.get_running_loop(), memoryview(bytearray(_LINE_BYTES))

    async def hop(x: Array) -> Array:
        raw = memoryview(x.data).cast("B")
        for at in range(0, len(raw), _LINE_BYTES):
            await loop.sock_sendall(line, raw[at : at + _LINE_BYTES])
            await loop.sock_recv_into(line, buffer)
        return np.frombuffer(buffer, x.dtype, x.size).reshape(x.shape) if doubles else 2 * x

    return hop


async def hop_times(hop: Hop, x: Array, hops: int) -> list[float]:
    """Microseconds of each of `hops` hops, after some to warm up."""
    times = []
    for i in range(hops + hops // 10):
        start = time.perf_counter()
        y = await hop(x)
        if i >= hops // 10:
            times.append((time.perf_counter() - start) * 1e6)
        assert y[0, 0] == 2 * x[0, 0]
    return times


async def measure(rounds: int, hops: int, echo: socket.socket, doubler_line: socket.socket) -> None:
    forks = WorkerForks()
    worker = await forks.spawn()
    names = (
        "worker us",
        "p99",
        "executor us",
        "p99",
        "bare line us",
        "doubling us",
        "ratio",
        "goal",
    )
    print(" " * 8 + "".join(f"{name:>13}" for name in names))
    with ProcessPoolExecutor(1) as executor:
        for title, numbers, goal in SIZES:
            await worker.submit(Load(f"double-{numbers}", doubler(numbers)))
            x = np.full((1, numbers), 1.5, np.float32)
            lines = by_line(echo), by_line(doubler_line, numbers * 4 <= _LINE_BYTES)
            ways = (by_worker(worker, numbers), by_executor(executor), *lines)
            times: list[list[float]] = [[] for _ in ways]
            for _ in range(rounds):
                for way, hop in enumerate(ways):
                    times[way] += await hop_times(hop, x, hops)
            show(title, times, goal)
    await forks.close()


def show(title: str, times: list[list[float]], goal: float) -> None:
    ours, theirs, floor, doubled = (statistics.median(taken) for taken in times)
    figures = (ours, percentile(times[0]), theirs, percentile(times[1]), floor, doubled)
    shares = f"{ours / theirs:>13.3f}{goal:>13.3f}"
    print(f"{title:<8}" + "".join(f"{figure:>13.0f}" for figure in figures) + shares)


def percentile(times: list[float], share: float = 0.99) -> float:
    return sorted(times)[int(len(times) * share)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hops", type=int, default=400)
    given = parser.parse_args()
    lines = start_echo(), start_echo(doubles=True)  # before any loop or thread
    uvloop.run(measure(given.rounds, given.hops, *lines))


if __name__ == "__main__":
    main()
