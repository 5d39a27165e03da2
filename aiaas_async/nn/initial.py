"""How parameters start.

A weight whose layer feeds a rectifier (relu, relu6, silu, gelu; directly or through a
normalisation) is drawn as He et al. (2015) do, normal with variance 2 / fan_in; any other as
Glorot and Bengio (2010) do, uniform with variance 2 / (fan_in + fan_out). Embeddings are normal
with standard deviation 0.02; biases start at zero, scales and running variances at one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aiaas_async.nn.activations import Gelu, Relu, Relu6, Silu
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Array, ParameterSpec
from aiaas_async.nn.normalisation import BatchNorm, LayerNorm

_RECTIFIERS = (Relu, Relu6, Silu, Gelu)
_NORMS = (BatchNorm, LayerNorm)


def feeds(nodes: Sequence[Node], name: str) -> list[Node]:
    """The nodes that read the value `name`."""
    return [node for node in nodes if name in node.inputs]


def feeds_rectifier(nodes: Sequence[Node], name: str) -> bool:
    for node in feeds(nodes, name):
        if isinstance(node.layer, _RECTIFIERS):
            return True
        if isinstance(node.layer, _NORMS) and feeds_rectifier(nodes, node.name):
            return True
    return False


def draw(spec: ParameterSpec, rectified: bool, rng: np.random.Generator) -> Array:
    """One parameter's first value, float64."""
    if spec.init in ("zeros", "ones"):
        return np.full(spec.shape, float(spec.init == "ones"))
    if spec.init == "normal":
        return rng.normal(0.0, 0.02, spec.shape)
    fan_in, fan_out = spec.fans
    if rectified:
        return rng.normal(0.0, math.sqrt(2.0 / fan_in), spec.shape)
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, spec.shape)
