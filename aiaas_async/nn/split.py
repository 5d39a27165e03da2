"""A pipeline: a network cut into stages, so that the slowest of them is as fast as can be.

A stage reads the values made before it that its own layers use, and gives those that later
stages or the caller use; whoever runs the stages holds the values in between, so a value that
skips a stage does not pass through it. The cut points are found by dynamic programming over
contiguous runs of layers (the linear partition problem), each run's time counted with what its
boundary values cost to move.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from aiaas_async.errors import InvalidError
from aiaas_async.messages import MAX_TENSORS, TensorSpec
from aiaas_async.nn.dependence import needed
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.submodel import (
    BYTES_PER_PARAMETER,
    Submodel,
    input_specs,
    layer_specs,
    value_specs,
)

# Among cuts whose slowest stage is within this of the best, one with the least bytes in its
# largest stage is taken (of those again the fastest): times are estimates, budgets are not.
_SLACK: Final = 1.05
_ITEMSIZE: Final = {"64": 8, "32": 4, "16": 2}


@dataclass(frozen=True, slots=True)
class Costs:
    """What the cut is balanced by: seconds of compute by layer, and of moving one byte of an
    item's boundary values, for one batch."""

    seconds: Mapping[str, float]
    seconds_per_byte: float = 0.0


def live_layers(network: Network) -> tuple[Node, ...]:
    """The layers that the outputs depend on; only these are placed anywhere."""
    return needed(network.graph, network.graph.outputs)


def stage(network: Network, start: int, stop: int) -> Submodel:
    """The live layers `start` to `stop` as a submodel."""
    nodes = live_layers(network)
    own = {node.name for node in nodes[start:stop]}
    before = [source for node in nodes[start:stop] for source in node.inputs if source not in own]
    after = {source for node in nodes[stop:] for source in node.inputs}
    wanted = after | set(network.graph.outputs)
    layers = layer_specs(network)
    return Submodel.of(
        {
            "inputs": input_specs(value_specs(network), dict.fromkeys(before)),
            "layers": [layers[node.name] for node in nodes[start:stop]],
            "outputs": [node.name for node in nodes[start:stop] if node.name in wanted],
        }
    )


def stages(network: Network, cuts: Sequence[int]) -> tuple[Submodel, ...]:
    """The stages between `cuts`, as `Runs.cuts` gives them."""
    return tuple(stage(network, a, b) for a, b in itertools.pairwise(cuts))


def spec_bytes(spec: TensorSpec) -> int:
    """Bytes of one item of a value; a length that is open (-1) counts as one."""
    width = next((n for end, n in _ITEMSIZE.items() if (spec.dtype or "").endswith(end)), 1)
    return width * math.prod(max(1, size) for size in spec.shape or ())


def boundary_bytes(submodel: Submodel) -> tuple[int, int]:
    """Bytes of one item that a stage takes in and gives out."""
    specs = value_specs(submodel.network)
    inward = sum(spec_bytes(spec) for spec in submodel.network.inputs)
    return inward, sum(spec_bytes(specs[name]) for name in submodel.outputs)


@dataclass(frozen=True, slots=True)
class Runs:
    """All contiguous runs [i, j) of the `count` live layers: seconds and bytes, infinite where
    i >= j or a run has more boundary values than a graph may have inputs or outputs."""

    count: int
    seconds: Array
    nbytes: Array

    @classmethod
    def of(cls, network: Network, costs: Costs) -> Self:
        nodes = live_layers(network)
        places = range(len(nodes) + 1)
        weights = [_parameter_bytes(node) for node in nodes]
        moved, widest = _boundaries(network, nodes)
        seconds = _between([costs.seconds[node.name] for node in nodes])
        seconds += moved * costs.seconds_per_byte
        possible = np.less.outer(places, places) & (widest <= MAX_TENSORS)
        nbytes = np.where(possible, _between(weights), np.inf)
        return cls(len(nodes), np.where(possible, seconds, np.inf), nbytes)

    def cuts(self, n: int, budgets: Sequence[int] | None = None) -> list[int] | None:
        """Where `n` contiguous stages begin and end, 0, …, `count`, so that the slowest takes the
        least time and stage k is within `budgets[k]` bytes. None: there is no such cut.

        Raises `InvalidError` for more stages than layers.
        """
        if not 1 <= n <= self.count:
            raise InvalidError(f"{n} stages were asked for; the graph has {self.count} layers")
        limits: Sequence[float] = [math.inf] * n if budgets is None else budgets
        fastest = _partition(self.seconds, self.nbytes, limits)
        if fastest is None:
            return None
        in_time = np.where(self.seconds <= fastest.worst * _SLACK, self.nbytes, np.inf)
        smallest = _partition(in_time, self.nbytes, limits)
        assert smallest is not None  # the fastest is one such partition
        limits = [min(limit, smallest.worst) for limit in limits]
        found = _partition(self.seconds, self.nbytes, limits)
        return None if found is None else found.cuts

    def slowest(self, cuts: Sequence[int]) -> float:
        """Seconds of the slowest stage."""
        return max(float(self.seconds[a, b]) for a, b in itertools.pairwise(cuts))


def _between(costs: Sequence[float]) -> Array:
    """[i, j] → the sum of costs[i:j]."""
    total = np.concatenate([[0.0], np.cumsum(costs)])
    found: Array = total[None, :] - total[:, None]
    return found


def _parameter_bytes(node: Node) -> int:
    own = sum(math.prod(spec.shape) for spec in node.parameters.values())
    return BYTES_PER_PARAMETER * own


def _boundaries(network: Network, nodes: Sequence[Node]) -> tuple[Array, Array]:
    """[i, j] → bytes of an item into and out of the run, and the larger number of values."""
    size = len(nodes) + 1
    specs = value_specs(network)
    made = {spec.name: -1 for spec in network.inputs} | {n.name: i for i, n in enumerate(nodes)}
    readers: dict[str, list[int]] = {name: [] for name in made}
    for i, node in enumerate(nodes):
        for source in dict.fromkeys(node.inputs):
            readers[source].append(i)
    inward, outward = np.zeros((2, size, size)), np.zeros((2, size, size))
    for name, at in made.items():
        amount = np.array([spec_bytes(specs[name]), 1.0])[:, None]
        first = at + 1
        for reader in readers[name]:  # a run that begins in first..reader and goes past reader
            inward[:, first : reader + 1, reader + 1] += amount
            first = reader + 1
        if at >= 0:
            last = size if name in network.graph.outputs else readers[name][-1] + 1
            outward[:, : at + 1, at + 1] += amount
            if last < size:
                outward[:, : at + 1, last] -= amount
    inward, outward = inward.cumsum(axis=2), outward.cumsum(axis=2)
    return inward[0] + outward[0], np.maximum(inward[1], outward[1])


@dataclass(frozen=True, slots=True)
class _Partition:
    worst: float
    cuts: list[int]


def _partition(cost: Array, nbytes: Array, limits: Sequence[float]) -> _Partition | None:
    """The partition into len(limits) runs whose dearest is cheapest, run k within limits[k]."""
    best = np.full(len(cost), np.inf)
    best[0] = 0.0
    choices: list[Any] = []
    for limit in limits:
        dearest = np.maximum(best[:, None], np.where(nbytes <= limit, cost, np.inf))
        choices.append(dearest.argmin(axis=0))
        best = dearest.min(axis=0)
    if not math.isfinite(best[-1]):
        return None
    cuts = [len(cost) - 1]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    return _Partition(float(best[-1]), cuts[::-1])
