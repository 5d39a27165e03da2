"""Distributed training: samples a second on 2 nodes against 1, one BLAS thread each.

    python -m bench.distributed [--rounds N] [--epochs N] [--nodes N] [--batch N] [--patience S]

784-512-512-10, global batch 1,024, SGD with momentum, from a stored data set, as a job's workers
do it. Rounds are interleaved, so that a slow minute of the machine meets all alike; the ratio is
the median over the rounds of both rates in the same round. `rest` is what a step takes besides a
node's own forward and backward pass: waiting for the others, adding up, stepping.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from aiaas_async.compute.jobs import ArtifactFiles, Train
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.schema import parse_spec
from aiaas_async.jobs.board import Running
from aiaas_async.jobs.record import JobRecord
from aiaas_async.ring.hashring import Ring
from aiaas_async.service.distributed import CrewRun

ITEMS = 20 * 1024
GOAL = 1.7
GRAPH: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [784]}],
    "layers": [
        {"name": "one", "op": "dense", "units": 512},
        {"name": "a", "op": "relu"},
        {"name": "two", "op": "dense", "units": 512},
        {"name": "b", "op": "relu"},
        {"name": "logits", "op": "dense", "units": 10},
    ],
    "outputs": ["logits"],
}
ARTIFACT = ArtifactFiles("numpy", {}, GRAPH)
Figures = dict[str, Any]


def stored(folder: Path) -> dict[str, Any]:
    """The manifest of a data set of ten noisy prototypes, over two shards."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, ITEMS)
    x = (rng.random((10, 784), np.float32)[y] + rng.random((ITEMS, 784), np.float32)) / 2
    columns = {"x": {"dtype": "float32", "shape": [784]}, "y": {"dtype": "int64"}}
    spec = parse_spec("digits", "ab12", {"columns": columns}, 1.0)
    dataset = Dataset.create(folder, spec, Ring(["node-0", "node-1"], bytes(16)))
    dataset.put([f"k{i}" for i in range(ITEMS)], {"x": x, "y": y})
    return dataset.source().manifest()


async def run(forks: WorkerForks, task: dict[str, Any], nodes: int, folder: Path) -> Figures:
    """The final facts of one run; 0 nodes: by the loop for a single worker."""
    if nodes:
        job = Running(JobRecord("bench", "train", "running", {}, time.time()))
        crew = CrewRun(job, [f"node-{n}" for n in range(nodes)], 60.0)
        return await crew.run(forks, 0, ARTIFACT, task, str(folder))
    worker = await forks.spawn()
    try:
        return (await worker.submit(Train(ARTIFACT, task, str(folder)))).facts
    finally:
        worker.kill()


async def apart(forks: WorkerForks, task: dict[str, Any], count: int, folder: Path) -> float:
    """Samples a second of `count` runs at once that share nothing: what the machine has to give."""
    runs = [run(forks, task, 0, folder / f"apart-{number}") for number in range(count)]
    return sum(map(rate, await asyncio.gather(*runs)))


def pressure() -> float:
    """Percent of the last ten seconds in which somebody waited for a core (Linux PSI)."""
    first = Path("/proc/pressure/cpu").read_text().split()
    return float(first[1].removeprefix("avg10="))


async def quiet(patience_s: float) -> None:
    """Wait until hardly anybody else waits for a core, for at most `patience_s`."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if pressure() < 3.0:
            return
        await asyncio.sleep(1.0)


def rate(facts: Figures) -> float:
    """The median epoch's samples a second, without the first, which warms up."""
    found: list[float] = [each["samples_per_second"] for each in facts["history"][1:]]
    return statistics.median(found)


async def measure(folder: Path, given: argparse.Namespace) -> None:
    forks = WorkerForks()
    data = await asyncio.to_thread(stored, folder / "data")
    plan: Figures = {
        "epochs": given.epochs,
        "batch_size": given.batch,
        "momentum": 0.9,
        "validation": 0.0,
    }
    plan |= {"loss": "cross_entropy"}
    ways = {"one worker": 0, "1 node": 1, f"{given.nodes} nodes": given.nodes}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    ratios: list[float] = []
    shares: list[float] = []
    ceilings: list[float] = []
    for number in range(given.rounds):
        await quiet(given.patience)
        for name, nodes in ways.items():
            method = {"method": "distributed" if nodes else "sgd"}
            task = {"plan": {**plan, **method}, "data": data, "start": "graph"}
            facts = await run(forks, task, nodes, folder / f"job-{number}-{nodes}")
            rates[name].append(rate(facts))
            print(f"round {number + 1}  {name:<11} {rate(facts):9,.0f} samples/s", flush=True)
        task = {"plan": {**plan, "method": "sgd"}, "data": data, "start": "graph"}
        ceiling = await apart(forks, task, given.nodes, folder / f"round-{number}")
        print(f"round {number + 1}  {given.nodes} apart     {ceiling:9,.0f} samples/s", flush=True)
        ceilings.append(ceiling / rates["one worker"][-1])
        busiest = max(facts["nodes"].values(), key=lambda each: each["step_ms"])
        step = busiest["step_ms"] + busiest["other_ms"]
        shares.append(busiest["other_ms"] / step)
        ratios.append(rates[name][-1] / rates["one worker"][-1])
    await forks.close()
    for name, found in rates.items():
        print(f"{name:<11} {statistics.median(found):9,.0f} samples/s, median")
    print(f"rest of a step {statistics.median(shares):.1%} on the busiest node")
    print(f"{given.nodes} nodes / one worker: {statistics.median(ratios):.2f} (goal {GOAL})")
    print(f"{given.nodes} runs apart / one: {statistics.median(ceilings):.2f}, the limit here now")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--patience", type=float, default=0.0, help="s to wait for a quiet machine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(Path(folder), given))


if __name__ == "__main__":
    main()
