"""Optimisers are pure, and their states are plain named arrays. (Their steps: test_pytorch.)"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.nn.layer import Array
from aiaas_async.nn.optim import (
    OPTIMIZERS,
    Adam,
    AdamW,
    Optimizer,
    Sgd,
    clip_by_norm,
    norm,
)
from tests.nn.graphs import normal

EACH: list[Optimizer] = [
    Sgd(),
    Sgd(weight_decay=0.1),
    Sgd(momentum=0.9),
    Sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
    Adam(),
    Adam(weight_decay=0.1),
    AdamW(),
]
each = pytest.mark.parametrize("optimizer", EACH, ids=str)


def arrays(seed: int) -> dict[str, Array]:
    found = {"w": normal((3, 2), seed).astype(np.float32), "b": normal((2,), seed)}
    for array in found.values():
        array.setflags(write=False)
    return found


@each
def test_a_step_writes_to_nothing_given_and_repeats_to_the_bit(optimizer: Optimizer) -> None:
    params, grads = arrays(0), arrays(1)
    _, state = optimizer.step(optimizer.init(params), params, grads, 0.1)
    for array in state.values():
        array.setflags(write=False)
    before = {name: array.tobytes() for name, array in (params | state).items()}
    first, first_state = optimizer.step(state, params, grads, 0.1)
    again, again_state = optimizer.step(state, params, grads, 0.1)
    assert before == {name: array.tobytes() for name, array in (params | state).items()}
    for one, other in ((first, again), (first_state, again_state)):
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@each
def test_nothing_new_shares_memory_with_what_was_given(optimizer: Optimizer) -> None:
    params, grads = arrays(0), arrays(1)
    state = optimizer.init(params)
    new, after = optimizer.step(state, params, grads, 0.1)
    for array in (*new.values(), *after.values()):
        for old in (*params.values(), *grads.values(), *state.values()):
            assert not np.shares_memory(array, old)


@each
def test_each_array_keeps_its_name_shape_and_dtype(optimizer: Optimizer) -> None:
    params = arrays(0)
    state = optimizer.init(params)
    new, after = optimizer.step(state, params, arrays(1), np.float64(0.1))
    for old, now in ((params, new), (state, after)):
        assert {n: (a.shape, a.dtype) for n, a in old.items()} == {
            n: (a.shape, a.dtype) for n, a in now.items()
        }
    assert int(after["step"]) == 1


@each
def test_a_parameter_without_a_gradient_stays(optimizer: Optimizer) -> None:
    params = arrays(0)
    new, _ = optimizer.step(optimizer.init(params), params, {"w": arrays(1)["w"]}, 0.1)
    assert new["b"] is params["b"]
    assert (new["w"] != params["w"]).all()


@each
def test_a_bowl_is_descended(optimizer: Optimizer) -> None:
    params = {"p": np.array([3.0, -2.0])}
    state = optimizer.init(params)
    for _ in range(500):
        params, state = optimizer.step(state, params, {"p": 2 * params["p"]}, 0.02)
    assert np.abs(params["p"]).max() < 0.1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {"momentum": 1.0}),
        ("sgd", {"momentum": -0.1}),
        ("sgd", {"weight_decay": -1.0}),
        ("sgd", {"beta1": 0.5}),
        ("adam", {"epsilon": 0.0}),
        ("adamw", {"beta2": 1.0}),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, OPTIMIZERS[name])


@given(st.floats(1e-3, 1e3), st.integers(0, 99))
def test_clipped_gradients_keep_their_direction_and_do_not_exceed_the_limit(
    limit: float, seed: int
) -> None:
    grads = {"a": normal((3, 4), seed), "b": normal((5,), seed + 1)}
    clipped, size = clip_by_norm(grads, limit)
    assert size == pytest.approx(norm(grads))
    assert norm(clipped) == pytest.approx(min(size, limit))
    for name, grad in grads.items():
        np.testing.assert_allclose(clipped[name] * size, grad * norm(clipped))


def test_clipping_keeps_the_dtype() -> None:
    clipped, _ = clip_by_norm(arrays(1), np.float64(0.01))
    assert {n: g.dtype for n, g in clipped.items()} == {n: g.dtype for n, g in arrays(1).items()}


def test_gradients_that_are_not_finite_are_left_for_the_caller_to_see() -> None:
    grads = {"a": np.array([1.0, np.inf])}
    clipped, size = clip_by_norm(grads, 1.0)
    assert size == np.inf
    assert clipped["a"] is grads["a"]
