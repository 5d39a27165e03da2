"""Convolutions and pools against the plain loop over windows, for any geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.nn import windows
from aiaas_async.nn.layer import Array, Borders
from aiaas_async.nn.network import Network
from aiaas_async.nn.windows import output_size, pad, pads, unpad
from tests.nn.graphs import Option, normal, single

OPS = ("conv2d", "depthwise_conv2d", "max_pool", "avg_pool")
sides = st.integers(1, 4)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[tuple[int, int, int], Option]:
    kernel, stride = (draw(st.tuples(sides, sides)) for _ in range(2))
    around = [[draw(st.integers(0, k - 1)) for _ in range(2)] for k in kernel]
    padding = draw(st.sampled_from(["same", "valid", around]))
    needed: tuple[int, ...] = kernel if padding == "valid" else (1, 1)
    if padding is around:
        needed = tuple(max(1, k - sum(p)) for k, p in zip(kernel, around, strict=True))
    height, width = (draw(st.integers(n, n + 6)) for n in needed)
    size = (height, width, draw(st.integers(1, 5)))
    return size, {"kernel": kernel, "stride": stride, "padding": padding}


class Plain:
    """One layer's passes, window by window, from its definition."""

    def __init__(self, op: str, params: dict[str, Array], size: Any, options: Option) -> None:
        self.op, self.kernel, self.stride = op, options["kernel"], options["stride"]
        self.weight, self.bias = (params.get(f"layer.{n}", np.zeros(1)) for n in ("weight", "bias"))
        self.around: Borders = pads(size[:2], self.kernel, self.stride, options["padding"])
        self.out = output_size(size[:2], self.kernel, self.stride, options["padding"])

    def places(self) -> Iterator[tuple[Any, Any]]:
        """Each output position, and its window in the padded images."""
        for i, j in np.ndindex(*self.out):
            top, left = i * self.stride[0], j * self.stride[1]
            rows, columns = slice(top, top + self.kernel[0]), slice(left, left + self.kernel[1])
            yield (slice(None), i, j), (slice(None), rows, columns)

    def passes(self, x: Array, dy: Array | None = None) -> tuple[Array, Array]:
        padded = pad(x, self.around, -np.inf if self.op == "max_pool" else 0.0)
        dpadded, found = np.zeros(padded.shape), {}
        for at, window in self.places():
            seen = padded[window]
            found[at[1:]] = self.value(seen)
            if dy is not None:
                dpadded[window] += self.share(seen, dy[at])
        y = np.stack(list(found.values()), axis=1)
        return y.reshape(len(x), *self.out, -1), unpad(dpadded, self.around)

    def value(self, seen: Array) -> Array:
        if self.op == "conv2d":
            return np.asarray(np.tensordot(seen, self.weight, 3) + self.bias)
        if self.op == "depthwise_conv2d":
            return np.asarray((seen * self.weight).sum(axis=(1, 2)) + self.bias)
        return np.asarray(seen.max((1, 2)) if self.op == "max_pool" else seen.mean((1, 2)))

    def share(self, seen: Array, dy: Array) -> Array:
        if self.op == "conv2d":
            return np.asarray(np.einsum("nf,ijcf->nijc", dy, self.weight))
        across = dy[:, None, None]
        if self.op == "depthwise_conv2d":
            return np.asarray(across * self.weight)
        if self.op == "max_pool":
            return np.asarray(across * (seen == seen.max((1, 2), keepdims=True)))
        return np.broadcast_to(across / math.prod(seen.shape[1:3]), seen.shape)


def compare(network: Network, op: str, size: tuple[int, int, int], options: Option) -> None:
    params = {name: normal(p.shape, 5) for name, p in network.init(0).items()}
    plain, x = Plain(op, params, size, options), normal((3, *size))
    found, cache = network.forward(params, {"x": x})
    dy = normal(found["layer"].shape, 6)
    y, dx = plain.passes(x, dy)
    np.testing.assert_allclose(found["layer"], y, atol=1e-12)
    dinputs, _ = network.backward(params, cache, {"layer": dy}, wrt_inputs=True, wrt_params=False)
    np.testing.assert_allclose(dinputs["x"], dx, atol=1e-12)


