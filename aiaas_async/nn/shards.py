"""Tensor parallelism: each shard holds a share of every large layer, and all work on each item.

As Shoeybi et al. (2019, "Megatron-LM") split a transformer's feed-forward block: a dense layer on
a whole input is split by columns, which leaves its output split; what works on each channel
alone stays where it is; a dense layer on a split input is split by rows, which leaves partial
sums. Where a whole value is needed the shards' pieces are reduced: partial sums added, columns
concatenated. Convolutions are split alike, by filters and by input channels, embeddings by
columns. Attention is both at once: a shard has some of the heads, the columns that make their
queries, keys and values, and the rows that take them back. All other layers are replicated.

Reductions cut the graph into segments, run one after the other by all shards, or by the first
alone when nothing in a segment is split. A row slice of a dense weight lies in one piece in the
file and is mapped; every other slice is copied once, at load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.messages import MAX_TENSORS
from aiaas_async.nn.attention import Attention
from aiaas_async.nn.dependence import needed
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.placing import WIDTHS, Placing, Reduce
from aiaas_async.nn.processing import Normalise
from aiaas_async.nn.submodel import Slice, Submodel, input_specs, layer_specs


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
    placing = Placing(network, n, smallest)
    if not any(placed.split for placed in placing.of.values()):
        raise GraphError(
            f"no layer can be split over {n} shards: there is no dense, conv2d, embedding or "
            f"attention layer of {n} or more units (or heads) and {smallest} bytes; split it as a "
            "pipeline, or replicate it"
        )
    shards = _Shards(placing)
    if len(network.inputs) + len(shards.reductions) > MAX_TENSORS:
        raise GraphError(
            f"the split needs {len(shards.reductions)} reductions; with its inputs a shard may "
            f"have {MAX_TENSORS} values; split it as a pipeline"
        )
    return shards.plan()


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


class _Shards:
    """The shards' graphs, and the order in which they are run."""

    def __init__(self, placing: Placing) -> None:
        self.placing, self.network, self.of = placing, placing.network, placing.of
        mark = "~"  # makes a name that no layer has
        while any(name.startswith(mark) for name in self.of):
            mark += "~"
        self.reductions = {
            name: Reduction(name, self.of[name].reduce, f"{mark}{i}")
            for i, name in enumerate(placing.crossing())
        }

    def plan(self) -> TensorPlan:
        count = 1 + max(placed.segment for placed in self.of.values())
        asked = [self._asked(segment) for segment in range(count)]
        shards = tuple(self._shard(shard, asked) for shard in range(self.placing.n))
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
        return [tuple(r.source for r in here), *[everyone] * (self.placing.n - 1)]

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
        for node in reversed(self.placing.nodes.values()):
            if node.name in wanted:
                found.append(node)
                wanted.update(s for s in node.inputs if not self.placing.reads_reduced(node, s))
        return found[::-1]

    def _source(self, node: Node, source: str) -> str:
        reduced = self.placing.reads_reduced(node, source)
        return self.reductions[source].target if reduced else source

    def _declared(self, read: Mapping[str, None]) -> list[dict[str, Any]]:
        whole = input_specs(
            self.placing.specs, [name for name in self.placing.inputs if name in read]
        )
        reduced = [r for r in self.reductions.values() if r.target in read]
        described = input_specs(self.placing.specs, [r.source for r in reduced])
        named = [d | {"name": r.target} for d, r in zip(described, reduced, strict=True)]
        return whole + named

    def _options(self, node: Node, shard: int) -> dict[str, Any]:
        """What a shard's layer has otherwise than the whole one."""
        placed, layer = self.of[node.name], node.layer
        if placed.role == "rows":  # the bias must be added once
            return {"use_bias": False} if shard else {}
        if isinstance(layer, Attention) and placed.heads:
            own = {"heads": placed.heads[shard + 1] - placed.heads[shard]}
            own |= {"head_size": self._head_size(node)}
            return own | ({"out_bias": False} if shard else {})
        if not placed.bounds:
            return {}
        start, stop = placed.bounds[shard], placed.bounds[shard + 1]
        if placed.role == "columns":
            return {WIDTHS[type(layer)]: stop - start}
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
        if placed.heads:
            return self._heads(node, *(self._head_size(node) * h for h in placed.heads[shard:][:2]))
        if placed.role == "rows":
            bounds = self.of[node.inputs[0]].bounds
            name = next(iter(node.parameters))
            axis = len(node.parameters[name].shape) - 2
            return {name: Slice(axis, bounds[shard], bounds[shard + 1])}
        return {}

    def _head_size(self, node: Node) -> int:
        assert isinstance(node.layer, Attention)
        return node.layer.size(node.value.shape[-1])

    def _heads(self, node: Node, start: int, stop: int) -> dict[str, Slice]:
        """Numbers `start` to `stop` of the width: columns of what goes in, rows of what comes out;
        the last bias belongs to the sum."""
        of = {
            "qkv_weight": Slice(1, start, stop, 3),
            "qkv_bias": Slice(0, start, stop, 3),
            "out_weight": Slice(0, start, stop),
        }
        names = {f"{node.name}.{local}": cut for local, cut in of.items()}
        return {name: cut for name, cut in names.items() if name in node.parameters}
