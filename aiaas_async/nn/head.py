"""Where a network is trained: its last differentiable output, and the loss that suits it."""

from __future__ import annotations

from aiaas_async.errors import GraphError
from aiaas_async.nn.activations import Sigmoid, Softmax
from aiaas_async.nn.graph import Graph, Node
from aiaas_async.nn.initial import feeds
from aiaas_async.nn.layer import FLOAT
from aiaas_async.nn.network import Network
from aiaas_async.nn.processing import Argmax

_DECIDING = (Argmax, Softmax, Sigmoid)


def training_head(network: Network) -> tuple[str, str]:
    """(layer to compare with the targets, name of the loss).

    The layer is the last output that is no argmax, softmax or sigmoid; when all outputs are,
    what the last of them decides upon. The loss follows from what that layer feeds: argmax or
    softmax: cross_entropy, sigmoid: binary_cross_entropy, else mse.
    Raises `GraphError` when no gradient can reach that layer.
    """
    graph = network.graph
    nodes = {node.name: node for node in graph.nodes}
    ends = [_before_decision(nodes, name) for name in graph.outputs]
    plain = [name for name, end in zip(graph.outputs, ends, strict=True) if name == end]
    head = (plain or ends)[-1]
    if head not in nodes or nodes[head].value.kind != FLOAT:
        raise GraphError(f"no output can be trained: {head!r} is not computed by a float layer")
    return head, _loss_for(graph, head)


def _before_decision(nodes: dict[str, Node], name: str) -> str:
    while name in nodes and isinstance(nodes[name].layer, _DECIDING):
        name = nodes[name].inputs[0]
    return name


def _loss_for(graph: Graph, head: str) -> str:
    fed = [node.layer for node in feeds(graph.nodes, head)]
    if any(isinstance(layer, Argmax | Softmax) for layer in fed):
        return "cross_entropy"
    return "binary_cross_entropy" if any(isinstance(each, Sigmoid) for each in fed) else "mse"
