"""This project's numeric engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiaas_async.nn.folding import folded
from aiaas_async.nn.fusing import fused
from aiaas_async.nn.losses import cross_entropy
from aiaas_async.nn.memory import keep_freed_memory
from aiaas_async.nn.network import Network
from aiaas_async.nn.optim import Sgd
from bench.contenders import lite0
from bench.contenders.data import (
    CNN,
    MLP,
    MOMENTUM,
    RATE,
    Images,
    Labels,
    Work,
    batches,
    drawn,
    run,
)


def trainer(shapes: Mapping[str, tuple[int, ...]], layers: list[dict[str, Any]]) -> Work:
    inputs = [{"name": "image", "dtype": "float32", "shape": [28, 28, 1]}]
    network = Network.from_spec({"inputs": inputs, "layers": layers, "outputs": ["logits"]})
    params, optimizer = drawn(shapes), Sgd(momentum=MOMENTUM)
    state = optimizer.init(params)

    def train(images: Images, labels: Labels) -> float:
        nonlocal params, state
        loss = 0.0
        for at in batches(len(images)):
            inputs = {"image": images.take(at, axis=0)}
            found, cache = network.forward(params, inputs, training=True)
            loss, dy = cross_entropy(found["logits"], labels[at])
            _, grads = network.backward(
                params, cache, {"logits": dy}, wrt_inputs=False, wrt_params=True
            )
            params, state = optimizer.step(state, params, grads, RATE)
        return loss

    return train


def mlp() -> Work:
    return trainer(
        MLP,
        [
            {"name": "flat", "op": "flatten"},
            {"name": "hidden", "op": "dense", "units": 256},
            {"name": "active", "op": "relu"},
            {"name": "logits", "op": "dense", "units": 10},
        ],
    )


def cnn() -> Work:
    return trainer(
        CNN,
        [
            {"name": "conv1", "op": "conv2d", "filters": 16, "kernel": [3, 3]},
            {"name": "relu1", "op": "relu"},
            {"name": "pool1", "op": "max_pool"},
            {"name": "conv2", "op": "conv2d", "filters": 32, "kernel": [3, 3]},
            {"name": "relu2", "op": "relu"},
            {"name": "pool2", "op": "max_pool"},
            {"name": "flat", "op": "flatten"},
            {"name": "logits", "op": "dense", "units": 10},
        ],
    )


def predictor() -> Work:
    network = Network.from_spec(lite0.spec())
    params, (output,) = drawn(lite0.parameter_shapes()), network.graph.outputs
    network.check(params)
    network, params = fused(*folded(network, params))  # as it is served

    def predict(images: Images, labels: Labels) -> float:
        del labels
        for i in range(len(images)):
            found = network.predict(params, {"image": images[i : i + 1]})
        return float(found[output].mean())

    return predict


if __name__ == "__main__":
    keep_freed_memory()  # as the worker processes do
    run("numpy", {"mlp": mlp, "cnn": cnn, "lite0": predictor})
