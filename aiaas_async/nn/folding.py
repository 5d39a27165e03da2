"""Batch norm folded away for predictions: into the linear layer before it, once, at load.

With running statistics it is y = x a + b per channel (Jacob et al. 2018, section 3.2), and the
layers that come before it have their output channels as the last axis of every parameter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.graph import Graph, Node, render_graph
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network, Params
from aiaas_async.nn.normalisation import BatchNorm

_LINEAR = (Conv2d, Dense, DepthwiseConv2d)


def foldable(graph: Graph) -> dict[str, str]:
    """batch_norm → the layer before it, which nobody else reads."""
    nodes = {node.name: node for node in graph.nodes}
    uses = Counter(source for node in graph.nodes for source in node.inputs)
    uses.update(graph.outputs)
    return {
        node.name: node.inputs[0]
        for node in graph.nodes
        if isinstance(node.layer, BatchNorm)
        and node.inputs[0] in nodes
        and isinstance(nodes[node.inputs[0]].layer, _LINEAR)
        and uses[node.inputs[0]] == 1
    }


def folded_count(graph: Graph) -> int:
    """How many parameters `folded` makes anew."""
    nodes, pairs = {node.name: node for node in graph.nodes}, foldable(graph)
    return sum(_made(nodes[linear]) for linear in pairs.values())


def folded(network: Network, params: Mapping[str, Array]) -> tuple[Network, Params]:
    """A network that predicts the same, and its parameters; those of other layers are the same
    arrays. A layer and the batch_norm after it become one, with the name of the latter."""
    pairs = foldable(network.graph)
    if not pairs:
        return network, dict(params)
    after = {linear: norm for norm, linear in pairs.items()}
    nodes = {node.name: node for node in network.graph.nodes}
    layers: list[dict[str, Any]] = []
    found: Params = {}
    for raw, node in zip(render_graph(network.graph)["layers"], network.graph.nodes, strict=True):
        if node.name in pairs:
            continue
        given = raw | {"inputs": list(node.inputs)}
        if node.name not in after:
            layers.append(given)
            found |= {name: params[name] for name in node.parameters}
            continue
        norm = nodes[after[node.name]]
        layers.append(given | {"name": norm.name, "use_bias": True})
        found |= _merged(node, norm, params)
    return Network.from_spec(network.to_spec() | {"layers": layers}), found


def _merged(linear: Node, norm: Node, params: Mapping[str, Array]) -> Params:
    assert isinstance(norm.layer, BatchNorm)
    weight, *bias = (params[name] for name in linear.parameters)
    gain, offset, mean, variance = (params[name] for name in norm.parameters)
    scale = gain / np.sqrt(variance + norm.layer.epsilon)
    before = bias[0] - mean if bias else -mean
    return {
        f"{norm.name}.weight": (weight * scale).astype(weight.dtype, copy=False),
        f"{norm.name}.bias": (before * scale + offset).astype(weight.dtype, copy=False),
    }


def _made(linear: Node) -> int:
    weight = next(iter(linear.parameters.values())).shape
    return math.prod(weight) + weight[-1]
