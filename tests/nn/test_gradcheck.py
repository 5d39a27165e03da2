"""The check of gradients finds a wrong one, however small its fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from aiaas_async.nn.activations import Tanh
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.gradcheck import directional_error, network_error
from aiaas_async.nn.layer import Array, Gradients, Need
from tests.nn.graphs import normal, single


def cube(point: dict[str, Array]) -> float:
    return float((point["x"] ** 3).sum())


def test_a_right_gradient_has_next_to_no_error() -> None:
    x = normal((3, 4))
    for seed in range(5):
        assert directional_error(cube, {"x": x}, {"x": 3 * x**2}, seed) < 1e-8


def test_one_wrong_element_is_found() -> None:
    x = normal((3, 4))
    wrong = 3 * x**2
    wrong[1, 2] += 0.01
    assert max(directional_error(cube, {"x": x}, {"x": wrong}, seed) for seed in range(3)) > 1e-4


def test_the_error_of_large_slopes_is_relative() -> None:
    x = 1e4 * normal((3, 4))
    assert directional_error(cube, {"x": x}, {"x": 3 * x**2}) < 1e-6
    assert directional_error(cube, {"x": x}, {"x": 3.003 * x**2}) == pytest.approx(1e-3, rel=0.01)


def test_a_layer_with_a_wrong_slope_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = single("tanh", (4,)), {"x": normal((3, 4))}
    assert network_error(network, inputs, "layer") < 1e-8
    monkeypatch.setattr(Tanh, "slope", lambda self, saved: 1 - saved)
    assert network_error(network, inputs, "layer") > 1e-2


def test_a_layer_with_a_wrong_gradient_of_its_bias_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Dense.backward

    def wrong(self: Dense, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        dxs, (weight, bias) = right(self, dy, saved, ps, need)
        return dxs, [weight, 2 * bias]

    network, inputs = single("dense", (4,), units=2), {"x": normal((3, 4))}
    assert network_error(network, inputs, "layer") < 1e-8
    monkeypatch.setattr(Dense, "backward", wrong)
    assert network_error(network, inputs, "layer") > 1e-2


def test_the_point_is_left_alone() -> None:
    x = normal((3, 4))
    before = x.copy()
    x.setflags(write=False)
    directional_error(cube, {"x": x}, {"x": 3 * x**2})
    np.testing.assert_array_equal(x, before)
