"""Depthwise convolution over NHWC images: one einsum over strided windows.

5 to 7 billion multiply-adds a second on one core, where shifted multiply-adds over the whole
image make 1 to 3. numpy's inner loop runs over what the operands share at the end: the channels
alone are a short loop, so where neighbouring windows are neighbours in memory (horizontal
stride 1) it runs over several pixels at once, a "run", with the kernel repeated for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from aiaas_async.nn.convolution import Convolution, sum_pixels
from aiaas_async.nn.layer import (
    PLAIN,
    Array,
    Ending,
    Gradients,
    Mode,
    Need,
    Pair,
    ParameterSpec,
    Shape,
    known,
)
from aiaas_async.nn.output import Output
from aiaas_async.nn.windows import infer_image, output_size

RUN: Final = 2048  # floats: what a run reads and sums stays in an L1 cache of 32 KiB


class DepthwiseConv2d(Convolution, frozen=True):
    """One filter for each channel; weight [kh, kw, channels]."""

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.stride, self.padding)
        return (*out, known(shapes[0][2], "the number of channels"))

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels, area = shapes[0][2], self.kernel[0] * self.kernel[1]
        return self.with_bias(ParameterSpec((*self.kernel, channels), "weight", (area, area)))

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        padded = self.framed(xs[0], mode)
        bias = ps[1] if self.use_bias else None
        y = correlate_depthwise(padded, ps[0], self.stride, bias, mode.ending)
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


def correlate_depthwise(
    x: Array, weight: Array, stride: Pair, bias: Array | None = None, ending: Ending = PLAIN
) -> Array:
    """Slide `weight` [kh, kw, C] over the padded images [N, H, W, C], channel by channel."""
    kh, kw, channels = weight.shape
    shape = (len(x), *output_size(x.shape[1:3], (kh, kw), stride, "valid"), channels)
    output = Output(shape, np.result_type(x, weight), ending, bias)
    views = [
        (part, _seen(x, (kh, kw), shape[:3], stride, part, pixels), np.tile(weight, pixels))
        for part, pixels in _runs(shape[2], weight, stride)
    ]
    for (images, rows), y in output.parts():
        for part, seen, repeated in views:
            out = _as_runs(y[:, :, part], seen.shape[2])
            np.einsum("nhrijm,ijm->nhrm", seen[images, rows], repeated, out=out)
    return output.whole


def _weight_gradient(x: Array, dy: Array, kernel: Pair, stride: Pair) -> Array:
    """[kh, kw, C], from the padded images and the output's gradient."""
    channels = x.shape[3]
    total = np.zeros((*kernel, channels), dy.dtype)
    for part, pixels in _runs(dy.shape[2], total, stride):
        seen = _seen(x, kernel, dy.shape[:3], stride, part, pixels)
        each = np.einsum("nhrijm,nhrm->ijm", seen, _as_runs(dy[:, :, part], seen.shape[2]))
        total += each.reshape(*kernel, pixels, channels).sum(axis=2)
    return total


def _runs(width: int, weight: Array, stride: Pair) -> Iterator[tuple[slice, int]]:
    """Parts of a row of `width` pixels, each with its pixels a run; then what is left over."""
    most = min(width, max(1, RUN // weight.shape[2])) if stride[1] == 1 else 1
    even = (n for n in range(most, (most - 1) // 2, -1) if width % n == 0)
    pixels = next(even, most)
    whole = width - width % pixels
    yield slice(0, whole), pixels
    if whole < width:
        yield slice(whole, width), width - whole


def _seen(
    x: Array, kernel: Pair, positions: Shape, stride: Pair, part: slice, pixels: int
) -> Array:
    """What the windows of each run see: a read-only view [N, oh, runs, kh, kw, pixels C]."""
    x = np.ascontiguousarray(x)  # or a run of pixels would be no run in memory
    n, oh, _ = positions
    image, row, pixel, one = x.strides
    shape = (n, oh, (part.stop - part.start) // pixels, *kernel, pixels * x.shape[3])
    strides = (image, stride[0] * row, stride[1] * pixels * pixel, row, pixel, one)
    return as_strided(x[:, :, stride[1] * part.start :], shape, strides, writeable=False)


def _as_runs(y: Array, runs: int) -> Array:
    """[N, oh, w, C] as a view [N, oh, runs, pixels C]."""
    n, oh, width, channels = y.shape
    return y.reshape(n, oh, runs, width // runs * channels)
