"""Weights laid out for the BLAS at hand, once, for predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod

from aiaas_async.nn.blas import takes_as_it_lies
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.folding import folded_parameters
from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.layer import Array, Shape
from aiaas_async.nn.network import Network, Params
from aiaas_async.nn.panelled import as_panels, fits


def use_panels(
    network: Network, params: Params, shared: Mapping[str, Array], left: Collection[str] = ()
) -> None:
    """Put panels in the place of the weights of dense layers in `params`, where that is faster:
    `network` predicts with them as with the others, and has no gradients. Panels in `shared` are
    taken, those of others are made, but for those `left` as they are."""
    for name in _faster(network.graph.nodes):
        if name in shared:
            params[name] = shared[name]
        elif name not in left:
            params[name] = as_panels(params[name]).copy()


def shareable(network: Network) -> Collection[str]:
    """The weights of which `use_panels` takes panels that others made."""
    return _faster(_unfolded(network.graph))


def panel_count(graph: Graph, kept: Collection[str]) -> int:
    """How many numbers `use_panels` adds at most where the parameters `kept` stay in memory beside
    it: on whatever machine, since versions move from one to another."""
    chosen = _chosen(_unfolded(graph))
    return sum(prod(shape) for name, shape in chosen.items() if name in kept)


def _unfolded(graph: Graph) -> list[Node]:
    """The layers whose weights folding leaves alone."""
    folded = folded_parameters(graph)
    return [node for node in graph.nodes if node.name not in folded]


def _faster(nodes: Iterable[Node]) -> Collection[str]:
    """The weights to lay out on this machine."""
    chosen = _chosen(nodes)
    return chosen if chosen and takes_as_it_lies() else ()


def _chosen(nodes: Iterable[Node]) -> dict[str, Shape]:
    """The weights that panels are for, and their shapes."""
    dense = [node for node in nodes if isinstance(node.layer, Dense)]
    weights = [next(iter(node.parameters.items())) for node in dense]
    return {name: spec.shape for name, spec in weights if fits(spec.shape)}
