"""A rectifier and the max pool behind it change places: to the same bits, where nobody looks."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

from aiaas_async.nn import route
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, normal, spec

SHAPE = (9, 8, 3)


def network(rectifier: str, outputs: list[str], pooled: Option | None = None) -> Network:
    layers: list[Option] = [
        {"name": "conv", "op": "conv2d", "filters": 4, "kernel": [3, 3]},
        {"name": "active", "op": rectifier},
        {"name": "small", "op": "max_pool", **(pooled or {})},
        {"name": "flat", "op": "flatten"},
        {"name": "logits", "op": "dense", "units": 3},
    ]
    return Network.from_spec(spec(layers, outputs, SHAPE))


def order(made: Network, outputs: tuple[str, ...], *, keep: bool) -> list[str]:
    return [
        type(step.node.layer).__name__
        for step in route.route_to(made.graph, outputs, keep=keep).steps
    ]


def passes(made: Network, outputs: list[str]) -> dict[str, Array]:
    """Outputs and gradients on coarse numbers, so that windows have equals above and below 0."""
    x = np.round(normal((5, *SHAPE)) * 2)
    params = {name: np.round(p * 4) for name, p in made.init(1, np.float64).items()}
    found, cache = made.forward(params, {"x": x}, training=True, outputs=outputs)
    douts = {name: normal(found[name].shape, 3) for name in outputs}
    dinputs, grads = made.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
    return found | dinputs | grads


@pytest.mark.parametrize("rectifier", ["relu", "relu6"])
@pytest.mark.parametrize("pooled", [{}, {"kernel": [3, 2], "stride": [2, 1], "padding": "same"}])
def test_outputs_and_gradients_are_those_of_the_written_order(
    rectifier: str, pooled: Option
) -> None:
    found = passes(network(rectifier, ["logits"], pooled), ["logits"])
    with patch.object(route, "pooled_first", lambda nodes, outputs: nodes):
        written = passes(network(rectifier, ["logits"], pooled), ["logits"])
    assert found.keys() == written.keys()
    for name, array in found.items():
        assert np.array_equal(array, written[name]), name


def test_a_pass_that_keeps_pools_first() -> None:
    made = network("relu", ["logits"])
    assert order(made, ("logits",), keep=True) == ["Conv2d", "MaxPool", "Relu", "Flatten", "Dense"]


def test_a_rectified_image_that_is_asked_for_is_made_in_its_place() -> None:
    made = network("relu", ["active", "logits"])
    assert order(made, ("active", "logits"), keep=True)[1:3] == ["Relu", "MaxPool"]
    found = passes(made, ["active", "logits"])
    assert found["active"].shape == (5, *SHAPE[:2], 4)
    assert found["active"].min() >= 0


def test_a_rectified_image_that_another_layer_reads_is_made_in_its_place() -> None:
    layers: list[Option] = [
        {"name": "active", "op": "relu"},
        {"name": "small", "op": "max_pool"},
        {"name": "whole", "op": "max_pool", "kernel": [1, 1], "inputs": ["active"]},
    ]
    made = Network.from_spec(spec(layers, ["small", "whole"], SHAPE))
    assert order(made, ("small", "whole"), keep=True) == ["Relu", "MaxPool", "MaxPool"]
