"""Layer graphs for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.split import Costs, Runs, stages
from aiaas_async.nn.submodel import Submodel

Option = dict[str, Any]


def single(op: str, size: tuple[int, ...], dtype: str = "float32", **options: Any) -> Network:
    """A network of one layer, named "layer", on an input named "x"."""
    inputs = [{"name": "x", "dtype": dtype, "shape": list(size)}]
    layers = [{"name": "layer", "op": op, **options}]
    return Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["layer"]})


def joined(op: str, shapes: tuple[tuple[int, ...], ...]) -> Network:
    """A network of one layer, named "layer", on inputs named "x0", "x1", …"""
    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [
        {"name": name, "dtype": "float32", "shape": list(shape)}
        for name, shape in zip(names, shapes, strict=True)
    ]
    layers = [{"name": "layer", "op": op, "inputs": names}]
    return Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["layer"]})


def normal(shape: tuple[int, ...], seed: int = 7) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def spec(layers: list[Option], outputs: list[str], shape: tuple[int, ...] = (4,)) -> Option:
    inputs = [{"name": "x", "dtype": "float32", "shape": list(shape)}]
    return {"inputs": inputs, "layers": layers, "outputs": outputs}


def classifier() -> Network:
    """8 x 8 x 1 bytes to one of three labels: every common kind of layer in a row."""
    layers: list[Option] = [
        {"name": "scaled", "op": "scale", "factor": 0.0625},
        {"name": "conv", "op": "conv2d", "filters": 4, "kernel": [3, 3]},
        {"name": "norm", "op": "batch_norm"},
        {"name": "active", "op": "relu"},
        {"name": "small", "op": "max_pool"},
        {"name": "flat", "op": "flatten"},
        {"name": "kept", "op": "dropout", "rate": 0.25},
        {"name": "logits", "op": "dense", "units": 3},
        {"name": "label", "op": "argmax", "labels": ["a", "b", "c"]},
    ]
    inputs = [{"name": "image", "dtype": "uint8", "shape": [8, 8, 1]}]
    return Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["label", "logits"]})


def images(n: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).integers(0, 17, (n, 8, 8, 1), np.uint8)


def residual() -> Network:
    """Two branches that share a layer, joined twice, and one more that nobody reads."""
    layers: list[Option] = [
        {"name": "shared", "op": "dense", "units": 4},
        {"name": "left", "op": "relu"},
        {"name": "right", "op": "tanh", "inputs": ["shared"]},
        {"name": "sum", "op": "add", "inputs": ["left", "right", "shared"]},
        {"name": "both", "op": "concatenate", "inputs": ["sum", "left"]},
        {"name": "scores", "op": "dense", "units": 3},
        {"name": "aside", "op": "dense", "units": 2, "inputs": ["right"]},
    ]
    return Network.from_spec(spec(layers, ["scores", "aside"]))


def even(network: Network) -> Costs:
    """One second a layer."""
    return Costs({node.name: 1.0 for node in network.graph.nodes})


def cut(network: Network, costs: Costs, n: int) -> tuple[Submodel, ...]:
    """The best `n` stages there are."""
    cuts = Runs.of(network, costs).cuts(n)
    assert cuts is not None
    return stages(network, cuts)
