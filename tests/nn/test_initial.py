"""Parameters start as the papers say, and from equal seeds with equal bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from tests.nn.graphs import Option, classifier, single, spec


def weight(*after: str, first: Option | None = None) -> Array:
    """The weight of a dense layer 400 → 300 that the ops `after` follow in a row."""
    layers: list[Option] = [first or {"name": "first", "op": "dense", "units": 300}]
    layers += [{"name": f"{i} {op}", "op": op} for i, op in enumerate(after)]
    network = Network.from_spec(spec(layers, [layers[-1]["name"]], (400,)))
    return network.init(0)["first.weight"]


@pytest.mark.parametrize("op", ["relu", "relu6", "silu", "gelu"])
def test_before_a_rectifier_weights_are_normal_with_variance_2_over_fan_in(op: str) -> None:
    for found in (weight(op), weight("batch_norm", op), weight("layer_norm", op)):
        assert float(found.std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
        assert float(np.abs(found).max()) > 4 * math.sqrt(2 / 400)  # has a normal's tails


@pytest.mark.parametrize("after", [(), ("tanh",), ("tanh", "relu"), ("batch_norm", "sigmoid")])
def test_elsewhere_weights_are_uniform_with_variance_2_over_both_fans(after: Any) -> None:
    found, limit = weight(*after), math.sqrt(6 / 700)
    assert float(found.std()) == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert limit * 0.99 < float(np.abs(found).max()) <= np.float32(limit)


def test_a_convolutions_fans_count_the_pixels_of_its_kernel() -> None:
    options: Option = {"filters": 64, "kernel": [5, 5]}
    found = single("conv2d", (9, 9, 32), **options).init(0)["layer.weight"]
    limit = math.sqrt(6 / (25 * 32 + 25 * 64))
    assert limit * 0.99 < float(np.abs(found).max()) <= np.float32(limit)
    found = single("depthwise_conv2d", (9, 9, 999), kernel=[5, 5]).init(0)["layer.weight"]
    assert float(np.abs(found).max()) == pytest.approx(math.sqrt(6 / 50), rel=0.01)


def test_biases_start_at_zero_and_scales_and_variances_at_one() -> None:
    params = classifier().init(0)
    for name in ("conv.bias", "norm.bias", "norm.running_mean", "logits.bias"):
        assert not params[name].any()
    for name in ("norm.weight", "norm.running_var"):
        assert (params[name] == 1).all()


def test_rows_of_a_table_are_small_normals() -> None:
    network = single("embedding", (2,), "int64", vocabulary=300, units=300)
    assert float(network.init(0)["layer.weight"].std()) == pytest.approx(0.02, rel=0.02)


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    network = classifier()
    first, again, other = network.init(5), network.init(5), network.init(6)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert all((first[n] != other[n]).any() for n in ("conv.weight", "logits.weight"))
    assert {p.dtype for p in first.values()} == {np.dtype(np.float32)}


def test_float32_parameters_are_the_float64_ones_rounded() -> None:
    wide, narrow = classifier().init(5, np.float64), classifier().init(5)
    assert all((wide[name].astype(np.float32) == narrow[name]).all() for name in wide)
