"""The way back through a graph, worked out once for each choice of outputs and gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aiaas_async.nn.dependence import Dependence, trainable
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Need


@dataclass(frozen=True, slots=True)
class Back:
    """One layer's backward pass. `gradients` are the parameters whose gradients it gives."""

    node: Node
    need: Need
    gradients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descent:
    """Layers from the last to the first, and the `trained` parameters that want a gradient."""

    steps: tuple[Back, ...]
    trained: tuple[str, ...]


def descent(
    nodes: Iterable[Node], reach: Dependence, trained: Collection[str], need: Need
) -> Descent:
    """The way back through `nodes`, which are in order of computation, to what is in `need`:
    graph inputs, and the parameters `trained`. Layers that lead to none of them are left out."""
    steps = []
    for node in nodes:
        own = need.parameters and not set(trainable(node)).isdisjoint(trained)
        on = any(
            (need.inputs and source in reach.fed) or (need.parameters and source in reach.trained)
            for source in node.inputs
        )
        if on or own:
            steps.append(Back(node, Need(on, own), tuple(trainable(node) if own else ())))
    return Descent(tuple(steps[::-1]), tuple(trained) if need.parameters else ())
