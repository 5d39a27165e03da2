"""Inverted residual blocks of a graph made one step each (`bottleneck.py`), for predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from aiaas_async.nn.bottleneck import WHOLE_BYTES, Block, Stage
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.depthwise import RUN, DepthwiseConv2d
from aiaas_async.nn.folding import folded_parameters
from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.layer import Array, Layer, Mode, Shape
from aiaas_async.nn.network import Network, Params
from aiaas_async.nn.product import LANES, panels

BYTES_PER_NUMBER: Final = 4


class Bottleneck(Layer, frozen=True, kw_only=True):
    """A `Block` as a layer of a network that only predicts."""

    block: Block

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        return self.block.shape

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        out = np.empty((len(xs[0]), *self.block.shape), self.block.dtype)
        for x, y in zip(xs[0], out, strict=True):
            self.block.compute(x, y)
        return out, None


@dataclass(frozen=True, slots=True)
class Chain:
    """The layers of a block in order, each read by the next one alone; it may have no
    expansion, which ends with an activation."""

    expansion: Node | None
    first: Node | None
    filters: Node
    second: Node
    projection: Node

    @property
    def inside(self) -> tuple[str, ...]:
        nodes = (self.expansion, self.first, self.filters, self.second)
        return tuple(node.name for node in nodes if node is not None)

    @property
    def source(self) -> str:
        return (self.expansion or self.filters).inputs[0]


def chains(graph: Graph) -> list[Chain]:
    """The blocks of a graph, of images of a known size."""
    nodes = {node.name: node for node in graph.nodes}
    uses = Counter(source for node in graph.nodes for source in node.inputs)
    uses.update(graph.outputs)
    found = []
    for projection in graph.nodes:
        way = [projection]
        while len(way) < 5 and uses[way[0].inputs[0]] == 1 and way[0].inputs[0] in nodes:
            way.insert(0, nodes[way[0].inputs[0]])
        if len(way) >= 3 and _filters(*way[-3:]):
            expands = len(way) == 5 and _pointwise(way[0]) and way[1].layer.APPLIES
            found.append(Chain(*(way[:2] if expands else (None, None)), *way[-3:]))
    return found


def fused_count(graph: Graph) -> int:
    """How many numbers `fused` keeps at most besides those that folding makes: weights in
    another order, those that einsum reads repeated, and the blocks' memory."""
    filters = [node for node in graph.nodes if isinstance(node.layer, DepthwiseConv2d)]
    if not filters:
        return 0
    folded = folded_parameters(graph)
    found = WHOLE_BYTES // BYTES_PER_NUMBER
    for node in graph.nodes:
        weight = next(iter(node.parameters.values())).shape if node.parameters else ()
        if node in filters:
            found += weight[0] * weight[1] * max(RUN, weight[2])
        elif _pointwise(node) and node.name not in folded:
            found += prod(weight)
    return found


def fused(network: Network, params: Mapping[str, Array]) -> tuple[Network, Params]:
    """A network that predicts the same, one call at a time, its blocks of one layer each, named
    as the last of them; and the parameters of the others."""
    made = {chain.projection.name: chain for chain in chains(network.graph)}
    if not made:
        return network, dict(params)
    shapes = {spec.name: spec.shape or () for spec in network.inputs}
    shapes |= {node.name: node.value.shape for node in network.graph.nodes}
    inside = {name for chain in made.values() for name in chain.inside}
    blocks = {name: _block(chain, shapes, params) for name, chain in made.items()}
    _share_memory(list(blocks.values()))
    nodes = [
        node if node.name not in made else _as_layer(made[node.name], blocks[node.name])
        for node in network.graph.nodes
        if node.name not in inside
    ]
    kept = {name: params[name] for node in nodes for name in node.parameters}
    for node in nodes:
        if _pointwise(node) and min(node.value.shape) > 0:
            weight, height, width = next(iter(node.parameters)), *node.value.shape[:2]
            kept[weight] = panels(kept[weight][0, 0], height * width)
    return network.with_nodes(nodes), kept


def _block(chain: Chain, shapes: Mapping[str, Shape], params: Mapping[str, Array]) -> Block:
    layer = chain.filters.layer
    assert isinstance(layer, DepthwiseConv2d)

    def stage(node: Node) -> Stage:
        return Stage(*(params[name] for name in node.parameters))

    expansion = None if chain.expansion is None else stage(chain.expansion)
    first = None if chain.first is None else chain.first.layer.apply
    stages = expansion, stage(chain.filters), stage(chain.projection)
    return Block(layer, shapes[chain.source], stages, (first, chain.second.layer.apply))


def _share_memory(blocks: list[Block]) -> None:
    """They run one after another: what one leaves in the cache is overwritten by the next."""
    most = max(block.elements for block in blocks)
    memory = np.empty(most + LANES, blocks[0].dtype)
    begin = -memory.ctypes.data // memory.itemsize % LANES  # where a line of the cache begins
    for block in blocks:
        block.use(memory[begin:])


def _as_layer(chain: Chain, block: Block) -> Node:
    """It keeps its last bias by name: a pass computes in the dtype of the parameters."""
    node, inputs = chain.projection, (chain.source,)
    bias = {name: spec for name, spec in node.parameters.items() if len(spec.shape) == 1}
    return replace(node, layer=Bottleneck(block=block), inputs=inputs, parameters=bias)


def _filters(filters: Node, second: Node, projection: Node) -> bool:
    """Whether these are the layers of a block after its expansion."""
    layer = filters.layer
    return (
        isinstance(layer, DepthwiseConv2d)
        and layer.use_bias
        and all(k >= s for k, s in zip(layer.kernel, layer.stride, strict=True))
        and min(filters.value.shape) > 0
        and second.layer.APPLIES
        and _pointwise(projection)
    )


def _pointwise(node: Node) -> bool:
    layer = node.layer
    return isinstance(layer, Conv2d) and layer.kernel == layer.stride == (1, 1) and layer.use_bias
