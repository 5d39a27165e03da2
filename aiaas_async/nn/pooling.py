"""Pooling over NHWC images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from aiaas_async.nn.layer import Array, Borders, Gradients, Layer, Mode, Need, Pair, Shape, rank
from aiaas_async.nn.windows import (
    Padding,
    Slices,
    Window,
    along,
    groups,
    infer_image,
    output_size,
    pad,
    pads,
    pixels,
    taken,
    unpad,
)

# Of images whose gradients are computed at once, about a common L2 cache: on 128 images of
# 28x28x16 that takes 2.4 ms, and with fewer at once numpy's calls cost as much as they save.
GROUP_BYTES: Final = 1024 * 1024


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
        dpadded = np.empty(padded.shape, dy.dtype)
        for at in groups(len(dy), padded[:1].nbytes, GROUP_BYTES):
            dtall = np.empty(tall[at].shape, dy.dtype)
            self._to_largest(dy[at], tall[at], y[at], 1, dtall)
            self._to_largest(dtall, padded[at], tall[at], 0, dpadded[at])
        return [unpad(dpadded, around)], []

    def _largest(self, x: Array, side: int, out: Pair) -> Array:
        first, *others = along(side, self.kernel, self.steps, out)
        y = x[first].copy() if side == 0 else taken(x, first)
        for at in others:
            np.maximum(y, x[at] if side == 0 else taken(x, at), out=y)
        return y

    def _to_largest(self, dy: Array, x: Array, y: Array, side: int, dx: Array) -> None:
        """Hand dy, in dx, to the first element of x in each window that equals the window's y."""
        step, size, left = self.steps[side], self.kernel[side], dy
        if step != size or y.shape[1 + side] * step != x.shape[1 + side]:
            dx[:] = 0
        *places, last = along(side, self.kernel, self.steps, y.shape[1:3])
        for at in places:
            share = ((x[at] if side == 0 else taken(x, at)) == y) * left
            left = left - share
            self._hand(dx, at, share, side)
        self._hand(dx, last, left, side)

    def _hand(self, dx: Array, at: Slices, share: Array, side: int) -> None:
        if self.steps[side] < self.kernel[side]:
            dx[at] += share
        elif side == 0:
            dx[at] = share
        else:
            pixels(dx)[at] = pixels(np.ascontiguousarray(share))


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
