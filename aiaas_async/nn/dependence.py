"""What a gradient has to reach: values that depend on trainable parameters, or on the inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.layer import FLOAT


@dataclass(frozen=True, slots=True)
class Dependence:
    trained: frozenset[str]  # on a trainable parameter
    fed: frozenset[str]  # differentiably, on a graph input


def dependence(graph: Graph) -> Dependence:
    trained: set[str] = set()
    fed = {spec.name for spec in graph.inputs}
    for node in graph.nodes:
        if not node.layer.DIFFERENTIABLE:
            continue
        if trainable(node) or trained.intersection(node.inputs):
            trained.add(node.name)
        if fed.intersection(node.inputs) and FLOAT in node.layer.TAKES:
            fed.add(node.name)
    return Dependence(frozenset(trained), frozenset(fed))


def trainable(node: Node) -> list[str]:
    """The node's parameters that have gradients."""
    return [name for name, spec in node.parameters.items() if spec.trainable]


def needed(graph: Graph, outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes the outputs depend on, in order."""
    wanted, found = set(outputs), []
    for node in reversed(graph.nodes):
        if node.name in wanted:
            found.append(node)
            wanted.update(node.inputs)
    return tuple(found[::-1])
