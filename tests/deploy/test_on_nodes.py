"""A plan on real nodes: within their budgets, and through the death of a worker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.frames import Array
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.jobs import ArtifactFiles
from aiaas_async.deploy.execute import Run, execute, warm
from aiaas_async.deploy.plan import ModelFacts, Plan, PlanRequest, plan
from aiaas_async.errors import MemoryBudgetError
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.names import ModelRef
from aiaas_async.nn.network import Network
from aiaas_async.node.cores import Cores
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.node import Node
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.work import Call, Hold, Servable, cost_of
from tests.compute.kept import KeptForks
from tests.nn.graphs import Option, normal, spec

SPLITS = ["pipeline", "tensor"]
Make = Callable[[WorkerSource, int], Awaitable[list[Node]]]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as undo:

        async def started(source: WorkerSource, memory: int) -> list[Node]:
            undo.push_async_callback(source.close)
            nodes = [
                Node(n, source, NodeLimits(memory=memory), Quarantine(), Cores()) for n in "ab"
            ]
            for node in nodes:
                await node.start()
                undo.push_async_callback(node.stop, 0.0)
            return nodes

        yield started


def network() -> Network:
    layers = [{"name": f"d{i}", "op": "dense", "units": 128} for i in range(4)]
    return Network.from_spec(spec(layers, ["d3"], (128,)))


def transformer() -> Network:
    """Two blocks of attention over 64 channels."""
    layers: list[Option] = []
    for i in range(2):
        layers += [
            {"name": f"norm{i}", "op": "layer_norm"},
            {"name": f"look{i}", "op": "attention", "heads": 4, "causal": bool(i)},
            {"name": f"sum{i}", "op": "add", "inputs": [f"d{i - 1}" if i else "x", f"look{i}"]},
            {"name": f"up{i}", "op": "dense", "units": 128},
            {"name": f"active{i}", "op": "gelu"},
            {"name": f"d{i}", "op": "dense", "units": 64},
        ]
    return Network.from_spec(spec(layers, ["d1"], (16, 64)))


def parts(found: Plan, weights: Path) -> list[Servable]:
    files, made = {"w.safetensors": str(weights)}, []
    for place, each in enumerate(found.nodes):
        assert each.submodel is not None
        artifact = ArtifactFiles("numpy", files, part=each.submodel.part.to_data())
        inner = each.submodel.network
        ref = ModelRef("m", f"1.{found.request.split}.{place}")
        signature = (inner.inputs, inner.outputs)
        made.append(Servable(ref, artifact, *signature, each.nbytes, found.micro_batch))
    return made


def through(nodes: Mapping[str, Node], found: Plan, servables: list[Servable]) -> Run:
    async def run(
        place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        rows = len(next(iter(arrays.values())))
        message = Call(servables[place], arrays, rows, outputs)
        deadline = asyncio.get_running_loop().time() + 60
        item = nodes[found.nodes[place].node].submit(message, cost_of(arrays), deadline)
        return (await item.reply).arrays

    return run


async def deployed(
    make: Make, source: WorkerSource, folder: Path, split: Any, made: Network
) -> tuple[Plan, Run]:
    """The network split over two nodes of which each has room for little more than half."""
    memory = 4 * made.parameter_count // 2 + 2048
    write_tensors(folder / "w", made.init(1))
    nodes = {node.id: node for node in await make(source, memory)}
    facts = ModelFacts(4 * made.parameter_count, made)
    free = dict.fromkeys(nodes, memory)
    with pytest.raises(MemoryBudgetError):
        plan(PlanRequest(), facts, free)
    asked = PlanRequest(mode="distributed", split=split, nodes=2, max_batch_size=8)
    found = plan(asked, facts, free)
    servables = parts(found, folder / "w")
    for placed, servable in zip(found.nodes, servables, strict=True):
        held = nodes[placed.node].submit(Hold(servable, pin=True), 0, None)
        assert (await held.reply).facts["nbytes"] == placed.nbytes
    return found, through(nodes, found, servables)


async def check(found: Plan, run: Run, rows: int, seed: int) -> None:
    whole = found.network
    assert whole is not None
    shape, (output,) = whole.inputs[0].shape or (), whole.graph.outputs
    x = {"x": normal((rows, *shape), seed).astype(np.float32)}
    answer, expected = await execute(found, x, rows, run), whole.predict(whole.init(1), x)
    scale = float(np.abs(expected[output]).max())
    np.testing.assert_allclose(answer[output], expected[output], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("made", [network(), transformer()], ids=["dense", "transformer"])
async def test_a_model_larger_than_a_node_s_budget_answers_when_split(
    make: Make, tmp_path: Path, split: str, made: Network
) -> None:
    found, run = await deployed(make, InLoopWorkers(), tmp_path, split, made)
    await warm(found, run)
    await asyncio.gather(*(check(found, run, rows, rows) for rows in (1, 3, 8, 30)))


@pytest.mark.real
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("made", [network(), transformer()], ids=["dense", "transformer"])
async def test_calls_survive_the_death_of_a_worker(
    make: Make, tmp_path: Path, split: str, made: Network
) -> None:
    forks = KeptForks()
    found, run = await deployed(make, forks, tmp_path, split, made)
    calls = [asyncio.create_task(check(found, run, 24, seed)) for seed in range(8)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    os.kill(forks.made[1].pid, signal.SIGKILL)
    await asyncio.gather(*calls)
    await check(found, run, 24, 99)
    assert len(forks.made) == 3
