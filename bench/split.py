"""A split network on two workers beside the whole one on one worker.

    python -m bench.split [--rounds N] [--batch N] [--widths N,N] [--layers N] [--write]

Dense layers with rectifiers between, batches of 32: two replicas, a pipeline of two stages, and
two tensor shards, against the whole network on one of the same two worker processes (one BLAS
thread each). Enough batches are in flight for every way to be at its best. Rounds are interleaved,
so that a slow minute of the machine meets all alike; a ratio is the median over the rounds of a
way's rows a second to the one worker's in the same round. Two workers need two cores, so rounds go
on until other processes took less than `--disturbed` of the machine in enough of them, or there
are three times as many; the least disturbed ones count. `--write` keeps the table in
`bench/results/split.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

from aiaas_async.compute.frames import Array, whole
from aiaas_async.compute.jobs import ArtifactFiles, Infer, LayOut, Load
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.compute.process import WorkerProcess
from aiaas_async.deploy.assign import Split
from aiaas_async.deploy.execute import execute
from aiaas_async.deploy.plan import ModelFacts, Plan, PlanRequest, plan
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn.network import Network
from bench.others import Others, calm, calmest

RESULTS = Path(__file__).parent / "results" / "split.md"
GOALS = {"replicas": None, "pipeline": 1.4, "tensor": 1.4}
ROOMY = {"a": 1 << 40, "b": 1 << 40}
Batch = Callable[[Array], Awaitable[Mapping[str, Array]]]


def deep(layers: int, width: int) -> Network:
    made: list[dict[str, Any]] = []
    for i in range(layers):
        made.append({"name": f"dense{i}", "op": "dense", "units": width})
        made.append({"name": f"relu{i}", "op": "relu"})
    inputs = [{"name": "x", "dtype": "float32", "shape": [width]}]
    spec = {"inputs": inputs, "layers": made, "outputs": [f"relu{layers - 1}"]}
    return Network.from_spec(spec)


class Desk:
    """A worker that is never given more than the two jobs it takes."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker, self.room = worker, asyncio.Semaphore(2)

    async def infer(
        self, model: str, arrays: Mapping[str, Array], outputs: tuple[str, ...] | None = None
    ) -> Mapping[str, Array]:
        async with self.room:
            rows = len(next(iter(arrays.values())))
            answer = await self.worker.submit(Infer(model, rows, outputs), whole(arrays))
            return answer.arrays


class Ways:
    """The same network, whole and split, loaded on two workers."""

    def __init__(self, desks: list[Desk], plans: Mapping[str, Plan]) -> None:
        self.desks, self.plans = desks, plans
        self.turn = 0

    async def one(self, x: Array) -> Mapping[str, Array]:
        return await self.desks[0].infer("whole", {"x": x})

    async def replicas(self, x: Array) -> Mapping[str, Array]:
        self.turn += 1
        return await self.desks[self.turn % 2].infer("whole", {"x": x})

    async def pipeline(self, x: Array) -> Mapping[str, Array]:
        return await self._split("pipeline", x)

    async def tensor(self, x: Array) -> Mapping[str, Array]:
        return await self._split("tensor", x)

    async def _split(self, way: str, x: Array) -> Mapping[str, Array]:
        def run(
            place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
        ) -> Awaitable[Mapping[str, Array]]:
            return self.desks[place].infer(way, arrays, outputs)

        return await execute(self.plans[way], {"x": x}, len(x), run)


async def load(desks: list[Desk], network: Network, path: Path, batch: int) -> Ways:
    files = {"w.safetensors": str(path)}
    facts = ModelFacts(4 * network.parameter_count, network)
    plans = dict[str, Plan]()
    artifact, panels = ArtifactFiles("numpy", files, network.to_spec()), f"{path}.panels"
    if (await desks[0].worker.submit(LayOut(artifact, panels))).facts["made"]:
        artifact = msgspec.structs.replace(artifact, laid_out=panels)
    for desk in desks:
        await desk.worker.submit(Load("whole", artifact))
    splits: tuple[Split, ...] = ("pipeline", "tensor")
    for split in splits:
        asked = PlanRequest(mode="distributed", split=split, nodes=2, max_batch_size=batch)
        plans[split] = plan(asked, facts, ROOMY)
        for desk, each in zip(desks, plans[split].nodes, strict=True):
            assert each.submodel is not None
            part = each.submodel.part.to_data()
            await desk.worker.submit(Load(split, ArtifactFiles("numpy", files, part=part)))
    return Ways(desks, plans)


