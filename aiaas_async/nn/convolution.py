"""Convolutions over NHWC images: im2col and one matrix product (Chellapilla et al. 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aiaas_async.nn.layer import (
    Array,
    Count,
    Gradients,
    Layer,
    Mode,
    Need,
    ParameterSpec,
    Shape,
    known,
)
from aiaas_async.nn.windows import (
    Padding,
    Pair,
    infer_image,
    offsets,
    output_size,
    pad,
    pads,
    unpad,
)


class Conv2d(Layer, frozen=True):
    """Weight [kh, kw, in, out]."""

    filters: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"
    use_bias: bool = True

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.stride, self.padding)
        known(shapes[0][2], "the number of channels")
        return (*out, self.filters)

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels, area = shapes[0][2], self.kernel[0] * self.kernel[1]
        fans = (area * channels, area * self.filters)
        found = {"weight": ParameterSpec((*self.kernel, channels, self.filters), "weight", fans)}
        return found | ({"bias": ParameterSpec((self.filters,))} if self.use_bias else {})

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x, weight = xs[0], ps[0]
        n, h, w, _ = x.shape
        out = output_size((h, w), self.kernel, self.stride, self.padding)
        columns = self._columns(x, out)
        y = columns @ weight.reshape(-1, self.filters)
        if self.use_bias:
            y += ps[1]
        return y.reshape(n, *out, self.filters), (columns, x.shape, out)

    def _pointwise(self) -> bool:
        return self.kernel == (1, 1) and self.stride == (1, 1) and isinstance(self.padding, str)

    def _columns(self, x: Array, out: Pair) -> Array:
        """Each output position's window as a row: [N oh ow, kh kw in]."""
        n, h, w, c = x.shape
        if self._pointwise():
            return x.reshape(-1, c)
        padded = pad(x, pads((h, w), self.kernel, self.stride, self.padding))
        columns = np.empty((n, *out, *self.kernel, c), x.dtype)
        for i, j, at in offsets(self.kernel, self.stride, out):
            columns[:, :, :, i, j] = padded[at]
        return columns.reshape(n * out[0] * out[1], -1)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        columns, shape, out = saved
        rows = dy.reshape(-1, self.filters)
        grads = []
        if need.parameters:
            grads.append((columns.T @ rows).reshape(ps[0].shape))
            if self.use_bias:
                grads.append(rows.sum(axis=0))
        if not need.inputs:
            return [None], grads
        dcolumns = rows @ ps[0].reshape(-1, self.filters).T
        if self._pointwise():
            return [dcolumns.reshape(shape)], grads
        n, h, w, c = shape
        around = pads((h, w), self.kernel, self.stride, self.padding)
        dpadded = np.zeros((n, h + sum(around[0]), w + sum(around[1]), c), dy.dtype)
        windows = dcolumns.reshape(n, *out, *self.kernel, c)
        for i, j, at in offsets(self.kernel, self.stride, out):
            dpadded[at] += windows[:, :, :, i, j]
        return [unpad(dpadded, around)], grads


class DepthwiseConv2d(Layer, frozen=True):
    """One filter for each channel; weight [kh, kw, channels]."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"
    use_bias: bool = True

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.stride, self.padding)
        return (*out, known(shapes[0][2], "the number of channels"))

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels, area = shapes[0][2], self.kernel[0] * self.kernel[1]
        found = {"weight": ParameterSpec((*self.kernel, channels), "weight", (area, area))}
        return found | ({"bias": ParameterSpec((channels,))} if self.use_bias else {})

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x, weight = xs[0], ps[0]
        n, h, w, c = x.shape
        out = output_size((h, w), self.kernel, self.stride, self.padding)
        padded = pad(x, pads((h, w), self.kernel, self.stride, self.padding))
        y = np.zeros((n, *out, c), x.dtype)
        product = np.empty_like(y)
        for i, j, at in offsets(self.kernel, self.stride, out):
            y += np.multiply(padded[at], weight[i, j], out=product)
        if self.use_bias:
            y += ps[1]
        return y, (padded, x.shape, out)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        padded, (_, h, w, _), out = saved
        weight = ps[0]
        dweight, dpadded = np.zeros_like(weight, dtype=dy.dtype), np.zeros_like(padded)
        for i, j, at in offsets(self.kernel, self.stride, out):
            if need.parameters:
                dweight[i, j] = np.einsum("nhwc,nhwc->c", padded[at], dy)
            if need.inputs:
                dpadded[at] += dy * weight[i, j]
        grads = [dweight, dy.sum(axis=(0, 1, 2))] if self.use_bias else [dweight]
        around = pads((h, w), self.kernel, self.stride, self.padding)
        dx = unpad(dpadded, around) if need.inputs else None
        return [dx], grads if need.parameters else []
