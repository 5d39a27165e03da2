"""A split version answers as the whole one does, and fails as one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.compute.base import Worker, WorkerSource
from aiaas_async.compute.frames import Array, whole
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.jobs import ArtifactFiles, Infer, Load
from aiaas_async.compute.pool import WorkerForks
from aiaas_async.deploy.execute import Run, execute, warm
from aiaas_async.deploy.plan import ModelFacts, Plan, PlanRequest, plan
from aiaas_async.errors import InputError, InvalidError, WorkerDiedError
from aiaas_async.formats.safetensors import write_tensors
from aiaas_async.nn.folding import folded_count
from aiaas_async.nn.layer import Array as Values
from aiaas_async.nn.network import Network
from aiaas_async.runtimes.base import Artifact
from aiaas_async.runtimes.layers import LayersPredictor, LayersRuntime
from tests.nn.graphs import classifier, images, normal, residual, spec

SPLITS = [("pipeline", 2), ("pipeline", 4), ("tensor", 2), ("tensor", 3)]


def planned(network: Network, split: Any, n: int, batch: int = 4) -> Plan:
    asked = PlanRequest(mode="distributed", split=split, nodes=n, max_batch_size=batch)
    nodes = {f"node-{i}": 1 << 20 for i in range(n)}
    return plan(asked, ModelFacts(4 * network.parameter_count, network), nodes)


class Pieces:
    """Each piece loaded by the runtime; counts the most batches that were under way at once."""

    def __init__(self, found: Plan, folder: Path, params: dict[str, Values]) -> None:
        write_tensors(folder / "w", params)
        self.models: list[LayersPredictor] = []
        for each in found.nodes:
            assert each.submodel is not None
            artifact = Artifact({"w.safetensors": folder / "w"}, part=each.submodel.part.to_data())
            self.models.append(LayersRuntime().load(artifact))
            assert self.models[-1].nbytes == each.nbytes
        self.under_way, self.most = 0, 0
        self.rows: list[int] = []

    async def run(
        self, place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.rows.append(len(next(iter(arrays.values()))))
        await asyncio.sleep(0)
        self.under_way -= 1
        return self.models[place].predict(arrays, outputs)


@pytest.mark.parametrize(("split", "n"), SPLITS)
async def test_pieces_answer_as_the_whole_does(tmp_path: Path, split: str, n: int) -> None:
    for network, inputs in (
        (classifier(), {"image": images(3)}),
        (residual(), {"x": normal((3, 4)).astype(np.float32)}),
    ):
        found, params = planned(network, split, n), network.init(1)
        pieces = Pieces(found, tmp_path, params)
        answer = await execute(found, inputs, 3, pieces.run)
        expected = network.predict(params, inputs)
        same = split == "pipeline" and not folded_count(network.graph)
        assert list(answer) == list(expected)
        for name, y in expected.items():
            if y.dtype.kind != "f":
                assert answer[name].tolist() == y.tolist()
            elif same:
                np.testing.assert_array_equal(answer[name], y)
            else:
                np.testing.assert_allclose(answer[name], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("split", "n"), SPLITS)
async def test_a_large_batch_goes_in_pieces_that_overlap(
    tmp_path: Path, split: str, n: int
) -> None:
    network, inputs = residual(), {"x": normal((18, 4)).astype(np.float32)}
    found, params = planned(network, split, n), network.init(1)
    pieces = Pieces(found, tmp_path, params)
    answer = await execute(found, inputs, 18, pieces.run)
    for name, y in network.predict(params, inputs).items():
        np.testing.assert_allclose(answer[name], y, rtol=1e-5, atol=1e-6)
    assert max(pieces.rows) == 4
    assert 2 <= pieces.most <= 2 * n


@pytest.mark.parametrize(("split", "n"), SPLITS)
async def test_warming_runs_every_piece_on_a_full_batch(tmp_path: Path, split: str, n: int) -> None:
    network = classifier()
    found, met = planned(network, split, n), set[int]()
    pieces = Pieces(found, tmp_path, network.init(1))

    async def run(
        place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        met.add(place)
        return await pieces.run(place, arrays, outputs)

    await warm(found, run)
    assert met == set(range(n))
    assert set(pieces.rows) == {4}


async def test_wide_inputs_are_computed_in_float32_by_every_stage(tmp_path: Path) -> None:
    layers: list[dict[str, Any]] = [
        {"name": "scaled", "op": "scale", "factor": 0.1},
        {"name": "y", "op": "dense", "units": 2},
    ]
    inputs = [{"name": "x", "dtype": "float64", "shape": [4]}]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["y"]})
    found, params, x = planned(network, "pipeline", 2), network.init(1), {"x": normal((3, 4))}
    answer = await execute(found, x, 3, Pieces(found, tmp_path, params).run)
    np.testing.assert_array_equal(answer["y"], network.predict(params, x)["y"])
    assert answer["y"].dtype == np.float32


async def test_a_network_without_parameters_computes_in_its_inputs_own_type() -> None:
    layers = [{"name": "a", "op": "scale", "factor": 0.1}, {"name": "b", "op": "tanh"}]
    inputs = [{"name": "x", "dtype": "float64", "shape": [4]}]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["b"]})
    found = planned(network, "pipeline", 2)

    async def run(
        place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        submodel = found.nodes[place].submodel
        assert submodel is not None
        return submodel.network.predict({}, arrays, outputs)

    x = {"x": normal((3, 4))}
    answer = await execute(found, x, 3, run)
    np.testing.assert_array_equal(answer["b"], network.predict({}, x)["b"])
    assert answer["b"].dtype == np.float64


@pytest.mark.parametrize(("split", "n"), SPLITS)
async def test_one_failing_piece_fails_the_call_and_cancels_the_rest(split: str, n: int) -> None:
    found = planned(residual(), split, n)
    cancelled = 0

    async def run(
        place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        nonlocal cancelled
        if arrays[next(iter(arrays))][0, 0] == 1:
            raise WorkerDiedError("the compute process died")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        raise AssertionError

    x = np.zeros((8, 4), np.float32)
    x[4:] = 1  # the second batch of two
    with pytest.raises(WorkerDiedError):
        await execute(found, {"x": x}, 8, run)
    assert cancelled == (1 if split == "pipeline" else n)


async def test_missing_inputs_and_whole_versions_are_refused(tmp_path: Path) -> None:
    network = residual()
    pieces = Pieces(planned(network, "pipeline", 2), tmp_path, network.init(1))
    with pytest.raises(InputError, match=r"input 'x' is missing; given: \['y'\]"):
        await execute(planned(network, "pipeline", 2), {"y": normal((1, 4))}, 1, pieces.run)
    centralized = plan(PlanRequest(), ModelFacts(0, network), {"a": 1})
    with pytest.raises(InvalidError, match="not split"):
        await execute(centralized, {"x": normal((1, 4))}, 1, pieces.run)
    assert replace(centralized, network=None).network is None


@pytest.fixture(params=["in the loop", pytest.param("a process", marks=pytest.mark.real)])
async def source(request: Any) -> Any:
    made: WorkerSource = InLoopWorkers() if request.param == "in the loop" else WorkerForks()
    yield made
    await made.close()


@pytest.mark.parametrize(("split", "n"), SPLITS[::2])
async def test_workers_load_their_parts_and_together_answer_as_one(
    tmp_path: Path, source: WorkerSource, split: str, n: int
) -> None:
    network = Network.from_spec(
        spec([{"name": f"d{i}", "op": "dense", "units": 96} for i in range(4)], ["d3"], (96,))
    )
    found, params = planned(network, split, n, 8), network.init(1)
    write_tensors(tmp_path / "w", params)
    workers = [await source.spawn() for _ in found.nodes]
    for worker, each in zip(workers, found.nodes, strict=True):
        assert each.submodel is not None
        part = each.submodel.part.to_data()
        files = ArtifactFiles("numpy", {"w.safetensors": str(tmp_path / "w")}, part=part)
        loaded = await worker.submit(Load("part", files))
        assert loaded.facts["nbytes"] == each.nbytes
    x = {"x": normal((64, 96)).astype(np.float32)}
    answer = await execute(found, x, 64, through(workers))
    scale = float(np.abs(network.predict(params, x)["d3"]).max())
    expected = network.predict(params, x)["d3"]
    np.testing.assert_allclose(answer["d3"], expected, rtol=1e-5, atol=1e-5 * scale)


def through(workers: list[Worker]) -> Run:
    """Each worker takes two jobs at a time."""
    rooms = [asyncio.Semaphore(2) for _ in workers]

    async def run(
        place: int, arrays: Mapping[str, Array], outputs: tuple[str, ...]
    ) -> Mapping[str, Array]:
        async with rooms[place]:
            rows = len(next(iter(arrays.values())))
            job = Infer("part", rows, outputs)
            return (await workers[place].submit(job, whole(arrays))).arrays

    return run
