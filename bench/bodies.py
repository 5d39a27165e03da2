"""The models and requests of the serving figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiaas_async.wire.codecs import JSON, MSGPACK

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """A model: its graph, the parameters to draw, one item, and the same by hand in numpy."""

    graph: dict[str, Any]
    weights: Mapping[str, tuple[int, ...]]
    shape: tuple[int, ...]
    compute: Callable[[Arrays, Any], Any]

    def draw(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        return {
            name: (rng.standard_normal(shape) * 0.05).astype(np.float32)
            for name, shape in self.weights.items()
        }

    def body(self, encoding: str, name: str) -> bytes:
        """A call of one item, as the clients send it."""
        x = np.random.default_rng(1).standard_normal(self.shape).astype(np.float32)
        call = {"model": name, "inputs": {"x": x}}
        return MSGPACK.encode(call) if encoding == "msgpack" else JSON.encode(call)


def graph(shape: tuple[int, ...], *layers: dict[str, Any]) -> dict[str, Any]:
    inputs = [{"name": "x", "dtype": "float32", "shape": list(shape)}]
    return {"inputs": inputs, "layers": list(layers), "outputs": ["y"]}


def _mlp(w: Arrays, x: Any) -> Any:
    hidden = x @ w["h.weight"] + w["h.bias"]
    np.maximum(hidden, 0, out=hidden)
    return hidden @ w["y.weight"] + w["y.bias"]


def _means(_: Arrays, x: Any) -> Any:
    return x.mean(axis=(1, 2))


MODELS = {
    "small": Served(
        graph(
            (784,),
            {"name": "h", "op": "dense", "units": 256},
            {"name": "r", "op": "relu"},
            {"name": "y", "op": "dense", "units": 10},
        ),
        {"h.weight": (784, 256), "h.bias": (256,), "y.weight": (256, 10), "y.bias": (10,)},
        (784,),
        _mlp,
    ),
    "image": Served(
        graph((3, 224, 224), {"name": "y", "op": "global_avg_pool"}),
        {},
        (3, 224, 224),
        _means,
    ),
}
