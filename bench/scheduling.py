"""The policies on one skewed workload: in a simulation with a clock of its own, then for real.

    python -m bench.scheduling [--seconds S] [--no-real]

Schedules: one node serves short calls, a few long ones, and a batch job that always has three
tasks in flight. Assignments: a job over four nodes, where one holds most of the data and one is
slower. For real: calls to a running platform beside a batch job, and without one.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from aiaas_async.compute.pool import WorkerForks
from aiaas_async.config import Settings
from aiaas_async.jobs.board import Running
from aiaas_async.schedule.assign import ASSIGNMENTS, make_assignment
from aiaas_async.schedule.backlog import Backlog
from aiaas_async.schedule.disciplines import DISCIPLINES, make_discipline
from aiaas_async.schedule.divide import Task, divide
from aiaas_async.schedule.origin import BATCH, CALLS, TENANT
from aiaas_async.service.batchrun import LANES
from aiaas_async.service.calls import CallRequest
from aiaas_async.service.lifespan import running_platform
from aiaas_async.service.platform import Platform
from bench.batch import WIDTH, add_images, push

TASK_S: Final = 0.010
NODES: Final = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Work:
    """Something that waits at the simulated node; times in seconds."""

    came: float
    flow: str
    expected_s: float
    deadline: float | None
    priority: int = 0
    tenant: str = TENANT


def arrivals(seconds: float, seed: int) -> list[Work]:
    """Calls at random, half the node's time in all: most take 1 ms, one in fifty 40 ms."""
    source, now, found = random.Random(seed), 0.0, list[Work]()
    mean_s = 0.98 * 0.001 + 0.02 * 0.040
    while now < seconds:
        now += source.expovariate(0.5 / mean_s)
        takes = 0.040 if source.random() < 0.02 else 0.001
        found.append(Work(now, CALLS, takes, now + source.choice((0.05, 0.5))))
    return found


def simulate(schedule: str, calls: list[Work]) -> dict[str, float]:
    """One node under `schedule`, the worker busy with one thing at a time, up to the last call."""
    queue, now, batch_s, coming = make_discipline(schedule), 0.0, 0.0, iter([*calls, None])
    following, waits, late, in_flight = next(coming), list[float](), 0, 0
    while following is not None:
        while following is not None and following.came <= now:
            queue.push(following)
            following = next(coming)
        while in_flight < LANES:
            queue.push(Work(now, BATCH, TASK_S, None, -1))
            in_flight += 1
        work: Work = queue.pop()
        now += work.expected_s
        if work.flow == BATCH:
            in_flight -= 1
            batch_s += work.expected_s
        else:
            waits.append(now - work.came)
            late += work.deadline is not None and now > work.deadline
    # What starves has waited until now, and is late.
    starved = [work for work in queue if work.flow == CALLS]
    waits += [now - work.came for work in starved]
    late += len(starved)
    return {**spread(waits), "late": 100 * late / len(waits), "batch": 100 * batch_s / now}


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    found = np.array(seconds) * 1e3
    return {
        "mean": float(found.mean()),
        "p50": float(np.percentile(found, 50)),
        "p99": float(np.percentile(found, 99)),
    }


def makespan(assignment: str, *, stealing: bool, seed: int) -> float:
    """A job of 40,000 items of 0.1 ms over four nodes: "a" holds 70 %, "d" has half the speed."""
    counts = {"a": 28_000, "b": 4000, "c": 4000, "d": 4000}
    source = random.Random(seed)
    owner = {task.key: source.choice(NODES) for task in divide(counts, 100)}
    backlog = Backlog(make_assignment(assignment, owner.__getitem__, seed))
    backlog.set_nodes(NODES)
    backlog.add(divide(counts, 100))
    own = {node: _own(backlog, node) for node in NODES}
    free, end = [(0.0, node) for node in NODES], 0.0
    while free:
        now, node = heapq.heappop(free)
        task = backlog.take(node, 100) if stealing else next(own[node], None)
        if task is not None:
            row_s = 0.0002 if node == "d" else 0.0001
            heapq.heappush(free, (now + task.items * row_s, node))
        end = max(end, now)
    return end


