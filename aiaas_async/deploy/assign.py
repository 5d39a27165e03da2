"""Which node takes which piece, one each, so that every piece fits its node's free bytes. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from aiaas_async.errors import GraphError
from aiaas_async.nn.network import Network
from aiaas_async.nn.shards import TensorPlan, tensor_shards
from aiaas_async.nn.split import Costs, Runs, live_layers, stages
from aiaas_async.nn.submodel import BYTES_PER_PARAMETER, Submodel

Split = Literal["pipeline", "tensor"]

# Layers with smaller weights begin no tensor split: of four dense layers at batch 32, two shards
# made 1.5 times the rows of one worker at 1024 units (4 MiB each) and 0.75 times at 512
# (`bench/split.py`). Where memory asks for it they are split all the same.
WORTH_SHARDING: Final = 4 << 20
_MOST_ORDERS: Final = 24  # of 4 nodes; with more, only descending and ascending are tried


@dataclass(frozen=True, slots=True)
class Pieces:
    """The submodels of a split and the node of each; `nodes` is None when they do not fit."""

    submodels: tuple[Submodel, ...]
    nodes: tuple[str, ...] | None
    tensor: TensorPlan | None = None

    @property
    def sizes(self) -> list[int]:
        return [each.nbytes for each in self.submodels]


def by_size(sizes: Sequence[int], nodes: Mapping[str, int]) -> tuple[str, ...] | None:
    """A node for each piece: the largest goes where most is free. None when some piece is left."""
    roomy = roomiest(nodes)
    largest = sorted(range(len(sizes)), key=lambda piece: -sizes[piece])
    if len(sizes) > len(roomy):
        return None
    chosen = dict(zip(largest, roomy, strict=False))
    fits = all(sizes[piece] <= nodes[node] for piece, node in chosen.items())
    return tuple(chosen[piece] for piece in range(len(sizes))) if fits else None


def could_fit(network: Network, n: int, nodes: Mapping[str, int]) -> bool:
    """Whether the weights together fit `n` nodes together: no split takes less."""
    weights = (spec for node in live_layers(network) for spec in node.parameters.values())
    needed = BYTES_PER_PARAMETER * sum(math.prod(spec.shape) for spec in weights)
    return needed <= sum(nodes[node] for node in roomiest(nodes)[:n])


def roomiest(nodes: Mapping[str, int]) -> list[str]:
    """Node ids, most free bytes first."""
    return sorted(nodes, key=lambda node: (-nodes[node], node))


def pieces(
    split: Split, network: Network, costs: Costs, n: int, nodes: Mapping[str, int]
) -> Pieces:
    """Split over `n` nodes. Raises `InvalidError` or `GraphError` when that cannot be done."""
    return _stages(network, costs, n, nodes) if split == "pipeline" else _shards(network, n, nodes)


def _stages(network: Network, costs: Costs, n: int, nodes: Mapping[str, int]) -> Pieces:
    """The fastest pipeline if it fits; else the fastest within the budgets, in the best order."""
    runs = Runs.of(network, costs)
    cuts = runs.cuts(n)
    if cuts is None:
        raise GraphError(f"the graph cannot be cut into {n} stages: too many values cross each cut")
    fastest = stages(network, cuts)
    found = by_size([each.nbytes for each in fastest], nodes)
    if found is not None or not could_fit(network, n, nodes):
        return Pieces(fastest, found)
    within: list[tuple[float, list[int], tuple[str, ...]]] = []
    for order in _orders(roomiest(nodes)[:n], nodes):
        cuts = runs.cuts(n, [nodes[node] for node in order])
        if cuts is not None:
            within.append((runs.slowest(cuts), cuts, order))
    if not within:
        return Pieces(fastest, None)
    _, cuts, order = min(within)
    return Pieces(stages(network, cuts), order)


def _orders(names: Sequence[str], nodes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Orders of nodes that differ in their budgets."""
    if len(names) > 4:
        return [tuple(names), tuple(reversed(names))]
    distinct: dict[tuple[int, ...], tuple[str, ...]] = {}
    for order in itertools.permutations(names):
        distinct.setdefault(tuple(nodes[node] for node in order), order)
    return list(distinct.values())[:_MOST_ORDERS]


def _shards(network: Network, n: int, nodes: Mapping[str, int]) -> Pieces:
    try:
        found = _sharded(network, n, nodes, WORTH_SHARDING)
    except GraphError:
        return _sharded(network, n, nodes, 0)
    return found if found.nodes is not None else _sharded(network, n, nodes, 0)


def _sharded(network: Network, n: int, nodes: Mapping[str, int], smallest: int) -> Pieces:
    plan = tensor_shards(network, n, smallest)
    return Pieces(plan.shards, by_size([each.nbytes for each in plan.shards], nodes), plan)