async def rate(way: Batch, x: Array, seconds: float, in_flight: int) -> float:
    """Rows a second: `in_flight` callers, each of whom waits for its answers."""
    start = time.perf_counter()

    async def caller() -> int:
        count = 0
        while time.perf_counter() < start + seconds or not count:
            await way(x)
            count += 1
        return count

    counts = await asyncio.gather(*(caller() for _ in range(in_flight)))
    return sum(counts) * len(x) / (time.perf_counter() - start)


Rates = dict[str, list[float]]


async def measure(ways: Ways, x: Array, given: argparse.Namespace) -> tuple[Rates, Rates, float]:
    """Rows a second by way, with batches in flight and one at a time, in the rounds that count;
    the most that others took of the machine in one of these."""
    found: dict[str, Batch] = {
        "one": ways.one,
        "replicas": ways.replicas,
        "pipeline": ways.pipeline,
        "tensor": ways.tensor,
    }
    answers = {name: await way(x) for name, way in found.items()}
    for answer in answers.values():
        for name, expected in answers["one"].items():
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(answer[name], expected, rtol=1e-5, atol=1e-5 * scale)
    flight = {"one": 2, "replicas": 4, "pipeline": 4, "tensor": 2}
    others = Others([os.getpid(), *(desk.worker.pid for desk in ways.desks)])
    tried: list[tuple[float, tuple[dict[str, float], dict[str, float]]]] = []
    while len(tried) < 3 * given.rounds and calm(tried, given.disturbed) < given.rounds:
        others.share()
        times = {n: await rate(way, x, given.seconds, flight[n]) for n, way in found.items()}
        singly = {n: await rate(way, x, given.seconds / 2, 1) for n, way in found.items()}
        tried.append((others.share(), (times, singly)))
    kept = calmest(tried, given.rounds)
    busy = {name: [times[name] for _, (times, _) in kept] for name in found}
    alone = {name: [singly[name] for _, (_, singly) in kept] for name in found}
    return busy, alone, kept[-1][0]


def ratio(rates: Rates, way: str) -> float:
    pairs = zip(rates[way], rates["one"], strict=True)
    return statistics.median(a / b for a, b in pairs)


def row(width: int, busy: Rates, alone: Rates, disturbed: float) -> str:
    cells = [f"{width}", f"{statistics.median(busy['one']):,.0f}"]
    for way in GOALS:
        cells.append(f"{statistics.median(busy[way]):,.0f}")
        cells.append(f"{ratio(busy, way):.2f}")
    cells += [f"{ratio(alone, way):.2f}" for way in ("pipeline", "tensor")]
    cells.append(f"{disturbed:.0%}")
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| width | one, rows/s | replicas | ratio | pipeline | ratio | tensor | ratio "
    "| pipeline, 1 in flight | tensor, 1 in flight | others took at most |\n" + "|---" * 11 + "|"
)


async def table(given: argparse.Namespace) -> list[str]:
    forks = WorkerForks()
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for width in given.widths:
            network, path = deep(given.layers, width), Path(folder) / "weights"
            write_tensors(path, network.init(1))
            desks = [Desk(await forks.spawn()) for _ in range(2)]
            ways = await load(desks, network, path, given.batch)
            x = np.random.default_rng(2).standard_normal((given.batch, width)).astype(np.float32)
            found = await measure(ways, x, given)
            lines.append(row(width, *found))
            print(lines[-1], flush=True)
            for desk in desks:
                desk.worker.kill()
    await forks.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--disturbed", type=float, default=0.1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--widths",
        type=lambda text: [int(each) for each in text.split(",")],
        default=[256, 512, 1024, 1536, 2048, 3072, 4096],
    )
    given = parser.parse_args()
    load_average = os.getloadavg()[0]
    print(HEAD)
    lines = uvloop.run(table(given))
    if given.write:
        RESULTS.write_text(report(given, lines, load_average))


def report(given: argparse.Namespace, lines: list[str], load_average: float) -> str:
    return f"""# A network split over two workers

`python -m bench.split`, {given.layers} dense layers with rectifiers, batch {given.batch}, medians
of {given.rounds} interleaved rounds; numpy {np.__version__}, {os.cpu_count()} cores,
{platform.system()}, Python {platform.python_version()}; load average {load_average:.1f} at the
start. The least disturbed of up to three times as many rounds count; the last column says what
other processes took of all cores in these.

Ratios are to one worker in the same round; to reach at width 4096: pipeline {GOALS["pipeline"]},
tensor {GOALS["tensor"]}. "1 in flight" is a single caller who waits for each answer.

{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
