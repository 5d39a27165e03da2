"""Batch inference: 100,000 items with a small network, on one node, on two, and in a plain loop.

    python -m bench.batch [--items N] [--rounds N] [--model mlp|small|...]

The plain loop is what one would write without a platform: one process, the data set's own files
mapped, batches through the network, the outputs kept in memory. Rounds are interleaved; a ratio
is the median over the rounds of two times of the same round. All with one BLAS thread a process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.config import Settings
from aiaas_async.data.library import Library
from aiaas_async.formats.safetensors import map_tensors, write_tensors
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
        await add_images(platform, items)


async def add_images(platform: Platform, items: int) -> None:
    """The data set "images", of noise."""
    random = np.random.default_rng(1)
    spec = {"image": {"dtype": "float32", "shape": [WIDTH]}}
    await platform.datasets.declare("images", {"columns": spec})
    for start in range(0, items, 5000):
        count = min(5000, items - start)
        keys = [f"image-{start + number}" for number in range(count)]
        values = random.standard_normal((count, WIDTH), np.float32)
        await platform.datasets.put("images", {"keys": keys, "columns": {"image": values}})


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


async def job_seconds(folder: Path, nodes: int, model: str) -> tuple[float, dict[str, Any]]:
    """A whole job as a caller sees it: from the request to the last result on disk."""
    async with platform_on(folder, nodes) as platform:
        await platform.models.servable(platform.models.catalog.version(f"net-{model}", "1"))
        await platform.datasets.source("images")
        spent = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        body = {"model": f"net-{model}", "dataset": "images"}
        job = await platform.batch.start(platform.jobs, body)
        assert job.task is not None
        await job.task
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert job.record.state == "succeeded", job.record.error
        assert job.record.result is not None
        cpu = after.ru_utime + after.ru_stime - spent.ru_utime - spent.ru_stime
        busy = sum(n.statistics.compute_s for n in platform.cluster.nodes.values())
        await platform.datasets.delete(job.record.result["output_dataset"])
        return seconds, {**job.record.result, "server_cpu": cpu, "compute": busy}


def loop_seconds(folder: Path, model: str) -> float:
    """The plain loop, in a process of its own; it times itself once everything is loaded."""
    command = [sys.executable, "-m", "bench.batch", "--loop", str(folder), "--model", model]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def plain_loop(folder: Path, model: str) -> float:
    keep_freed_memory()
    secret = (folder / "secret").read_bytes()
    library = Library(
        folder / "data1" / "datasets", Ring(["node-0"], secret, points_per_member=320)
    )
    source = library.get("images").source()
    graph = graph_of(model)
    network = Network.from_spec(graph)
    write_tensors(folder / "loop", network.init(1))
    weights = dict(map_tensors(folder / "loop").tensors)
    outputs = np.empty((len(source), 10), np.float32)
    started = time.perf_counter()
    for start in range(0, len(source), LOOP_BATCH):
        items = np.arange(start, min(start + LOOP_BATCH, len(source)))
        found = network.predict(weights, source.take(items), None)
        outputs[start : start + len(items)] = found["probabilities"]
    return time.perf_counter() - started


def report(folder: Path, model: str, rounds: int) -> None:
    times: dict[str, list[float]] = {"loop": [], "1": [], "2": []}
    facts: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        times["loop"].append(loop_seconds(folder, model))
        for nodes in (1, 2):
            seconds, facts[str(nodes)] = asyncio.run(job_seconds(folder, nodes, model))
            times[str(nodes)].append(seconds)
    print(f"{model}")
    for who, found in times.items():
        name = "plain loop" if who == "loop" else f"{who} node(s)"
        more = facts.get(who)
        said = (
            f"  {more['tasks']} tasks, {more['stolen']} stolen, workers {more['compute']:.2f} s, "
            f"server {more['server_cpu']:.2f} s of CPU"
            if more
            else ""
        )
        rate = facts["1"]["total"] / statistics.median(found)
        print(f"  {name:12}{statistics.median(found):7.2f} s{rate:10.0f} items/s{said}")
    both = _ratio(times["1"], times["2"])
    over = _ratio(times["1"], times["loop"])
    print(f"  2 nodes against 1: {both:.2f} (to reach: 1.80)")
    print(f"  1 node over the plain loop: {over:.2f} (to reach: at most 1.10)")


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=HIDDEN, default=None)
    parser.add_argument("--loop", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop is not None:
        print(plain_loop(options.loop, options.model))
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as text:
        folder = Path(text)
        for nodes in (1, 2):
            asyncio.run(prepare(folder, nodes, options.items))
        secret = asyncio.run(_secret(folder))
        (folder / "secret").write_bytes(secret)
        load = os.getloadavg()[0]
        print(f"{options.items} items of {WIDTH} float32; load before: {load:.1f}")
        for model in [options.model] if options.model else HIDDEN:
            report(folder, model, options.rounds)


async def _secret(folder: Path) -> bytes:
    async with platform_on(folder, 1) as platform:
        return platform.registry.secret


if __name__ == "__main__":
    main()
