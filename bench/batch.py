"""Batch inference: 100,000 items with a small network, on one node, on two, and in a plain loop.

Times say what a user waits, on a machine that does nothing else; two plain loops at once say what
the machine has to give just now. CPU says what the work costs: with C of the workers and S of the
server, two nodes on two cores take at least (C + S) / 2, one node at least C.

    python -m bench.batch [--items N] [--rounds N] [--task-items N] [--model M]

The plain loop is what one would write without a platform: one process, the data set's own files
mapped, batches through the network, the outputs kept in memory. Servers have processes of their
own, as loops have: one that had held several servers, one after the other, used 0.055 s of CPU for
a job and not 0.031, since each had left heaps for its threads behind. In each process the same is
done four times: the first time pays for memory that it touches first, the later ones tell what a
server does that has been up for a while; of those the median counts.

Rounds are interleaved; a ratio is the median over the rounds of two times of the same round. All
with one BLAS thread a process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.config import Settings
from aiaas_async.data.library import Library
from aiaas_async.data.source import Source
from aiaas_async.formats.safetensors import map_tensors, write_tensors
from aiaas_async.http.server import settle_memory
from aiaas_async.names import ModelRef
from aiaas_async.nn.memory import keep_freed_memory
from aiaas_async.nn.network import Network
from aiaas_async.ring.hashring import Ring
from aiaas_async.service.lifespan import running_platform
from aiaas_async.service.platform import Platform

WIDTH: Final = 784
HIDDEN: Final[dict[str, tuple[int, ...]]] = {
    "784-256-10": (256,),
    "784-512-512-10": (512, 512),
    "784-1024-1024-10": (1024, 1024),
}
LOOP_BATCH: Final = 256
TIMES: Final = 4
FEW: Final = 2000
WHOLE: Final = 1.9  # of two processors: less, and they are not two


def graph_of(model: str) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for number, units in enumerate(HIDDEN[model]):
        layers.append({"name": f"dense{number}", "op": "dense", "units": units})
        layers.append({"name": f"relu{number}", "op": "relu"})
    layers.append({"name": "logits", "op": "dense", "units": 10})
    layers.append({"name": "probabilities", "op": "softmax"})
    return {
        "inputs": [{"name": "image", "dtype": "float32", "shape": [WIDTH]}],
        "layers": layers,
        "outputs": ["probabilities"],
    }


@asynccontextmanager
async def platform_on(folder: Path, nodes: int) -> AsyncIterator[Platform]:
    """The platform with a data directory for this number of nodes, its workers loaded."""
    settings = Settings(data_dir=str(folder / f"data{nodes}"), nodes=nodes, port=0)
    async with running_platform(settings, WorkerForks()) as platform:
        yield platform


async def prepare(folder: Path, nodes: int, items: int) -> None:
    """Models and data set, before any clock runs."""
    async with platform_on(folder, nodes) as platform:
        for model in HIDDEN:
            await push(platform, folder, model)
        await add_images(platform, "images", items)
        await add_images(platform, "few", FEW)


async def add_images(platform: Platform, name: str, items: int) -> None:
    """The data set `name`, of noise."""
    random = np.random.default_rng(1)
    spec = {"image": {"dtype": "float32", "shape": [WIDTH]}}
    await platform.datasets.declare(name, {"columns": spec})
    for start in range(0, items, 5000):
        count = min(5000, items - start)
        keys = [f"image-{start + number}" for number in range(count)]
        values = random.standard_normal((count, WIDTH), np.float32)
        await platform.datasets.put(name, {"keys": keys, "columns": {"image": values}})


async def push(platform: Platform, folder: Path, model: str) -> None:
    """Register, upload and commit the network `model` with weights of its own."""
    graph = graph_of(model)
    path = folder / "weights"
    write_tensors(path, Network.from_spec(graph).init(1))
    body = {"name": f"net-{model}", "version": "1", "graph": graph}
    await platform.models.register({**body, "inputs": ["image"], "outputs": ["probabilities"]})

    async def chunks() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    ref = ModelRef(f"net-{model}", "1")
    await platform.models.upload(ref, "model.safetensors", chunks(), None)
    await platform.models.commit(ref)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: by the clock, and of CPU."""

    clock: float
    workers: float
    server: float = 0.0


