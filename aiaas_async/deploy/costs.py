"""What a layer costs: multiply-adds and bytes from its shapes, seconds by rates or as measured.

A product takes the time of its multiply-adds plus that of reading its weights once: for dense
layers of 4096 units on one core that is within a third of what was measured from batch 1 to 128,
and up to twice of it where weights are laid out for the processor (`nn/panelled.py`).
All else is taken to move its values through memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiaas_async.nn.attention import Attention
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Layer
from aiaas_async.nn.network import Network
from aiaas_async.nn.split import live_layers, spec_bytes
from aiaas_async.nn.submodel import BYTES_PER_PARAMETER, value_specs
from aiaas_async.nn.table import NAMES

# Multiply-adds a second of one core (Zen 3, numpy with OpenBLAS).
_MACS_PER_S: Final[dict[type[Layer], float]] = {
    Dense: 36e9,
    Conv2d: 18e9,
    DepthwiseConv2d: 5e9,
    Attention: 36e9,
}
_WEIGHT_BYTES_PER_S: Final = 24e9
_VALUE_BYTES_PER_S: Final = 6e9
# A job to a worker and back, and each byte of its arrays on the way: laid, read, laid, copied.
HOP_S: Final = 250e-6
HOP_BYTES_PER_S: Final = 2.5e9


@dataclass(frozen=True, slots=True)
class LayerCost:
    """`macs` and `value_bytes` (of its output) are per item, `seconds` for a batch."""

    layer: str
    op: str
    macs: int
    nbytes: int
    value_bytes: int
    seconds: float


def estimate_costs(
    network: Network, batch: int = 32, measured: Mapping[str, float] | None = None
) -> tuple[LayerCost, ...]:
    """The costs of the layers that the outputs depend on, in order.

    `measured` are seconds for such a batch by layer; they take the place of estimates.
    """
    sizes = {name: spec_bytes(spec) for name, spec in value_specs(network).items()}
    known = measured or {}
    return tuple(_cost(node, sizes, batch, known) for node in live_layers(network))


def hop_seconds(nbytes: float) -> float:
    """What a job to a worker and back takes beside its compute, with `nbytes` of arrays."""
    return HOP_S + nbytes / HOP_BYTES_PER_S


def _cost(
    node: Node, sizes: Mapping[str, int], batch: int, measured: Mapping[str, float]
) -> LayerCost:
    nbytes = BYTES_PER_PARAMETER * sum(math.prod(p.shape) for p in node.parameters.values())
    moved = sizes[node.name] + sum(sizes[source] for source in node.inputs)
    macs, rate = 0, _MACS_PER_S.get(type(node.layer))
    seconds = batch * moved / _VALUE_BYTES_PER_S
    if rate is not None:
        macs = _macs(node)
        seconds = batch * macs / rate + nbytes / _WEIGHT_BYTES_PER_S
    seconds = measured.get(node.name, seconds)
    return LayerCost(node.name, NAMES[type(node.layer)], macs, nbytes, sizes[node.name], seconds)


def _macs(node: Node) -> int:
    """Multiply-adds for one item; a length that is open (-1) counts as one."""
    # A weight meets each position of the output once: 1 for vectors, pixels for images.
    positions = math.prod(max(1, size) for size in node.value.shape[:-1])
    shapes = (spec.shape for spec in node.parameters.values())
    found = positions * sum(math.prod(shape) for shape in shapes if len(shape) > 1)
    if isinstance(node.layer, Attention):  # scores, and values by them
        found += 2 * positions**2 * node.layer.heads * node.layer.size(node.value.shape[-1])
    return found
