"""Overload: ten times what the server can do, in an open loop, and what becomes of it.

    python -m bench overload [--seconds S] [--times N] [--lend] [--out FILE]

A network whose item takes one worker about 5 ms gives a capacity of some 200 requests a second,
so that the generator, the event loop and 2,000 requests a second fit on the core that the one
node's worker leaves: it borrows none (`lend_cores`), which the others would take away again under
load; `--lend` shows what becomes of a peak that had both. Peak: a closed loop of 64 connections.
Goodput counts the 200s.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from aiaas_async.client import Client
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.testing import server
from aiaas_async.wire.codecs import MSGPACK
from bench.bodies import graph
from bench.openloop import Load, Outcome

_SIDE, _CHANNELS, _CONVOLUTIONS = 16, 128, 5
_CONNECTIONS = 64
_CALM_S, _AFTER_S = 20.0, 10.0


@dataclass
class Figures:
    peak: float
    calm: Outcome
    over: Outcome
    after: Outcome
    seconds: float
    times: float
    memory: list[float] = field(default_factory=list)  # MB of the server's tree, twice a second


def model(folder: Path) -> None:
    """An item of 64 numbers, made an image, through convolutions: compute without a large body."""
    rng = np.random.default_rng(0)
    layers: list[dict[str, Any]] = [
        {"name": "wide", "op": "dense", "units": _SIDE * _SIDE * _CHANNELS},
        {"name": "image", "op": "reshape", "shape": [_SIDE, _SIDE, _CHANNELS]},
    ]
    weights = {
        "wide.weight": rng.standard_normal((64, _SIDE * _SIDE * _CHANNELS), np.float32),
        "wide.bias": np.zeros(_SIDE * _SIDE * _CHANNELS, np.float32),
    }
    for i in range(_CONVOLUTIONS):
        layers.append({"name": f"c{i}", "op": "conv2d", "filters": _CHANNELS, "kernel": [3, 3]})
        layers.append({"name": f"r{i}", "op": "relu"})
        shape = (3, 3, _CHANNELS, _CHANNELS)
        weights[f"c{i}.weight"] = rng.standard_normal(shape, np.float32) * np.float32(0.06)
        weights[f"c{i}.bias"] = np.zeros(_CHANNELS, np.float32)
    layers.append({"name": "y", "op": "global_avg_pool"})
    folder.mkdir()
    (folder / "graph.json").write_bytes(msgspec.json.encode(graph((64,), *layers)))
    write_tensors(folder / "weights.safetensors", weights)


def request(port: int) -> bytes:
    x = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    body = MSGPACK.encode({"model": "slow", "inputs": {"x": x}})
    head = (
        f"POST /call HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/msgpack\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def peak(port: int, content: bytes, seconds: float) -> float:
    """Requests a second of a closed loop: each connection asks again when it is answered."""
    done = 0

    async def ask_again() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length))
            done += head[9:12] == b"200" and time.perf_counter() > warm
        writer.close()

    warm = time.perf_counter() + 2
    until = warm + seconds
    await asyncio.gather(*(ask_again() for _ in range(_CONNECTIONS)))
    return done / seconds


async def measure(url: str, pid: int, seconds: float, times: float) -> Figures:
    port = urlsplit(url).port or 80
    content = request(port)
    top = await peak(port, content, 8.0)
    load = Load(port, content)
    await load.connect(_CONNECTIONS)
    calm = await load.run(0.8 * top, _CALM_S)
    memory: list[float] = []
    watcher = asyncio.create_task(_watch(pid, memory))
    over = await load.run(times * top, seconds, wait=False)
    # What waits is still answered while the load is normal again.
    rest = Load(port, content)
    await rest.connect(_CONNECTIONS)
    after = await rest.run(0.8 * top, _AFTER_S)
    await load.settle()
    watcher.cancel()
    load.close()
    rest.close()
    return Figures(top, calm, over, after, seconds, times, memory)


async def _watch(pid: int, memory: list[float]) -> None:
    while True:
        memory.append(await asyncio.to_thread(_resident_mb, pid))
        await asyncio.sleep(0.5)


def _resident_mb(pid: int) -> float:
    """RSS of the server's own process; its worker's is bounded by the batch."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def recovery(figures: Figures) -> float:
    """Seconds after the overload until the last refusal or the last latency out of bounds."""
    bound = 2 * np.percentile(figures.calm.accepted(), 99) / 1000
    after = figures.after
    bad = [
        due
        for due, latency, status in zip(after.due, after.latency, after.status, strict=True)
        if status != 200 or latency > bound
    ]
    return max(bad, default=0.0)


def report(figures: Figures) -> str:
    calm, over = figures.calm.accepted(), figures.over.accepted()
    done = np.array(figures.over.due) + np.array(figures.over.latency) < figures.seconds
    refused = figures.over.refused_after_leaving()
    goodput = int((done & (np.array(figures.over.status) == 200)).sum()) / figures.seconds
    p99_calm, p99 = np.percentile(calm, 99), np.percentile(over, 99)
    growth = max(figures.memory) - figures.memory[0]
    rows = [
        ("peak (closed loop, 64 connections)", f"{figures.peak:.0f} req/s", ""),
        ("80 % load: p50, p99", f"{np.median(calm):.1f}, {p99_calm:.1f} ms", ""),
        ("goodput under overload", f"{goodput:.0f} req/s = {goodput / figures.peak:.2f}", "≥ 0.90"),
        ("p99 of accepted, over that at 80 %", f"{p99:.0f} ms = {p99 / p99_calm:.2f}", "≤ 2"),
        ("refusals: p50, p99, p99.9, slowest", _ms(refused), "< 20 ms"),
        ("the same, from when the request was due", _ms(figures.over.refused()), ""),
        ("not answered, broken", f"{figures.over.lost} of {figures.over.sent}", "0"),
        ("the generator was late by at most", f"{1000 * figures.over.late:.0f} ms", ""),
        ("memory of the server's process", f"{figures.memory[0]:.0f} MB, grew by {growth:.0f}", ""),
        ("recovered after", f"{recovery(figures):.1f} s", "≤ 2 s"),
    ]
    head = (
        "# Overload\n\n"
        f"`python -m bench overload` on {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}: one node; {figures.times:g} times the peak for "
        f"{figures.seconds:g} s in an open loop (Poisson arrivals), then 80 % of it.\n\n"
        "| figure | measured | to reach |\n|---|---|---|\n"
    )
    return head + "".join(f"| {a} | {b} | {c} |\n" for a, b, c in rows)


def _ms(latencies: NDArray[np.float64]) -> str:
    found = np.percentile(latencies, [50, 99, 99.9, 100]) if len(latencies) else np.zeros(4)
    return ", ".join(f"{ms:.1f}" for ms in found) + " ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--lend", action="store_true", help="the worker may use both cores")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model(folder / "slow")
        lend = {"AIAAS_LEND_CORES": str(options.lend).lower()}
        with server(folder / "data", "--nodes", "1", environment=os.environ | lend) as ours:
            with Client(ours.url) as client:
                client.push("slow", "1", folder / "slow")
            gc.disable()  # the generator's own pauses would be counted as the server's
            figures = uvloop.run(
                measure(ours.url, ours.process.pid, options.seconds, options.times)
            )
    found = report(figures)
    print(found)
    if options.out is not None:
        options.out.write_text(found)


if __name__ == "__main__":
    main()