def test_same_padding_puts_the_odd_pixel_at_the_end() -> None:
    assert pads((5, 6), (2, 3), (1, 2), "same") == ((0, 1), (0, 1))
    assert pads((5, 5), (3, 4), (1, 1), "same") == ((1, 1), (1, 2))
    assert pads((4, 4), (1, 2), (3, 3), "same") == ((0, 0), (0, 1))


@pytest.mark.parametrize("op", OPS)
@given(geometry=geometries())
def test_any_geometry_computes_what_the_plain_loop_does(
    op: str, geometry: tuple[tuple[int, int, int], Option]
) -> None:
    size, options = geometry
    more: Option = {"filters": 3} if op == "conv2d" else {}
    compare(single(op, size, **options, **more), op, size, options)


@pytest.mark.parametrize("tile_bytes", [1, 500, 2000, 10_000])
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiles_of_any_size_compute_the_same(
    op: str, channels: int, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "TILE_BYTES", tile_bytes)
    size = (7, 6, channels)
    options: Option = {"kernel": (3, 2), "stride": (1, 2), "padding": "same"}
    more: Option = {"filters": 3} if op == "conv2d" else {}
    compare(single(op, size, **options, **more), op, size, options)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_no_images_make_no_output_and_no_gradient(op: str, kernel: tuple[int, int]) -> None:
    more: Option = {"filters": 3} if op == "conv2d" else {}
    network = single(op, (6, 5, 4), kernel=kernel, stride=[1, 1], padding="same", **more)
    params, x = network.init(0, np.float64), np.zeros((0, 6, 5, 4))
    found, cache = network.forward(params, {"x": x})
    assert found["layer"].shape[:3] == (0, 6, 5)
    douts = {"layer": found["layer"]}
    dinputs, grads = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
    assert dinputs["x"].shape == x.shape
    assert not any(grad.any() for grad in grads.values())


@pytest.mark.parametrize("op", OPS)
def test_images_that_lie_otherwise_in_memory_compute_the_same(op: str) -> None:
    more: Option = {"filters": 3} if op == "conv2d" else {}
    network = single(op, (6, 5, 4), kernel=[3, 2], stride=[1, 1], padding="valid", **more)
    params, x = network.init(0, np.float64), normal((2, 6, 5, 4))
    y, cache = network.forward(params, {"x": x})
    dy = normal(y["layer"].shape, 6)
    expected = network.backward(params, cache, {"layer": dy}, wrt_inputs=True, wrt_params=True)
    otherwise = np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2], x[:, ::-1].copy()[:, ::-1]
    for strange in otherwise:
        found, cache = network.forward(params, {"x": strange})
        np.testing.assert_allclose(found["layer"], y["layer"], atol=1e-12)
        douts = {"layer": np.asfortranarray(dy)}
        passes = network.backward(params, cache, douts, wrt_inputs=True, wrt_params=True)
        for ours, theirs in zip(passes, expected, strict=True):
            for name, array in theirs.items():
                np.testing.assert_allclose(ours[name], array, atol=1e-12)


def test_of_equal_largest_values_one_alone_gets_the_gradient() -> None:
    network = single("max_pool", (4, 4, 1), kernel=[3, 3], stride=[1, 1])
    x = np.ones((1, 4, 4, 1))
    found, cache = network.forward({}, {"x": x})
    douts = {"layer": np.ones(found["layer"].shape)}
    dinputs, _ = network.backward({}, cache, douts, wrt_inputs=True, wrt_params=False)
    assert dinputs["x"].sum() == 4
    np.testing.assert_array_equal(np.flatnonzero(dinputs["x"]), [0, 1, 4, 5])
