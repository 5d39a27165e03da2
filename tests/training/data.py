"""Small data sets and plans for the tests of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiaas_async.data.dataset import Dataset
from aiaas_async.data.schema import Column, parse_spec
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.ring.hashring import Ring
from aiaas_async.training.items import Indices
from aiaas_async.training.loop import Training, prepare
from aiaas_async.training.plan import parse_plan
from aiaas_async.training.state import State

COLUMNS = {"x": Column("float32", (6,)), "y": Column("int64", ())}
GRAPH: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [6]}],
    "layers": [
        {"name": "hidden", "op": "dense", "units": 8},
        {"name": "norm", "op": "batch_norm"},
        {"name": "active", "op": "relu"},
        {"name": "kept", "op": "dropout", "rate": 0.2},
        {"name": "logits", "op": "dense", "units": 3},
        {"name": "label", "op": "argmax"},
    ],
    "outputs": ["label"],
}


@dataclass(frozen=True)
class Memory:
    """Items in memory."""

    arrays: dict[str, Array]
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, indices: Indices) -> dict[str, Array]:
        return {name: array[indices] for name, array in self.arrays.items()}


def points(count: int, seed: int = 0) -> dict[str, Array]:
    """Three clouds in six dimensions, and which of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    centres = np.random.default_rng(99).standard_normal((3, 6)) * 2
    x = (centres[y] + rng.standard_normal((count, 6))).astype(np.float32)
    return {"x": x, "y": y}


def items(count: int = 50) -> Memory:
    return Memory(points(count), COLUMNS)


def stored(folder: Path, count: int = 50) -> dict[str, Any]:
    """The manifest of a data set on disk with `points`."""
    columns = {"x": {"dtype": "float32", "shape": [6]}, "y": {"dtype": "int64"}}
    spec = parse_spec("points", "ab12", {"columns": columns}, 1.0)
    dataset = Dataset.create(folder, spec, Ring(["node-0", "node-1"], bytes(16), 16))
    dataset.put([f"k{i}" for i in range(count)], points(count))
    return dataset.source().manifest()


def training(count: int = 50, graph: dict[str, Any] | None = None, **plan: Any) -> Training:
    return prepare(Network.from_spec(graph or GRAPH), parse_plan(plan), items(count))


def begun(run: Training) -> State:
    return run.start(run.network.init(run.plan.seed))


def finished(run: Training, state: State | None = None) -> State:
    """The last state of a run."""
    start = begun(run) if state is None else state
    return [start, *run.run(start)][-1]


def assert_same(one: State, other: State) -> None:
    """Bit for bit, in all but the measured speeds."""
    for a, b in ((one.params, other.params), (one.slots, other.slots)):
        assert {n: x.tobytes() for n, x in a.items()} == {n: x.tobytes() for n, x in b.items()}
    assert (one.epoch, one.batch, one.step) == (other.epoch, other.batch, other.step)
    assert without_speed(one) == without_speed(other)
    assert (one.best is None) == (other.best is None)
    if one.best is not None and other.best is not None:
        assert one.best.epoch == other.best.epoch
        for name, array in one.best.params.items():
            assert array.tobytes() == other.best.params[name].tobytes()


def without_speed(state: State) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "samples_per_second"} for each in state.history]
