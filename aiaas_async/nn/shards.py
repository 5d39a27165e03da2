"""Tensor parallelism: each shard holds a share of every large layer, and all work on each item.

As Shoeybi et al. (2019, "Megatron-LM") split a transformer's feed-forward block: a dense layer on
a whole input is split by columns, which leaves its output split; what works on each channel
alone stays where it is; a dense layer on a split input is split by rows, which leaves partial
sums. Where a whole value is needed the shards' pieces are reduced: partial sums added, columns
concatenated. Convolutions are split alike, by filters and by input channels, embeddings by
columns. All other layers are replicated.

Reductions cut the graph into segments, run one after the other by all shards, or by the first
alone when nothing in a segment is split. A row slice of a dense weight lies in one piece in the
file and is mapped; every other slice is copied once, at load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.messages import MAX_TENSORS
from aiaas_async.nn.activations import Gelu, Relu, Relu6, Sigmoid, Silu, Tanh
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.dense import Dense, Embedding
from aiaas_async.nn.dependence import needed
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Array, Layer
from aiaas_async.nn.network import Network
from aiaas_async.nn.normalisation import BatchNorm, Dropout
from aiaas_async.nn.pooling import AvgPool, GlobalAvgPool, MaxPool
from aiaas_async.nn.processing import Normalise, Scale
from aiaas_async.nn.split import live_layers
from aiaas_async.nn.structure import Add, Flatten
from aiaas_async.nn.submodel import (
    BYTES_PER_PARAMETER,
    Slice,
    Submodel,
    input_specs,
    layer_specs,
    value_specs,
)

Reduce = Literal["sum", "concat", "first"]
Role = Literal["replicated", "columns", "rows", "local"]

_WIDTHS: Final[dict[type[Layer], str]] = {Dense: "units", Conv2d: "filters", Embedding: "units"}
_BY_ROWS: Final = (Dense, Conv2d)
_BY_CHANNEL: Final = (
    *(Relu, Relu6, Sigmoid, Tanh, Silu, Gelu, Dropout, Scale, Normalise, Add, BatchNorm),
    *(MaxPool, AvgPool, GlobalAvgPool, DepthwiseConv2d),
)


@dataclass(frozen=True, slots=True)
class Reduction:
    """The layer `source`, as the shards that compute it give it, becomes the value `target`."""

    source: str
    reduce: Reduce
    target: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one shard does in a segment: given the values `inputs`, give the layers `outputs`."""

    shard: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    steps: tuple[Step, ...]
    reductions: tuple[Reduction, ...]


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """Run the segments in order, starting from the graph's inputs; `outputs` says which value
    each output of the whole network is."""

    shards: tuple[Submodel, ...]
    segments: tuple[Segment, ...]
    outputs: Mapping[str, str]


def tensor_shards(network: Network, n: int, smallest: int = 0) -> TensorPlan:
    """Split over `n` shards; what has weights of less than `smallest` bytes does not begin a
    split. Raises `GraphError` when no layer can be split, or too many reductions would follow."""
    if n < 1:
        raise InvalidError(f"a split is over one shard or more, got {n}")
    placing = _Placing(network, n, smallest)
    if not any(placed.split for placed in placing.of.values()):
        raise GraphError(
            f"no layer can be split over {n} shards: there is no dense, conv2d or embedding layer "
            f"of {n} or more units and {smallest} bytes; split it as a pipeline, or replicate it"
        )
    values = len(network.inputs) + len(placing.reductions)
    if values > MAX_TENSORS:
        raise GraphError(
            f"the split needs {len(placing.reductions)} reductions; with its inputs a shard may "
            f"have {MAX_TENSORS} values: raise 'smallest', or split the graph as a pipeline"
        )
    return placing.plan()


