"""Distributed training: samples a second on 2 nodes against 1, one BLAS thread each.

    python -m bench.distributed [--rounds N] [--epochs N] [--nodes N] [--batch N] [--disturbed X]
        [--write]

784-512-512-10, global batch 1,024, SGD with momentum, from a stored data set, as a job's workers
do it. Rounds are interleaved, so that a slow minute of the machine meets all alike; a ratio is the
median over the rounds of both rates in the same round. Two workers need two cores: rounds go on
until others took less than `--disturbed` of the machine in enough of them, or there are three
times as many; the least disturbed ones count. `--write` keeps the table in
`bench/results/distributed.md`. `apart` is what as many runs give that share
nothing; `rest` what a step takes besides a node's own forward and backward pass: waiting for the
others, adding up, stepping.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from aiaas_async.compute.jobs import ArtifactFiles, Train
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.data.dataset import Dataset
from aiaas_async.data.schema import parse_spec
from aiaas_async.jobs.board import Running
from aiaas_async.jobs.record import JobRecord
from aiaas_async.ring.hashring import Ring
from aiaas_async.service.distributed import CrewRun
from bench.others import Others, calm, calmest

RESULTS = Path(__file__).parent / "results" / "distributed.md"
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


class Watched(WorkerForks):
    """Knows its workers' processes, so that what others take of the machine can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.others = Others([os.getpid()])

    async def spawn(self, nice: int = 0) -> WorkerProcess:
        worker = await super().spawn(nice)
        self.others.pids.append(worker.pid)
        return worker

    async def look(self) -> None:
        """Look at the workers while they run: what they took is gone with them."""
        while True:
            self.others.look()
            await asyncio.sleep(0.05)


async def run(forks: Watched, task: dict[str, Any], nodes: int, folder: Path) -> Figures:
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


async def apart(forks: Watched, task: dict[str, Any], count: int, folder: Path) -> float:
    """Samples a second of `count` runs at once that share nothing: what the machine has to give."""
    runs = [run(forks, task, 0, folder / f"apart-{number}") for number in range(count)]
    return sum(map(rate, await asyncio.gather(*runs)))


def rate(facts: Figures) -> float:
    """The median epoch's samples a second, without the first, which warms up."""
    found: list[float] = [each["samples_per_second"] for each in facts["history"][1:]]
    return statistics.median(found)


@dataclass(frozen=True, slots=True)
class Round:
    """Samples a second by one worker's own loop, by a crew of one, by a crew of `nodes`, and by as
    many runs that share nothing; what share of a step the busiest node did not compute."""

    alone: float
    one: float
    several: float
    apart: float
    rest: float

    def __str__(self) -> str:
        return (
            f"one worker {self.alone:9,.0f}  1 node {self.one:9,.0f}  "
            f"nodes {self.several:9,.0f} ({self.several / self.one:.2f})  "
            f"apart {self.apart:9,.0f}  rest {self.rest:.1%}"
        )


async def one_round(
    forks: Watched, given: argparse.Namespace, data: dict[str, Any], folder: Path
) -> Round:
    plan: Figures = {"epochs": given.epochs, "batch_size": given.batch, "momentum": 0.9}
    plan |= {"validation": 0.0, "loss": "cross_entropy"}

    def task(method: str) -> dict[str, Any]:
        return {"plan": {**plan, "method": method}, "data": data, "start": "graph"}

    alone = rate(await run(forks, task("sgd"), 0, folder / "alone"))
    one = rate(await run(forks, task("distributed"), 1, folder / "one"))
    several = await run(forks, task("distributed"), given.nodes, folder / "several")
    ceiling = await apart(forks, task("sgd"), given.nodes, folder)
    busiest = max(several["nodes"].values(), key=lambda each: each["step_ms"])
    rest = busiest["other_ms"] / (busiest["step_ms"] + busiest["other_ms"])
    return Round(alone, one, rate(several), ceiling, rest)


async def measure(folder: Path, given: argparse.Namespace) -> list[tuple[float, Round]]:
    """The rounds that count, each with what others took of the machine."""
    data = await asyncio.to_thread(stored, folder / "data")
    forks = Watched()
    looking = asyncio.create_task(forks.look())
    tried: list[tuple[float, Round]] = []
    while len(tried) < 3 * given.rounds and calm(tried, given.disturbed) < given.rounds:
        forks.others.share()
        found = await one_round(forks, given, data, folder / f"round-{len(tried)}")
        tried.append((forks.others.share(), found))
        print(f"{found}  others {tried[-1][0]:.0%}", flush=True)
    looking.cancel()
    await forks.close()
    return calmest(tried, given.rounds)


def summary(given: argparse.Namespace, kept: Sequence[tuple[float, Round]]) -> list[str]:
    """Medians over the rounds that count, each with the lowest and the highest."""
    rounds, nodes = [found for _, found in kept], given.nodes
    figures = {
        f"{nodes} nodes over 1 node (goal {GOAL})": [r.several / r.one for r in rounds],
        f"{nodes} nodes over one worker's own loop": [r.several / r.alone for r in rounds],
        f"{nodes} runs that share nothing over one": [r.apart / r.alone for r in rounds],
        "rest of a step on the busiest node": [r.rest for r in rounds],
        "what others took of the machine": [share for share, _ in kept],
    }
    return [
        f"| {text} | {statistics.median(each):.2f} | {min(each):.2f} to {max(each):.2f} |"
        for text, each in figures.items()
    ]


def report(given: argparse.Namespace, lines: Sequence[str], kept: Sequence[Any]) -> str:
    rates = "\n".join(f"    {found}  others {share:.0%}" for share, found in kept)
    return f"""# Distributed training

`python -m bench.distributed --rounds {given.rounds} --epochs {given.epochs}`: 784-512-512-10,
global batch {given.batch:,}, SGD with momentum, one BLAS thread a worker; numpy {np.__version__},
{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}. The least
disturbed of up to three times as many rounds count.

| figure | median | from, to |
|---|---|---|
{chr(10).join(lines)}

Samples a second in these rounds:

{rates}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--disturbed", type=float, default=0.05)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = uvloop.run(measure(Path(folder), given))
    lines = summary(given, kept)
    print("\n".join(lines))
    if given.write:
        RESULTS.write_text(report(given, lines, kept))


if __name__ == "__main__":
    main()
