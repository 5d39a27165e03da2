"""Every layer's backward pass against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async.nn.gradcheck import network_error
from aiaas_async.nn.table import OPS
from tests.nn.graphs import joined, normal, single

IMAGE = (6, 5, 3)
SINGLES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("avg_pool", IMAGE, {}),
    ("avg_pool", IMAGE, {"kernel": [3, 2], "stride": [1, 2], "padding": "same"}),
    ("batch_norm", (5,), {}),
    ("batch_norm", IMAGE, {"epsilon": 1e-3}),
    ("conv2d", IMAGE, {"filters": 4, "kernel": [3, 3]}),
    ("conv2d", IMAGE, {"filters": 4, "kernel": [1, 1], "use_bias": False}),
    ("conv2d", IMAGE, {"filters": 2, "kernel": [1, 1], "stride": [2, 2]}),
    ("conv2d", IMAGE, {"filters": 2, "kernel": [3, 2], "stride": [2, 1], "padding": "valid"}),
    ("conv2d", IMAGE, {"filters": 2, "kernel": [3, 3], "padding": [[0, 1], [2, 0]]}),
    ("conv2d", (6, 5, 1), {"filters": 4, "kernel": [3, 3]}),
    ("dense", (5,), {"units": 4}),
    ("dense", (2, 3, 5), {"units": 4, "use_bias": False}),
    ("depthwise_conv2d", IMAGE, {"kernel": [3, 3]}),
    ("depthwise_conv2d", IMAGE, {"kernel": [3, 3], "stride": [2, 2], "padding": [[0, 1], [0, 1]]}),
    ("depthwise_conv2d", IMAGE, {"kernel": [2, 3], "use_bias": False, "padding": "valid"}),
    ("dropout", (7,), {"rate": 0.4}),
    ("flatten", IMAGE, {}),
    ("gelu", (7,), {}),
    ("gelu", (7,), {"approximate": True}),
    ("global_avg_pool", IMAGE, {}),
    ("layer_norm", IMAGE, {}),
    ("max_pool", IMAGE, {}),
    ("max_pool", IMAGE, {"kernel": [3, 3], "stride": [2, 2], "padding": "same"}),
    ("max_pool", (6, 4, 3), {"kernel": [3, 2]}),
    ("normalise", IMAGE, {"mean": [0.5, 0.25, 0.1], "std": [2.0, 1.5, 0.5]}),
    ("relu", (7,), {}),
    ("relu6", (7,), {}),
    ("reshape", IMAGE, {"shape": [3, 30]}),
    ("scale", (7,), {"factor": 3.0, "offset": -1.0}),
    ("sigmoid", (7,), {}),
    ("silu", (7,), {}),
    ("softmax", (2, 7), {}),
    ("tanh", (7,), {}),
    ("transpose", IMAGE, {"axes": [2, 0, 1]}),
]
JOINS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("add", ((4, 3), (4, 3), (4, 3))),
    ("concatenate", ((4, 3), (4, 1), (4, 2))),
]
NO_GRADIENT = {"argmax"}
TOLERANCE = 1e-7


@pytest.mark.parametrize(("op", "shape", "options"), SINGLES)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_agree_with_finite_differences(
    op: str, shape: tuple[int, ...], options: dict[str, Any], training: bool
) -> None:
    network = single(op, shape, **options)
    inputs = {"x": 3 * normal((4, *shape))}
    assert network_error(network, inputs, "layer", training=training) < TOLERANCE


@pytest.mark.parametrize(("op", "shapes"), JOINS)
def test_gradients_of_joins_agree_with_finite_differences(
    op: str, shapes: tuple[tuple[int, ...], ...]
) -> None:
    inputs = {f"x{i}": normal((4, *shape), i) for i, shape in enumerate(shapes)}
    assert network_error(joined(op, shapes), inputs, "layer") < TOLERANCE


def test_gradients_of_an_embedding_agree_with_finite_differences() -> None:
    network = single("embedding", (5,), "int32", vocabulary=6, units=3)
    ids = np.array([[0, 1, 1, 5, 0], [2, 2, 2, 1, 0]], np.int32)
    assert network_error(network, {"x": ids}, "layer") < TOLERANCE


def test_every_layer_in_the_table_is_checked() -> None:
    checked = {op for op, _, _ in SINGLES} | {op for op, _ in JOINS}
    checked |= {"embedding", "attention"}  # `test_attention.py`
    assert checked | NO_GRADIENT == OPS.keys()
