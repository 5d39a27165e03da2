"""What does not fit a network is refused by name, before anything is computed with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import ArtifactError, GraphError, InputError, InternalError
from aiaas_async.nn.layer import Array, Need
from aiaas_async.nn.processing import Argmax
from tests.nn.graphs import classifier, images, joined, normal, residual, single


def _without(params: dict[str, Array]) -> dict[str, Array]:
    return {name: p for name, p in params.items() if name != "norm.bias"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without, r"missing \['norm.bias'\], unknown \[\]"),
        (lambda p: p | {"more": np.zeros(1)}, r"missing \[\], unknown \['more'\]"),
        (lambda p: p | {"norm.bias": np.zeros(5)}, r"'norm.bias' is float64 \[5\].* \[4\]"),
        (lambda p: p | {"norm.bias": np.zeros(4, int)}, r"'norm.bias' is int64"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Any, said: str) -> None:
    network = classifier()
    params = network.init(0)
    network.check(params)
    with pytest.raises(ArtifactError, match=said):
        network.check(change(params))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (normal((4,)), r"'x' must be \[N, 4\], got \[4\]"),
        (normal((2, 5)), r"'x' must be \[N, 4\], got \[2, 5\]"),
        (normal((2, 4)).astype(complex), r"'x' must hold float32, got complex128"),
        (np.array([["a"] * 4]), r"'x' must hold float32, got <U1"),
    ],
)
def test_an_input_that_does_not_fit_is_named(x: Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        residual().predict(residual().init(0), {"x": x})


def test_one_value_is_not_stretched_to_several() -> None:
    network = single("relu", (1,))
    with pytest.raises(InputError, match=r"\[N, 1\], got \[2, 3\]"):
        network.predict({}, {"x": normal((2, 3))})


def test_inputs_must_have_as_many_items_as_one_another() -> None:
    with pytest.raises(InputError, match="'x0': 2, 'x1': 3"):
        joined("add", ((4,), (4,))).predict({}, {"x0": normal((2, 4)), "x1": normal((3, 4))})


@pytest.mark.parametrize("op", ["add", "concatenate"])
def test_open_lengths_that_turn_out_different_are_refused_not_broadcast(op: str) -> None:
    network = joined(op, ((-1, 4), (-1, 4)))
    with pytest.raises(InputError, match=r"\[\[2, 3, 4\], \[2, 1, 4\]\]"):
        network.predict({}, {"x0": normal((2, 3, 4)), "x1": normal((2, 1, 4))})


def test_ids_outside_the_table_are_refused() -> None:
    network = single("embedding", (2,), "int64", vocabulary=5, units=3)
    for ids in ([[0, 5]], [[-1, 0]]):
        with pytest.raises(InputError, match="rows 0 to 4"):
            network.predict(network.init(0), {"x": np.array(ids)})


def test_an_output_that_is_no_layer_is_refused() -> None:
    with pytest.raises(GraphError, match="no layer 'score' to read; did you mean 'scores'"):
        residual().predict({}, {}, outputs=["score"])


def test_a_gradient_of_what_has_none_is_refused() -> None:
    network = classifier()
    params = network.init(0)
    _, cache = network.forward(params, {"image": images(2)})
    with pytest.raises(GraphError, match="'label' has no gradient; take the layer before it"):
        network.backward(params, cache, {"label": np.ones(2)}, wrt_inputs=False, wrt_params=True)
    with pytest.raises(GraphError, match="'flat' was no output"):
        network.backward(params, cache, {"flat": np.ones(2)}, wrt_inputs=False, wrt_params=True)


def test_a_layer_says_which_pass_it_has_not() -> None:
    layer, x = Argmax(), np.zeros((1, 3), np.float32)
    with pytest.raises(InternalError, match="layer Argmax has no backward pass"):
        layer.backward(x, None, [], Need(inputs=True, parameters=False))
    with pytest.raises(InternalError, match="layer Argmax has no pass by elements"):
        layer.apply(x, x)
