"""What a gradient has to reach: values that depend on trainable parameters, or on the inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aiaas_async.errors import GraphError
from aiaas_async.names import clip
from aiaas_async.nn.graph import Graph, Node, near
from aiaas_async.nn.layer import FLOAT


@dataclass(frozen=True, slots=True)
class Dependence:
    trained: frozenset[str]  # on a trainable parameter
    fed: frozenset[str]  # differentiably, on a graph input


def dependence(graph: Graph, frozen: Collection[str] = ()) -> Dependence:
    """`frozen`: trainable parameters that are left as they are."""
    trained: set[str] = set()
    fed = {spec.name for spec in graph.inputs}
    for node in graph.nodes:
        if not node.layer.DIFFERENTIABLE:
            continue
        if set(trainable(node)).difference(frozen) or trained.intersection(node.inputs):
            trained.add(node.name)
        if fed.intersection(node.inputs) and FLOAT in node.layer.TAKES:
            fed.add(node.name)
    return Dependence(frozenset(trained), frozenset(fed))


def trainable(node: Node) -> list[str]:
    """The node's parameters that have gradients."""
    return [name for name, spec in node.parameters.items() if spec.trainable]


def chosen_parameters(graph: Graph, patterns: Iterable[str]) -> frozenset[str]:
    """The trainable parameters whose name, or whose layer's name, a pattern fits.

    Raises `GraphError` for a pattern that fits none.
    """
    owners = {name: node.name for node in graph.nodes for name in trainable(node)}
    found: set[str] = set()
    for pattern in patterns:
        fits = {
            name
            for name, owner in owners.items()
            if fnmatchcase(name, pattern) or fnmatchcase(owner, pattern)
        }
        if not fits:
            known = {*owners, *owners.values()}
            raise GraphError(f"no trainable parameter fits {clip(pattern)}{near(pattern, known)}")
        found |= fits
    return frozenset(found)


def needed(graph: Graph, outputs: Iterable[str]) -> tuple[Node, ...]:
    """The nodes the outputs depend on, in order."""
    wanted, found = set(outputs), []
    for node in reversed(graph.nodes):
        if node.name in wanted:
            found.append(node)
            wanted.update(node.inputs)
    return tuple(found[::-1])