async def time_jobs(folder: Path, nodes: int, model: str, task_items: int | None) -> list[Timing]:
    """Whole jobs as a caller sees them, from the request to the last result on disk; one over few
    items has gone before them, so that the workers have the model, as the plain loop has."""
    async with platform_on(folder, nodes) as platform:
        await run_job(platform, model, "few", None)
        await platform.datasets.source("images")
        settle_memory()
        return [await _time_job(platform, model, task_items) for _ in range(TIMES)]


async def _time_job(platform: Platform, model: str, task_items: int | None) -> Timing:
    started, server, workers = time.perf_counter(), time.process_time(), _cpu(platform)
    results = await run_job(platform, model, "images", task_items)
    clock = time.perf_counter() - started
    taken = Timing(clock, _cpu(platform) - workers, time.process_time() - server)
    # Kept, they fill memory that a virtual machine's host has not given yet: from 500 MB on that
    # doubled what the server used.
    await platform.datasets.delete(results)
    return taken


async def run_job(platform: Platform, model: str, dataset: str, task_items: int | None) -> str:
    """One job, to its end; the data set of its results."""
    body = {"model": f"net-{model}", "dataset": dataset, "task_items": task_items}
    job = await platform.batch.start(platform.jobs, body)
    assert job.task is not None
    await job.task
    assert job.record.result is not None, job.record.error
    found: str = job.record.result["output_dataset"]
    return found


def _cpu(platform: Platform) -> float:
    """Seconds of CPU that the workers have used."""
    total = 0
    for node in platform.cluster.nodes.values():
        worker = node._seat._worker  # noqa: SLF001 - the bench looks inside
        assert isinstance(worker, WorkerProcess)
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def time_apart(
    folder: Path, nodes: int, options: argparse.Namespace, count: int = 1
) -> list[list[Timing]]:
    """Jobs on so many nodes, or for 0 plain loops over all items, each in a process that times
    itself; `count` processes at once."""
    command = [sys.executable, "-m", "bench.batch", "--in", str(folder), "--nodes", str(nodes)]
    command += ["--model", options.model]
    if options.task_items is not None:
        command += ["--task-items", str(options.task_items)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    said = [run.communicate()[0] for run in runs]
    return [[Timing(*map(float, line.split())) for line in text.splitlines()] for text in said]


def plain_loops(folder: Path, model: str) -> list[Timing]:
    keep_freed_memory()
    secret = (folder / "secret").read_bytes()
    library = Library(
        folder / "data1" / "datasets", Ring(["node-0"], secret, points_per_member=320)
    )
    source = library.get("images").source()
    graph = graph_of(model)
    network = Network.from_spec(graph)
    own = folder / f"loop{os.getpid()}"
    write_tensors(own, network.init(1))
    weights = dict(map_tensors(own).tensors)
    return [_time_loop(network, weights, source) for _ in range(TIMES)]


def _time_loop(network: Network, weights: dict[str, Any], source: Source) -> Timing:
    outputs = np.empty((len(source), 10), np.float32)
    started, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(source), LOOP_BATCH):
        items = np.arange(start, min(start + LOOP_BATCH, len(source)))
        found = network.predict(weights, source.take(items), None)
        outputs[start : start + len(items)] = found["probabilities"]
    return Timing(time.perf_counter() - started, time.process_time() - cpu)


