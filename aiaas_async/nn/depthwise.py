"""Depthwise convolution over NHWC images: one einsum over strided windows.

5 to 7 billion multiply-adds a second on one core, where shifted multiply-adds over the whole
image make 1 to 3. numpy's inner loop runs over what the operands share at the end: the channels
alone are a short loop, so where neighbouring windows are neighbours in memory (horizontal
stride 1) it runs over several pixels at once, a "run", with the kernel repeated for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from aiaas_async.nn import windows
from aiaas_async.nn.convolution import Convolution, add_rowwise, sum_pixels
from aiaas_async.nn.layer import Array, Gradients, Mode, Need, ParameterSpec, Shape, known
from aiaas_async.nn.windows import Pair, infer_image, output_size


class DepthwiseConv2d(Convolution, frozen=True):
    """One filter for each channel; weight [kh, kw, channels]."""

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.stride, self.padding)
        return (*out, known(shapes[0][2], "the number of channels"))

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels, area = shapes[0][2], self.kernel[0] * self.kernel[1]
        return self.with_bias(ParameterSpec((*self.kernel, channels), "weight", (area, area)))

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        padded = self.framed(xs[0])
        y = correlate_depthwise(padded, ps[0], self.stride)
        if self.use_bias:
            add_rowwise(y, ps[1])
        return y, (padded, xs[0].shape)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        padded, (_, h, w, _) = saved
        grads = []
        if need.parameters:
            grads.append(_weight_gradient(padded, dy, self.kernel, self.stride))
            if self.use_bias:
                grads.append(sum_pixels(dy))
        if not need.inputs:
            return [None], grads
        return [correlate_depthwise(self.spread(dy, (h, w)), ps[0][::-1, ::-1], (1, 1))], grads


def correlate_depthwise(x: Array, weight: Array, stride: Pair) -> Array:
    """Slide `weight` [kh, kw, C] over the padded images [N, H, W, C], channel by channel."""
    kh, kw, channels = weight.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, "valid")
    if stride[1] != 1:
        seen = windows.windows(x, (kh, kw), stride)
        return np.asarray(np.einsum("nhwijc,ijc->nhwc", seen, weight))
    y = np.empty((len(x), *out, channels), np.result_type(x, weight))
    for part, pixels in _runs(out[1], weight.nbytes):
        seen = _seen(x, (kh, kw), (len(x), *out), stride[0], part, pixels)
        repeated = np.tile(weight, pixels)
        np.einsum("nhrijm,ijm->nhrm", seen, repeated, out=_as_runs(y[:, :, part], pixels))
    return y


def _weight_gradient(x: Array, dy: Array, kernel: Pair, stride: Pair) -> Array:
    """[kh, kw, C], from the padded images and the output's gradient."""
    if stride[1] != 1:
        seen = windows.windows(x, kernel, stride)
        return np.asarray(np.einsum("nhwijc,nhwc->ijc", seen, dy))
    channels = x.shape[3]
    total = np.zeros((*kernel, channels), dy.dtype)
    for part, pixels in _runs(dy.shape[2], total.nbytes):
        seen = _seen(x, kernel, dy.shape[:3], stride[0], part, pixels)
        each = np.einsum("nhrijm,nhrm->ijm", seen, _as_runs(dy[:, :, part], pixels))
        total += each.reshape(*kernel, pixels, channels).sum(axis=2)
    return total


def _runs(width: int, nbytes: int) -> Iterator[tuple[slice, int]]:
    """Parts of a row of `width` pixels, each with its pixels a run: as many as keep the kernel
    of `nbytes`, repeated for each, in the cache; then what is left over."""
    pixels = min(width, max(1, windows.TILE_BYTES // nbytes))
    whole = width - width % pixels
    yield slice(0, whole), pixels
    if whole < width:
        yield slice(whole, width), width - whole


def _seen(x: Array, kernel: Pair, positions: Shape, step: int, part: slice, pixels: int) -> Array:
    """What the windows of each run see: a read-only view [N, oh, runs, kh, kw, pixels C]."""
    x = np.ascontiguousarray(x)  # or a run of pixels would be no run in memory
    n, oh, _ = positions
    image, row, pixel, one = x.strides
    shape = (n, oh, (part.stop - part.start) // pixels, *kernel, pixels * x.shape[3])
    strides = (image, step * row, pixels * pixel, row, pixel, one)
    return as_strided(x[:, :, part.start :], shape, strides, writeable=False)


def _as_runs(y: Array, pixels: int) -> Array:
    """[N, oh, w, C] as a view [N, oh, runs, pixels C]."""
    n, oh, width, channels = y.shape
    return y.reshape(n, oh, width // pixels, pixels * channels)
