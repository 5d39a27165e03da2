"""Pooling over NHWC images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from aiaas_async.nn.layer import Array, Borders, Gradients, Layer, Mode, Need, Pair, Shape, rank
from aiaas_async.nn.windows import (
    Padding,
    Window,
    along,
    infer_image,
    output_size,
    pad,
    pads,
    unpad,
)


class _Pool(Layer, frozen=True):
    kernel: Window = (2, 2)
    stride: Window | None = None
    padding: Padding = "valid"

    @property
    def steps(self) -> Pair:
        """The stride; by default windows do not overlap."""
        return self.kernel if self.stride is None else self.stride

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        out = infer_image(shapes[0], self.kernel, self.steps, self.padding)
        return (*out, shapes[0][2])

    def _geometry(self, x: Array) -> tuple[Borders, Pair]:
        size = (x.shape[1], x.shape[2])
        around = pads(size, self.kernel, self.steps, self.padding)
        return around, output_size(size, self.kernel, self.steps, self.padding)


class MaxPool(_Pool, frozen=True):
    """The largest of each window; of equals the first gets the gradient, by column, then row.

    The maximum of a window is that of its columns' maxima, so height and width go in turn.
    """

    KEEPS_OUTPUT: ClassVar[bool] = True

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        around, out = self._geometry(xs[0])
        padded = pad(xs[0], around, -np.inf)
        tall = self._largest(padded, 0, out)
        y = self._largest(tall, 1, out)
        return y, (padded, tall, y, around)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        padded, tall, y, around = saved
        dpadded = self._to_largest(self._to_largest(dy, tall, y, 1), padded, tall, 0)
        return [unpad(dpadded, around)], []

    def _largest(self, x: Array, side: int, out: Pair) -> Array:
        first, *others = along(side, self.kernel, self.steps, out)
        y: Array = x[first].copy()
        for at in others:
            np.maximum(y, x[at], out=y)
        return y

    def _to_largest(self, dy: Array, x: Array, y: Array, side: int) -> Array:
        """Hand dy to the first element of x in each window that equals the window's y."""
        step, size = self.steps[side], self.kernel[side]
        covered = step == size and y.shape[1 + side] * step == x.shape[1 + side]
        dx, left = (np.empty if covered else np.zeros)(x.shape, dy.dtype), dy
        *places, last = along(side, self.kernel, self.steps, y.shape[1:3])
        for at in places:
            share = np.empty_like(left)
            np.equal(x[at], y, out=share, casting="unsafe")
            share *= left
            left = left - share
            dx[at] = dx[at] + share if step < size else share
        dx[last] = dx[last] + left if step < size else left
        return dx


class AvgPool(_Pool, frozen=True):
    """The mean of each window; padding counts as zeros, as PyTorch has it."""

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        around, out = self._geometry(xs[0])
        padded = pad(xs[0], around)
        tall = self._sum(padded, 0, out)
        y = self._sum(tall, 1, out)
        y *= self._share(y)
        return y, (padded.shape, tall.shape, around)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        shape, tall, around = saved
        dtall, dpadded = np.zeros(tall, dy.dtype), np.zeros(shape, dy.dtype)
        for at in along(1, self.kernel, self.steps, dy.shape[1:3]):
            dtall[at] += dy
        dtall *= self._share(dy)
        for at in along(0, self.kernel, self.steps, dy.shape[1:3]):
            dpadded[at] += dtall
        return [unpad(dpadded, around)], []

    def _sum(self, x: Array, side: int, out: Pair) -> Array:
        first, *others = along(side, self.kernel, self.steps, out)
        y: Array = x[first].copy()
        for at in others:
            y += x[at]
        return y

    def _share(self, like: Array) -> Array:
        return np.asarray(1.0 / (self.kernel[0] * self.kernel[1]), like.dtype)


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