def reduce_values(how: Reduce, pieces: Sequence[Array]) -> Array:
    """The whole value, from each shard's piece in order."""
    if how == "first":
        return pieces[0]
    if how == "concat":
        return np.concatenate(pieces, axis=-1)
    total = pieces[0] + pieces[1] if len(pieces) > 1 else pieces[0]
    for piece in pieces[2:]:
        total += piece
    return total


@dataclass(frozen=True, slots=True)
class _Placed:
    """A layer's segment and role. `bounds`: shard s has its channels bounds[s] to bounds[s + 1];
    () where it does not hold a share of the channels."""

    segment: int = 0
    role: Role = "replicated"
    bounds: tuple[int, ...] = ()

    @property
    def split(self) -> bool:
        return self.role != "replicated"

    @property
    def reduce(self) -> Reduce:
        if self.bounds:
            return "concat"
        return "sum" if self.role == "rows" else "first"


class _Placing:
    """Where each layer runs, decided in the order of the graph."""

    def __init__(self, network: Network, n: int, smallest: int) -> None:
        self.network, self.n, self.smallest = network, n, smallest
        self.nodes = {node.name: node for node in live_layers(network)}
        self.specs = value_specs(network)
        self.inputs = [spec.name for spec in network.inputs]
        self.of = {name: _Placed() for name in self.inputs}
        for node in self.nodes.values():
            self.of[node.name] = self._place(node)
        self.reductions = self._reductions()

    def _place(self, node: Node) -> _Placed:
        given = [self.of[source] for source in node.inputs]
        bounds = given[0].bounds
        if bounds and all(g.bounds == bounds and g.segment == given[0].segment for g in given):
            if isinstance(node.layer, _BY_ROWS):
                return _Placed(given[0].segment, "rows")
            if isinstance(node.layer, _BY_CHANNEL) or self._moves_nothing(node):
                return _Placed(given[0].segment, "local", bounds)
        segment = max(g.segment + (g.reduce != "first") for g in given)
        units = self._units(node)
        if units is None:
            return _Placed(segment)
        ends = tuple(units * shard // self.n for shard in range(self.n + 1))
        return _Placed(segment, "columns", ends)

    def _moves_nothing(self, node: Node) -> bool:
        """Whether it flattens vectors."""
        whole = self.specs[node.inputs[0]].shape
        return isinstance(node.layer, Flatten) and whole is not None and len(whole) == 1

    def _units(self, node: Node) -> int | None:
        """How many columns there are to share; None when the layer is not worth a split."""
        width = _WIDTHS.get(type(node.layer))
        if width is None:
            return None
        size = BYTES_PER_PARAMETER * sum(math.prod(p.shape) for p in node.parameters.values())
        units: int = getattr(node.layer, width)
        return units if units >= self.n and size >= self.smallest else None

    def _reads_reduced(self, node: Node, source: str) -> bool:
        return source in self.nodes and self.of[source].segment < self.of[node.name].segment

    def _reductions(self) -> dict[str, Reduction]:
        """By layer: those whose whole value a later segment reads, and the outputs."""
        crossing = dict.fromkeys(
            source
            for node in self.nodes.values()
            for source in node.inputs
            if self._reads_reduced(node, source)
        )
        crossing |= dict.fromkeys(self.network.graph.outputs)
        mark = "~"  # makes a name that no layer has
        while any(name.startswith(mark) for name in self.of):
            mark += "~"
        order = [name for name in self.nodes if name in crossing]
        return {
            name: Reduction(name, self.of[name].reduce, f"{mark}{i}")
            for i, name in enumerate(order)
        }

    def plan(self) -> TensorPlan:
        count = 1 + max(placed.segment for placed in self.of.values())
        asked = [self._asked(segment) for segment in range(count)]
        shards = tuple(self._shard(shard, asked) for shard in range(self.n))
        segments = []
        for number, outputs in enumerate(asked):
            found = tuple(r for r in self.reductions.values() if self._at(r) == number)
            steps = (self._step(shards[s], s, names) for s, names in enumerate(outputs) if names)
            segments.append(Segment(tuple(steps), found))
        ends = {name: self.reductions[name].target for name in self.network.graph.outputs}
        return TensorPlan(shards, tuple(segments), ends)

    def _at(self, reduction: Reduction) -> int:
        return self.of[reduction.source].segment

    def _asked(self, segment: int) -> list[tuple[str, ...]]:
        """Shard by shard, the layers it is to give at the end of `segment`."""
        here = [r for r in self.reductions.values() if self._at(r) == segment]
        everyone = tuple(r.source for r in here if r.reduce != "first")
        return [tuple(r.source for r in here), *[everyone] * (self.n - 1)]

    def _step(self, shard: Submodel, number: int, outputs: tuple[str, ...]) -> Step:
        read = {s for node in needed(shard.network.graph, outputs) for s in node.inputs}
        return Step(number, tuple(name for name in shard.inputs if name in read), outputs)

    def _shard(self, shard: int, asked: Sequence[Sequence[tuple[str, ...]]]) -> Submodel:
        outputs = [name for segment in asked for name in segment[shard]]
        mine = self._computed_for(outputs)
        rendered, slices = layer_specs(self.network), dict[str, Slice]()
        layers = []
        for node in mine:
            sources = [self._source(node, source) for source in node.inputs]
            own = self._options(node, shard) | {"inputs": sources}
            layers.append({**rendered[node.name], **own})
            slices |= self._slices(node, shard)
        read = dict.fromkeys(source for layer in layers for source in layer["inputs"])
        spec = {"inputs": self._declared(read), "layers": layers, "outputs": outputs}
        return Submodel.of(spec, slices)

    def _computed_for(self, outputs: Sequence[str]) -> list[Node]:
        """The layers `outputs` depend on within their segments, in order."""
        wanted, found = set(outputs), []
        for node in reversed(self.nodes.values()):
            if node.name in wanted:
                found.append(node)
                wanted.update(s for s in node.inputs if not self._reads_reduced(node, s))
        return found[::-1]

    def _source(self, node: Node, source: str) -> str:
        reduced = self._reads_reduced(node, source)
        return self.reductions[source].target if reduced else source

    def _declared(self, read: Mapping[str, None]) -> list[dict[str, Any]]:
        whole = input_specs(self.specs, [name for name in self.inputs if name in read])
        reduced = [r for r in self.reductions.values() if r.target in read]
        described = input_specs(self.specs, [r.source for r in reduced])
        named = [d | {"name": r.target} for d, r in zip(described, reduced, strict=True)]
        return whole + named

    def _options(self, node: Node, shard: int) -> dict[str, Any]:
        """What a shard's layer has otherwise than the whole one."""
        placed, layer = self.of[node.name], node.layer
        if placed.role == "rows":  # the bias must be added once
            return {"use_bias": False} if shard else {}
        if not placed.bounds:
            return {}
        start, stop = placed.bounds[shard], placed.bounds[shard + 1]
        if placed.role == "columns":
            return {_WIDTHS[type(layer)]: stop - start}
        if isinstance(layer, Normalise):
            return {
                name: list(values[start:stop] if len(values) > 1 else values)
                for name, values in (("mean", layer.mean), ("std", layer.std))
            }
        return {}

    def _slices(self, node: Node, shard: int) -> dict[str, Slice]:
        placed = self.of[node.name]
        if placed.bounds:  # channels are the last axis of every parameter that has them
            start, stop = placed.bounds[shard], placed.bounds[shard + 1]
            shapes = {name: spec.shape for name, spec in node.parameters.items()}
            return {name: Slice(len(shape) - 1, start, stop) for name, shape in shapes.items()}
        if placed.role == "rows":
            bounds = self.of[node.inputs[0]].bounds
            name = next(iter(node.parameters))
            axis = len(node.parameters[name].shape) - 2
            return {name: Slice(axis, bounds[shard], bounds[shard + 1])}
        return {}
