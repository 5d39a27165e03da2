"""Weights laid out for the BLAS at hand, once, at load, for predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import numpy as np

from aiaas_async.nn.dense import Dense
from aiaas_async.nn.folding import folded_parameters
from aiaas_async.nn.graph import Graph
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network, Params
from aiaas_async.nn.panelled import fits, panelled, pays


def laid_out(network: Network, params: Mapping[str, Array]) -> Params:
    """The same parameters, the weights of dense layers as panels where that is faster; `network`
    predicts with them as with the others, and has no gradients."""
    chosen = _chosen(network.graph)
    return {
        name: panelled(array) if name in chosen and array.dtype == np.float32 else array
        for name, array in params.items()
    }


def laid_out_count(graph: Graph, kept: Collection[str]) -> int:
    """How many numbers `laid_out` adds where the parameters `kept` stay in memory beside it; what
    folding makes anew does not stay."""
    folded = folded_parameters(graph)
    return sum(
        prod(shape)
        for name, shape in _chosen(graph).items()
        if name in kept and name.rpartition(".")[0] not in folded
    )


def _chosen(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The weights that are laid out, and their shapes."""
    if not pays():
        return {}
    dense = [node for node in graph.nodes if isinstance(node.layer, Dense)]
    weights = [next(iter(node.parameters.items())) for node in dense]
    return {name: spec.shape for name, spec in weights if fits(spec.shape)}
