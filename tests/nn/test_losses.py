"""Losses: their gradients, their stability, how shards add up, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aiaas_async.errors import InputError
from aiaas_async.nn.gradcheck import directional_error
from aiaas_async.nn.layer import Array
from aiaas_async.nn.losses import LOSSES, binary_cross_entropy, cross_entropy, mse
from tests.nn.graphs import normal

Targets = Callable[[int], Array]
RNG = np.random.default_rng(4)
CASES: list[tuple[str, tuple[int, ...], Array]] = [
    ("mse", (6, 5), normal((6, 5), 1)),
    ("mse", (6,), normal((6,), 1)),
    ("cross_entropy", (6, 5), RNG.integers(0, 5, 6)),
    ("cross_entropy", (3, 4, 5), RNG.integers(0, 5, (3, 4), np.uint8)),
    ("cross_entropy", (6, 5), RNG.dirichlet(np.ones(5), 6)),
    ("cross_entropy", (6, 5), RNG.random((6, 5))),  # shares that do not add up to 1
    ("binary_cross_entropy", (6, 5), RNG.random((6, 5))),
    ("binary_cross_entropy", (6,), RNG.integers(0, 2, 6)),
]
each_case = pytest.mark.parametrize(("name", "shape", "target"), CASES)


@each_case
def test_a_gradient_agrees_with_finite_differences(
    name: str, shape: tuple[int, ...], target: Array
) -> None:
    loss, y = LOSSES[name], 3 * normal(shape)
    gradient = {"y": loss(y, target)[1]}
    for seed in range(3):
        error = directional_error(lambda p: loss(p["y"], target)[0], {"y": y}, gradient, seed)
        assert error < 1e-8


@each_case
def test_shards_weighted_by_their_items_add_up_to_the_whole(
    name: str, shape: tuple[int, ...], target: Array
) -> None:
    loss, y = LOSSES[name], normal(shape)
    cut, n = 2, len(y)
    whole, gradient = loss(y, target)
    parts = [loss(y[at], target[at]) for at in (slice(cut), slice(cut, n))]
    shares = [cut / n, (n - cut) / n]
    assert whole == pytest.approx(sum(s * p[0] for s, p in zip(shares, parts, strict=True)))
    joined = np.concatenate([s * p[1] for s, p in zip(shares, parts, strict=True)])
    np.testing.assert_allclose(gradient, joined, atol=1e-14)


@each_case
def test_nothing_given_is_written_to_and_float32_stays(
    name: str, shape: tuple[int, ...], target: Array
) -> None:
    y, given_target = normal(shape).astype(np.float32), target.copy()
    for array in (y, given_target):
        array.setflags(write=False)
    assert LOSSES[name](y, given_target)[1].dtype == np.float32


extreme = arrays(
    np.float32, (4, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
)


@given(extreme, arrays(np.int64, (4,), elements=st.integers(0, 2)))
def test_cross_entropy_of_extreme_scores_is_finite_and_never_negative(
    y: Array, target: Array
) -> None:
    loss, gradient = cross_entropy(y, target)
    assert np.isfinite(loss)
    assert loss >= 0
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-6)


@given(extreme, arrays(np.float32, (4, 3), elements=st.sampled_from([0.0, 0.25, 1.0])))
def test_binary_cross_entropy_of_extreme_scores_is_finite_and_never_negative(
    y: Array, target: Array
) -> None:
    loss, gradient = binary_cross_entropy(y, target)
    assert np.isfinite(loss)
    assert loss >= 0
    assert np.abs(gradient).max() <= 1 / y.size + 1e-7


def test_sure_and_right_costs_nothing_and_sure_and_wrong_its_score() -> None:
    y = np.array([[1e4, 0.0]], np.float32)
    assert cross_entropy(y, np.array([0]))[0] == 0.0
    assert cross_entropy(y, np.array([1]))[0] == pytest.approx(1e4)
    assert binary_cross_entropy(y, np.array([[1.0, 0.5]]))[0] == pytest.approx(np.log(2) / 2)
    assert binary_cross_entropy(-y, np.array([[1.0, 0.5]]))[0] == pytest.approx(
        1e4 / 2 + np.log(2) / 2
    )


def test_an_empty_batch_costs_nothing() -> None:
    for loss, target in ((mse, np.zeros((0, 3))), (cross_entropy, np.zeros(0, int))):
        value, gradient = loss(np.zeros((0, 3)), target)
        assert value == 0.0
        assert gradient.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("mse", np.zeros((2, 4)), r"\[2, 4\] must have the shape of the predictions \[2, 3\]"),
        (
            "cross_entropy",
            np.array([[-1.5, 1.0, 1.0], [0.0, 0.0, 2.0]]),
            r"probabilities, none below 0; got -1.5 to 2.0",
        ),
        ("binary_cross_entropy", np.zeros(2), r"\[2\] must have the shape"),
        ("binary_cross_entropy", np.full((2, 3), 1.5), r"lie in \[0, 1\]; got 1.5 to 1.5"),
        ("cross_entropy", np.array([0, 3]), "lie in 0 to 2; got 0 to 3"),
        ("cross_entropy", np.array([-1, 0]), "lie in 0 to 2; got -1 to 0"),
        ("cross_entropy", np.array([0.0, 1.0]), r"class numbers \[2\] .* got float64 \[2\]"),
        ("cross_entropy", np.zeros((2, 3), int), r"got int64 \[2, 3\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(name: str, target: Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        LOSSES[name](normal((2, 3)), target)
