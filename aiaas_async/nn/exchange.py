"""A rectifier before a max pool goes after it, where it has a quarter of the values (of windows
2x2): max(relu(a), relu(b)) = relu(max(a, b)), to the bit, and so are the gradients, since where
several of a window were equal by rectifying only, the rectifier lets none through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from aiaas_async.nn.activations import Rectifier
from aiaas_async.nn.graph import Node
from aiaas_async.nn.pooling import MaxPool


def pooled_first(nodes: Sequence[Node], outputs: Collection[str]) -> tuple[Node, ...]:
    """`nodes`, in order of computation, where each rectifier that only a max pool reads has
    changed places with it: the names stay, so the value of the first of the two is another."""
    found = {node.name: node for node in nodes}
    readers = Counter(source for node in nodes for source in node.inputs)
    for pool in nodes:
        before = found.get(pool.inputs[0])
        if (
            before is not None
            and isinstance(pool.layer, MaxPool)
            and isinstance(before.layer, Rectifier)
            and readers[before.name] == 1
            and before.name not in outputs
        ):
            found[before.name] = replace(before, layer=pool.layer, value=pool.value)
            found[pool.name] = replace(pool, layer=before.layer)
    return tuple(found.values())