def report(folder: Path, options: argparse.Namespace) -> None:
    rounds: list[dict[str, list[Timing]]] = []
    for _ in range(options.rounds):
        (loop,), both = time_apart(folder, 0, options), time_apart(folder, 0, options, 2)
        (one,), (two,) = time_apart(folder, 1, options), time_apart(folder, 2, options)
        slower = max(both, key=lambda timings: _later(timings).clock)
        rounds.append({"plain loop": loop, "two at once": slower, "1 node": one, "2 nodes": two})
    for when, chosen in (("first time", _first), ("later", _later)):
        _report(f"{options.model}, {when}", options.items, _columns(rounds, chosen))


def _first(timings: list[Timing]) -> Timing:
    return timings[0]


def _later(timings: list[Timing]) -> Timing:
    return sorted(timings[1:], key=lambda timing: timing.clock)[len(timings[1:]) // 2]


def _columns(
    rounds: list[dict[str, list[Timing]]], chosen: Callable[[list[Timing]], Timing]
) -> dict[str, list[Timing]]:
    return {who: [chosen(each[who]) for each in rounds] for who in rounds[0]}


def _report(what: str, items: int, times: dict[str, list[Timing]]) -> None:
    print(f"{what:28}{'s':>8}{'items/s':>10}{'CPU s: workers':>16}{'server':>8}")
    loop, both, one, two = times.values()
    for who, found in times.items():
        if found is both:
            continue
        clock = statistics.median(timing.clock for timing in found)
        workers = statistics.median(timing.workers for timing in found)
        server = statistics.median(timing.server for timing in found)
        print(f"  {who:26}{clock:8.3f}{items / clock:10.0f}{workers:16.2f}{server:8.3f}")
    _report_gain([2 * ratio for ratio in _ratios(loop, both)], _ratios(one, two))
    allowed = statistics.median(2 * t.workers / (t.workers + t.server) for t in one)
    print(f"  the CPU that one node takes allows {allowed:.2f}")
    over = statistics.median(_ratios(one, loop))
    used = statistics.median(t.workers / u.workers for t, u in zip(one, loop, strict=True))
    print(f"  1 node over the plain loop: {over:.2f} (to reach: 1.10)", end="; ")
    print(f"its worker's CPU over the loop's: {used:.2f}", flush=True)


def _report_gain(given: list[float], gains: list[float]) -> None:
    """All rounds, and those in which the machine had two processors to give: a virtual one may
    share its core, and then two plain loops gain nothing either."""
    print(f"  2 nodes against 1: {statistics.median(gains):.2f} (to reach: 1.80)", end="; ")
    print(f"2 plain loops at once against 1: {statistics.median(given):.2f}")
    whole = [gain for had, gain in zip(given, gains, strict=True) if had >= WHOLE]
    if whole:
        print(f"  in the {len(whole)} rounds of {len(gains)} where two loops had", end=" ")
        print(f"{WHOLE} or more: {statistics.median(whole):.2f}")


def _ratios(above: list[Timing], below: list[Timing]) -> list[float]:
    return [a.clock / b.clock for a, b in zip(above, below, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--task-items", type=int, default=None)
    parser.add_argument("--model", choices=HIDDEN, default=None)
    parser.add_argument("--in", dest="folder", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--nodes", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        for timing in _timed(options):
            print(*astuple(timing))
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as text:
        folder = Path(text)
        for nodes in (1, 2):
            uvloop.run(prepare(folder, nodes, options.items))
        secret = uvloop.run(_secret(folder))
        (folder / "secret").write_bytes(secret)
        load = os.getloadavg()[0]
        print(f"{options.items} items of {WIDTH} float32; load before: {load:.1f}")
        for model in [options.model] if options.model else HIDDEN:
            options.model = model
            report(folder, options)


def _timed(options: argparse.Namespace) -> list[Timing]:
    if not options.nodes:
        return plain_loops(options.folder, options.model)
    jobs = time_jobs(options.folder, options.nodes, options.model, options.task_items)
    return uvloop.run(jobs)


async def _secret(folder: Path) -> bytes:
    async with platform_on(folder, 1) as platform:
        return platform.registry.secret


if __name__ == "__main__":
    main()
