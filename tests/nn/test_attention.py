"""Attention: its gradients, what it may look at, and that tiles are only a matter of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import GraphError
from aiaas_async.nn import attention
from aiaas_async.nn.gradcheck import network_error
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from tests.nn.graphs import normal, single

VARIANTS: list[dict[str, Any]] = [
    {"heads": 2},
    {"heads": 3, "causal": True, "qkv_bias": False},
    {"heads": 4, "head_size": 2, "out_bias": False},
    {"heads": 1, "head_size": 5, "causal": True, "out_bias": False, "qkv_bias": False},
]


def passes(network: Network, x: Array, dy: Array) -> list[Array]:
    """The output, and all gradients for `dy`."""
    params = network.init(3, x.dtype)
    found, cache = network.forward(params, {"x": x})
    dinputs, grads = network.backward(
        params, cache, {"layer": dy}, wrt_inputs=True, wrt_params=True
    )
    return [found["layer"], dinputs["x"], *grads.values()]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("tile", [1, 40, 1 << 20])
def test_gradients_agree_with_finite_differences_in_tiles_of_any_size(
    options: dict[str, Any], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_TILE", tile)
    network = single("attention", (5, 6), **options)
    # Of unit inputs, not larger ones as elsewhere: a sharp softmax is beyond second order.
    assert network_error(network, {"x": normal((4, 5, 6))}, "layer") < 1e-7


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_change_nothing_but_rounding(
    options: dict[str, Any], dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = single("attention", (-1, 6), **options)
    x, dy = (normal((2, 9, 6), seed).astype(dtype) for seed in (1, 2))
    whole = passes(network, x, dy)
    monkeypatch.setattr(attention, "_TILE", 2 * 9 * 4 * options["heads"] // 2)
    for one, other in zip(passes(network, x, dy), whole, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_scores_of_a_long_sequence_are_never_there_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, largest = single("attention", (-1, 4), heads=2), list[int]()
    original = np.exp

    def watched(x: Array, **given: Any) -> Array:
        largest.append(x.size)
        found: Array = original(x, **given)
        return found

    monkeypatch.setattr(attention, "_TILE", 1 << 12)
    monkeypatch.setattr(np, "exp", watched)
    network.predict(network.init(0), {"x": normal((1, 300, 4)).astype(np.float32)})
    assert sum(largest) == 2 * 300 * 300
    assert max(largest) <= 1 << 12


def test_a_causal_one_does_not_look_ahead_and_another_does() -> None:
    x = normal((2, 6, 4)).astype(np.float32)
    changed = x.copy()
    changed[:, 4:] += 1
    for causal in (True, False):
        network = single("attention", (6, 4), heads=2, causal=causal)
        before, after = (network.predict(network.init(0), {"x": a})["layer"] for a in (x, changed))
        assert np.array_equal(before[:, :4], after[:, :4]) is causal
        assert not np.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("causal", [True, False])
def test_a_key_s_bias_has_a_gradient_of_exactly_zero(causal: bool) -> None:
    network = single("attention", (5, 6), heads=2, causal=causal)
    x, dy = (normal((4, 5, 6), seed).astype(np.float32) for seed in (1, 2))
    params = network.init(0)
    _, cache = network.forward(params, {"x": x})
    _, grads = network.backward(params, cache, {"layer": dy}, wrt_inputs=False, wrt_params=True)
    queries, keys, values = np.split(grads["layer.qkv_bias"], 3)
    assert (keys == 0).all()
    assert (queries != 0).all()
    assert (values != 0).all()


def test_large_scores_do_not_overflow() -> None:
    network = single("attention", (3, 4), heads=1)
    params = {n: np.full_like(p, 1e4) for n, p in network.init(0).items()}
    y = network.predict(params, {"x": normal((1, 3, 4)).astype(np.float32)})["layer"]
    assert np.isfinite(y).all()


def test_no_position_and_no_item_are_fine() -> None:
    network = single("attention", (-1, 4), heads=2)
    for shape in ((2, 0, 4), (0, 3, 4)):
        found = passes(network, np.zeros(shape, np.float32), np.zeros(shape, np.float32))
        assert found[0].shape == found[1].shape == shape


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((6,), {"heads": 2}, r"takes \[time, channels\], got an input of shape \[6\]"),
        ((3, 5), {"heads": 2}, "5 channels are no multiple of 2 heads; give head_size"),
        ((3, -1), {"heads": 2}, "the number of channels must be known"),
        ((3, 4), {"heads": 0}, "heads"),
        ((3, 4), {"heads": 2, "head_size": 0}, "head_size"),
        ((3, 4), {}, "heads"),
    ],
)
def test_what_cannot_be_is_refused(
    shape: tuple[int, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(GraphError, match=said):
        single("attention", shape, **options)
