"""Weights laid out for the BLAS at hand, once, for predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import numpy as np

from aiaas_async.nn.dense import Dense
from aiaas_async.nn.folding import folded_parameters
from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.layer import Array, Shape
from aiaas_async.nn.network import Network, Params
from aiaas_async.nn.panelled import fits, in_panels, pays


def laid_out(
    network: Network,
    params: Mapping[str, Array],
    shared: Mapping[str, Array] | None = None,
    left: Collection[str] = (),
) -> Params:
    """The same parameters, with the weights of dense layers as panels where that is faster:
    `network` predicts with them as with the others, and has no gradients. Panels in `shared` are
    taken, those of others are made, but for those `left` as they are."""
    chosen, found = _chosen(network.graph.nodes), dict(params)
    for name, array in params.items():
        if name not in chosen or array.dtype != np.float32:
            continue
        if shared and name in shared:
            found[name] = shared[name]
        elif name not in left:
            found[name] = in_panels(array).copy()
    return found


def shareable(network: Network, params: Mapping[str, Array]) -> Params:
    """The weights that `laid_out` takes from others, as views in the order of panels: all but
    those that folding makes anew."""
    return {name: in_panels(params[name]) for name in _lasting(network.graph)}


def laid_out_count(graph: Graph, kept: Collection[str]) -> int:
    """How many numbers `laid_out` adds where the parameters `kept` stay in memory beside it."""
    return sum(prod(shape) for name, shape in _lasting(graph).items() if name in kept)


def _lasting(graph: Graph) -> dict[str, Shape]:
    """The weights to lay out that folding leaves alone."""
    folded = folded_parameters(graph)
    return _chosen([node for node in graph.nodes if node.name not in folded])


def _chosen(nodes: Collection[Node]) -> dict[str, Shape]:
    """The weights to lay out, and their shapes."""
    if not pays():
        return {}
    dense = [node for node in nodes if isinstance(node.layer, Dense)]
    weights = [next(iter(node.parameters.items())) for node in dense]
    return {name: spec.shape for name, spec in weights if fits(spec.shape)}
