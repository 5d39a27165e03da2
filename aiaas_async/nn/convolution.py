"""Convolutions over NHWC images: im2col and a matrix product (Chellapilla et al. 2006).

The gradient of the input is a convolution again: of the spread output gradient with the
flipped kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.nn.layer import (
    PLAIN,
    Array,
    Borders,
    Count,
    Ending,
    Gradients,
    Layer,
    Mode,
    Need,
    Pair,
    ParameterSpec,
    Shape,
    known,
)
from aiaas_async.nn.output import Output
from aiaas_async.nn.product import multiplied
from aiaas_async.nn.windows import (
    Padding,
    Window,
    columns,
    infer_image,
    output_size,
    pad,
    pads,
    spread,
    unpad,
)


class Convolution(Layer, frozen=True, kw_only=True):
    """What both kinds share: kernel, stride, padding, and perhaps a bias for each filter."""

    ENDS: ClassVar[bool] = True
    FRAMES: ClassVar[bool] = True

    kernel: Window
    stride: Window = (1, 1)
    padding: Padding = "same"
    use_bias: bool = True

    def border(self, size: Pair) -> Borders:
        """Of zeros, that an image of `size` needs around it."""
        return pads(size, self.kernel, self.stride, self.padding)

    def framed(self, x: Array, mode: Mode) -> Array:
        return x if mode.framed else pad(x, self.border(x.shape[1:3]))

    def spread(self, dy: Array, size: Pair) -> Array:
        return spread(dy, size, self.kernel, self.stride, self.border(size))

    def with_bias(self, weight: ParameterSpec) -> dict[str, ParameterSpec]:
        found = {"weight": weight}
        return found | ({"bias": ParameterSpec(weight.shape[-1:])} if self.use_bias else {})


class Conv2d(Convolution, frozen=True, kw_only=True):
    """Weight [kh, kw, in, out]."""

    filters: Count

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.stride, self.padding)
        known(shapes[0][2], "the number of channels")
        return (*out, self.filters)

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels, area = shapes[0][2], self.kernel[0] * self.kernel[1]
        fans = (area * channels, area * self.filters)
        return self.with_bias(ParameterSpec((*self.kernel, channels, self.filters), "weight", fans))

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        padded = self.framed(xs[0], mode)
        bias = ps[1] if self.use_bias else None
        y = correlate(padded, ps[0], self.stride, bias, mode.ending)
        return y, (padded, xs[0].shape)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        padded, (_, h, w, _) = saved
        if need.inputs and need.parameters and self.stride == (1, 1) != self.kernel:
            x = unpad(padded, self.border((h, w)))
            dx, weight = gradients(x, self.spread(dy, (h, w)), ps[0])
            return [dx], [weight, *([sum_pixels(dy)] if self.use_bias else ())]
        grads = []
        if need.parameters:
            weight, bias = self._parameter_gradients(padded, dy)
            grads = [weight.reshape(ps[0].shape), bias][: len(ps)]
        if not need.inputs:
            return [None], grads
        return [correlate(self.spread(dy, (h, w)), flipped(ps[0]), (1, 1))], grads

    def _parameter_gradients(self, padded: Array, dy: Array) -> tuple[Array, Array]:
        """[kh kw in, out] and [out]"""
        if self.kernel == self.stride == (1, 1):
            rows = padded.reshape(-1, padded.shape[3])
            return rows.T @ dy.reshape(-1, self.filters), sum_pixels(dy)
        depth = self.kernel[0] * self.kernel[1] * padded.shape[3]
        total = np.zeros((depth + 1, self.filters), dy.dtype)
        for at, rows in columns(padded, self.kernel, self.stride):
            total += rows.T @ dy[at].reshape(-1, self.filters)
        return total[:-1], total[-1]


def correlate(
    x: Array, weight: Array, stride: Pair, bias: Array | None = None, ending: Ending = PLAIN
) -> Array:
    """Slide `weight` [kh, kw, C, F], or `panels` of a pointwise one, over the padded images
    [N, H, W, C]: [N, oh, ow, F]."""
    if weight.ndim == 3 or weight.shape[:2] == stride == (1, 1):
        apart = weight if weight.ndim == 3 else weight[0]
        return _pointwise(x, apart, bias, ending)
    kh, kw, channels, filters = weight.shape
    shape = (len(x), *output_size(x.shape[1:3], (kh, kw), stride, "valid"), filters)
    flat, dtype = weight.reshape(kh * kw * channels, filters), np.result_type(x, weight)
    output = Output(shape, dtype, ending)
    below = np.zeros((1, filters), weight.dtype) if bias is None else bias[None]
    stacked = np.concatenate([flat, below])
    for at, rows in columns(x, (kh, kw), stride):
        part = output.part(at)
        np.matmul(rows, stacked, out=part.reshape(-1, filters))
        output.end(at, part)
    return output.whole


def _pointwise(x: Array, weight: Array, bias: Array | None, ending: Ending) -> Array:
    """The same for `panels` of a weight, whose kernel is one pixel."""
    parts, channels, columns = weight.shape
    filters = parts * columns
    output = Output((*x.shape[:3], filters), np.result_type(x, weight), ending, bias)
    for at, part in output.parts():
        multiplied(x[at].reshape(1, -1, channels), weight, part.reshape(1, -1, filters))()
    return output.whole


def gradients(x: Array, around: Array, weight: Array) -> tuple[Array, Array]:
    """Of the images `x` [N, h, w, C] and of `weight`, at stride 1, from the spread gradient of
    the output; both from the same columns, which for each product apart take as long again as
    half of it."""
    kh, kw, channels, filters = weight.shape
    flat = flipped(weight).reshape(-1, channels)
    stacked = np.concatenate([flat, np.zeros((1, channels), flat.dtype)])
    dx = np.empty(x.shape, np.result_type(around, weight))
    total = np.zeros(stacked.shape, dx.dtype)
    for at, rows in columns(around, (kh, kw), (1, 1)):
        np.matmul(rows, stacked, out=dx[at].reshape(-1, channels))
        total += rows.T @ x[at].reshape(-1, channels)
    return dx, flipped(total[:-1].reshape(kh, kw, filters, channels)).copy()


def flipped(weight: Array) -> Array:
    """[kh, kw, C, F] turned by half, as [kh, kw, F, C], a view; its own inverse."""
    return weight[::-1, ::-1].transpose(0, 1, 3, 2)


def sum_pixels(dy: Array) -> Array:
    """The sum of dy [N, H, W, F] over all but F; over N first, for the same reason."""
    total: Array = dy.sum(axis=0).sum(axis=(0, 1))
    return total
