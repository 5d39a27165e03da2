"""Pooling over NHWC images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.nn.layer import Array, Gradients, Layer, Mode, Need, Shape, rank
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


class _Pool(Layer, frozen=True):
    kernel: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"

    @property
    def steps(self) -> Pair:
        """The stride; by default windows do not overlap."""
        return self.kernel if self.stride is None else self.stride

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.steps, self.padding)
        return (*out, shapes[0][2])

    def _geometry(self, x: Array) -> tuple[tuple[Pair, Pair], Pair]:
        size = (x.shape[1], x.shape[2])
        around = pads(size, self.kernel, self.steps, self.padding)
        return around, output_size(size, self.kernel, self.steps, self.padding)


class MaxPool(_Pool, frozen=True):
    """The largest of each window; of equals the first gets the gradient."""

    KEEPS_OUTPUT: ClassVar[bool] = True

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        around, out = self._geometry(xs[0])
        padded = pad(xs[0], around, -np.inf)
        y: Array | None = None
        for at in offsets(self.kernel, self.steps, out):
            y = padded[at].copy() if y is None else np.maximum(y, padded[at], out=y)
        assert y is not None
        return y, (padded, y, around)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        padded, y, around = saved
        dpadded = np.zeros(padded.shape, dy.dtype)
        unclaimed = np.ones(y.shape, np.bool_)
        for at in offsets(self.kernel, self.steps, y.shape[1:3]):
            largest = padded[at] == y
            largest &= unclaimed
            unclaimed ^= largest
            dpadded[at] += dy * largest
        return [unpad(dpadded, around)], []


class AvgPool(_Pool, frozen=True):
    """The mean of each window; padding counts as zeros, as PyTorch has it."""

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        around, out = self._geometry(xs[0])
        padded = pad(xs[0], around)
        y = np.zeros((len(padded), *out, padded.shape[3]), padded.dtype)
        for at in offsets(self.kernel, self.steps, out):
            y += padded[at]
        y *= 1.0 / (self.kernel[0] * self.kernel[1])
        return y, (padded.shape, around, out)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        shape, around, out = saved
        share = dy * (1.0 / (self.kernel[0] * self.kernel[1]))
        dpadded = np.zeros(shape, dy.dtype)
        for at in offsets(self.kernel, self.steps, out):
            dpadded[at] += share
        return [unpad(dpadded, around)], []


class GlobalAvgPool(Layer, frozen=True):
    """The mean over height and width: [N, H, W, C] to [N, C]."""

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        rank(shapes[0], 3, "images [height, width, channels]")
        return (shapes[0][2],)

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        return xs[0].mean(axis=(1, 2)), xs[0].shape

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        share = dy[:, None, None, :] * (1.0 / (saved[1] * saved[2]))
        return [np.broadcast_to(share, saved).copy()], []
