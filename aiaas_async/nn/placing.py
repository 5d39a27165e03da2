"""Where each layer of a tensor split runs: its segment, and what a shard holds of it.

Decided greedily in the order of the graph. A layer with columns to share begins a split; what
works channel by channel, and the next layer that can take its input in pieces, stay in the same
segment. Any other layer reads whole values, from the segment after the one that made them in
pieces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from aiaas_async.nn.activations import Gelu, Relu, Relu6, Sigmoid, Silu, Tanh
from aiaas_async.nn.attention import Attention
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.dense import Dense, Embedding
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Layer
from aiaas_async.nn.network import Network
from aiaas_async.nn.normalisation import BatchNorm, Dropout
from aiaas_async.nn.pooling import AvgPool, GlobalAvgPool, MaxPool
from aiaas_async.nn.processing import Normalise, Scale
from aiaas_async.nn.split import live_layers
from aiaas_async.nn.structure import Add, Flatten
from aiaas_async.nn.submodel import BYTES_PER_PARAMETER, value_specs

Reduce = Literal["sum", "concat", "first"]
Role = Literal["replicated", "columns", "rows", "local", "heads"]

# What a layer has to share: columns of its output, or heads, which give partial sums of it.
WIDTHS: Final[dict[type[Layer], str]] = {
    Dense: "units",
    Conv2d: "filters",
    Embedding: "units",
    Attention: "heads",
}
_BY_ROWS: Final = (Dense, Conv2d)
_BY_CHANNEL: Final = (
    *(Relu, Relu6, Sigmoid, Tanh, Silu, Gelu, Dropout, Scale, Normalise, Add, BatchNorm),
    *(MaxPool, AvgPool, GlobalAvgPool, DepthwiseConv2d),
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A layer's segment and role. `bounds`: shard s gives its channels bounds[s] to bounds[s + 1];
    () where it does not give a share of the channels. `heads` likewise, of an attention layer."""

    segment: int = 0
    role: Role = "replicated"
    bounds: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()

    @property
    def split(self) -> bool:
        return self.role != "replicated"

    @property
    def reduce(self) -> Reduce:
        if self.bounds:
            return "concat"
        return "sum" if self.role in ("rows", "heads") else "first"


class Placing:
    """Where each layer runs, decided in the order of the graph."""

    def __init__(self, network: Network, n: int, smallest: int) -> None:
        self.network, self.n, self.smallest = network, n, smallest
        self.nodes = {node.name: node for node in live_layers(network)}
        self.specs = value_specs(network)
        self.inputs = [spec.name for spec in network.inputs]
        self.of = {name: Placed() for name in self.inputs}
        for node in self.nodes.values():
            self.of[node.name] = self._place(node)

    def _place(self, node: Node) -> Placed:
        given = [self.of[source] for source in node.inputs]
        bounds = given[0].bounds
        if bounds and all(g.bounds == bounds and g.segment == given[0].segment for g in given):
            if isinstance(node.layer, _BY_ROWS):
                return Placed(given[0].segment, "rows")
            if isinstance(node.layer, _BY_CHANNEL) or self._moves_nothing(node):
                return Placed(given[0].segment, "local", bounds)
        segment = max(g.segment + (g.reduce != "first") for g in given)
        units = self._units(node)
        if units is None:
            return Placed(segment)
        ends = tuple(units * shard // self.n for shard in range(self.n + 1))
        if isinstance(node.layer, Attention):
            return Placed(segment, "heads", heads=ends)
        return Placed(segment, "columns", ends)

    def _moves_nothing(self, node: Node) -> bool:
        """Whether it flattens vectors."""
        whole = self.specs[node.inputs[0]].shape
        return isinstance(node.layer, Flatten) and whole is not None and len(whole) == 1

    def _units(self, node: Node) -> int | None:
        """How many columns or heads there are to share; None when it is not worth a split."""
        width = WIDTHS.get(type(node.layer))
        if width is None:
            return None
        size = BYTES_PER_PARAMETER * sum(math.prod(p.shape) for p in node.parameters.values())
        units: int = getattr(node.layer, width)
        return units if units >= self.n and size >= self.smallest else None

    def reads_reduced(self, node: Node, source: str) -> bool:
        """Whether `node` takes the whole of what an earlier segment made."""
        return source in self.nodes and self.of[source].segment < self.of[node.name].segment

    def crossing(self) -> list[str]:
        """The layers whose whole values are needed: by a later segment, or as outputs."""
        wanted = set(self.network.graph.outputs)
        for node in self.nodes.values():
            wanted.update(source for source in node.inputs if self.reads_reduced(node, source))
        return [name for name in self.nodes if name in wanted]