def _own(backlog: Backlog, node: str) -> Iterator[Task]:
    """A node's own tasks, nobody else's."""
    while backlog.loads[node]:
        task = backlog.take(node, 100)
        assert task is not None
        yield task


async def beside(folder: Path, schedule: str, seconds: float, *, batch: bool) -> dict[str, float]:
    """Calls from four clients to a real platform with one node, beside a batch job or alone."""
    settings = Settings(data_dir=str(folder), nodes=1, schedule=schedule)
    async with running_platform(settings, WorkerForks()) as platform:
        order = {"model": "net-784-512-512-10", "dataset": "images", "priority": -1}
        job = await platform.batch.start(platform.jobs, order) if batch else None
        if job is not None:
            await _under_way(job)
        waits = await _clients(platform, seconds)
        facts = spread(waits)
        if job is not None:
            facts["batch"] = float(job.events.latest["items_per_s"])
            await platform.jobs.cancel(job.record.id)
        return {**facts, "calls": len(waits) / seconds}


async def _under_way(job: Running) -> None:
    """Wait until the job has told of items that it did."""
    async for event in job.events.follow():
        if event.data.get("computed"):
            return


async def _clients(platform: Platform, seconds: float) -> list[float]:
    x = np.zeros((1, WIDTH), np.float32)
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (started := time.perf_counter()) < end:
            await platform.calls.call(CallRequest({"image": x}, "net-784-256-10"))
            waits.append(time.perf_counter() - started)
            await asyncio.sleep(0.005)

    await asyncio.gather(*(client() for _ in range(4)))
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--no-real", action="store_true")
    options = parser.parse_args()
    print("Schedules, simulated: calls for half of one node beside a batch job")
    print(f"{'':12}{'mean ms':>9}{'p50 ms':>9}{'p99 ms':>9}{'late %':>9}{'batch gets %':>14}")
    calls = arrivals(600.0, 1)
    for schedule in DISCIPLINES:
        print(f"{schedule:12}" + _row(simulate(schedule, calls)))
    print("\nAssignments, simulated: makespan over four nodes, seconds (the least possible: 1.14)")
    print(f"{'':14}{'own tasks':>10}{'stealing':>10}")
    for assignment in ASSIGNMENTS:
        plain = makespan(assignment, stealing=False, seed=1)
        stolen = makespan(assignment, stealing=True, seed=1)
        print(f"{assignment:14}{plain:10.2f}{stolen:10.2f}")
    if not options.no_real:
        asyncio.run(real(options.seconds))


def _row(facts: dict[str, float]) -> str:
    texts = (f"{facts.get(name, math.nan):9.1f}" for name in ("mean", "p50", "p99", "late"))
    return "".join(texts) + f"{facts['batch']:14.1f}"


async def real(seconds: float) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as text:
        folder = Path(text)
        async with running_platform(Settings(data_dir=text, nodes=1), WorkerForks()) as platform:
            for model in ("784-256-10", "784-512-512-10"):
                await push(platform, folder, model)
            await add_images(platform, "images", int(80_000 * max(1.0, seconds / 2)))
        print("\nFor real: four clients and one node, beside a batch job")
        print(f"{'':12}{'mean ms':>9}{'p50 ms':>9}{'p99 ms':>9}{'calls/s':>9}{'batch items/s':>15}")
        alone = await beside(folder, "fair", seconds, batch=False)
        print(f"{'no job':12}" + _real_row(alone))
        for schedule in DISCIPLINES:
            facts = await beside(folder, schedule, seconds, batch=True)
            print(f"{schedule:12}" + _real_row(facts), flush=True)


def _real_row(facts: dict[str, float]) -> str:
    texts = (f"{facts[name]:9.1f}" for name in ("mean", "p50", "p99", "calls"))
    return "".join(texts) + (f"{facts['batch']:15.0f}" if "batch" in facts else "")


if __name__ == "__main__":
    main()
