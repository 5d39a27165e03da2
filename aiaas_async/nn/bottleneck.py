"""An inverted residual block (Sandler et al. 2018) as one step, for predictions.

Pointwise convolution, depthwise convolution, pointwise convolution, with an activation between
each: what lies between is up to six times as wide as what goes in and comes out. Computed in
bands of rows it stays in the cache. Where the depthwise convolution skips columns, the wide
image is made with the columns apart that one column of the kernel meets (for stride 2 the even
and the odd ones), which costs nothing there and lets einsum run over several pixels.

The memory is laid out once and the numpy calls on it are listed once: to slice anew for each image
takes 1 ms of EfficientNet-Lite0's 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from aiaas_async.nn.depthwise import RUN, DepthwiseConv2d
from aiaas_async.nn.layer import Array, Shape
from aiaas_async.nn.product import LANES, multiplied, panels
from aiaas_async.nn.windows import output_size

WHOLE_BYTES: Final = 4 * 1024 * 1024  # up to that, one band: others would read the weights again
BAND_BYTES: Final = 2 * 1024 * 1024
DIRECT: Final = 14  # columns that a product has at once where it writes between the borders
DEPTH: Final = 672  # of a projection at once; for more, its panels would be narrow

Call = Callable[[], Any]
Apply = Callable[[Array, Array], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A convolution's weight and bias."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class _Part:
    """Columns of the wide image that are alike modulo the stride: `count` from `start` in the
    image, from `at` among their like, which are `width` with the border."""

    start: int
    count: int
    at: int
    width: int
    weight: Array  # [kh, taps, pixels of a run x channels]


class Block:
    """Expands, if it has a stage for that, filters and projects one image [H, W, C] at a time.

    `use` gives it its memory of `elements`, which others may use between the calls.
    """

    def __init__(
        self,
        layer: DepthwiseConv2d,
        shape: Shape,
        stages: tuple[Stage | None, Stage, Stage],
        applies: tuple[Apply | None, Apply],
    ) -> None:
        expansion, filters, projection = stages
        size = self._height, self._width = shape[0], shape[1]
        self._kernel, self._stride = layer.kernel, layer.stride
        self._above, before = (around[0] for around in layer.border(size))
        self._out = output_size(size, layer.kernel, layer.stride, layer.padding)
        self._channels, self.dtype = filters.weight.shape[2], filters.weight.dtype
        self._parts = list(self._apart(filters.weight, before))
        self._rows = self._band()
        self._applies = applies
        self._expansion = None if expansion is None else _stacked(expansion, prod(size))
        self._bias = np.tile(filters.bias, self._out[1])
        weight, slices = projection.weight[0, 0], -(-self._channels // DEPTH)
        self._projection = [
            panels(each, prod(self._out)) for each in np.array_split(weight, slices)
        ]
        self._offset = np.tile(projection.bias, self._out[1])
        self._shapes = list(self._needed())
        self._calls: list[Call] = []

    @property
    def shape(self) -> Shape:
        """Of the result."""
        return (*self._out, self._offset.size // self._out[1])

    @property
    def elements(self) -> int:
        return sum(_rounded(shape) for shape in self._shapes)

    def use(self, memory: Array) -> None:
        at, arrays = 0, []
        for shape in self._shapes:
            arrays.append(memory[at : at + prod(shape)].reshape(shape))
            at += _rounded(shape)
        self._y, self._fresh, self._sums, *apart = arrays
        self._wide, self._x = apart[: len(self._parts)], apart[len(self._parts) :]
        self._given = [image[..., :-1] for image in self._x] or [
            wide[self._above : self._above + self._height, part.at : part.at + part.count]
            for wide, part in zip(self._wide, self._parts, strict=True)
        ]
        self._calls = list(self._listed())

    def compute(self, x: Array, y: Array) -> None:
        for into, part in zip(self._given, self._parts, strict=True):
            into[:] = x[: len(into), part.start :: self._stride[1]][:, : part.count]
        for call in self._calls:
            call()
        rows = len(y), -1
        np.add(self._y.reshape(rows), self._offset, out=y.reshape(rows))

    def _apart(self, weight: Array, before: int) -> Iterator[_Part]:
        (_, kernel), (_, stride), (_, out) = self._kernel, self._stride, self._out
        run = _run(out, self._channels)
        for i in range(stride):
            start, taps = (i - before) % stride, -(-(kernel - i) // stride)
            at, needed = (start + before) // stride, out - 1 + taps
            count = min(len(range(start, self._width, stride)), needed - at)
            yield _Part(start, count, at, needed, np.tile(weight[:, i::stride], run))

    def _band(self) -> int:
        """Rows of the output that are computed at once."""
        wide = self._stride[0] * sum(part.width for part in self._parts)
        row = (wide + 2 * self._out[1]) * self._channels * self.dtype.itemsize
        whole = self._out[0] * row
        bands = 1 if whole <= WHOLE_BYTES else -(-whole // BAND_BYTES)
        return -(-self._out[0] // bands)

    def _needed(self) -> Iterator[Shape]:
        """The arrays: result, what is added to it or a part of the wide image without its border,
        sums of the depthwise convolution over the first and over another part, the parts of the
        wide image (of a band, unless it is what is given) and of the image that is expanded."""
        rows, channels = self._rows if self._expansion is not None else self._out[0], self._channels
        reach = (rows - 1) * self._stride[0] + self._kernel[0]
        yield self.shape
        narrow = max((p.count for p in self._parts if p.count < DIRECT), default=0)
        yield (max(reach * narrow * channels, prod(self.shape)),)
        yield len(self._parts[:2]), self._rows, self._out[1], channels
        yield from ((reach, part.width, channels) for part in self._parts)
        if self._expansion is not None:
            given = self._expansion.shape[1]
            yield from ((self._height, part.count, given) for part in self._parts)

    def _listed(self) -> Iterator[Call]:
        for image in self._x:
            yield partial(image[..., -1].fill, 1)
        for wide, part in zip(self._wide, self._parts, strict=True):
            yield from _cleared(wide[:, : part.at], wide[:, part.at + part.count :])
            if self._expansion is None:
                yield from _cleared(wide[: self._above], wide[self._above + self._height :])
        for top in range(0, self._out[0], self._rows):
            rows = self._y[top : top + self._rows]
            yield from self._filtered(top, len(rows))
            yield from self._projected(rows)

    def _filtered(self, top: int, count: int) -> Iterator[Call]:
        """Rows of the depthwise convolution, activated, into the first sums."""
        total, other = self._sums[0, :count], self._sums[-1, :count]
        for i, (wide, part) in enumerate(zip(self._wide, self._parts, strict=True)):
            begin = 0 if self._expansion is not None else top * self._stride[0]
            if self._expansion is not None:
                yield from self._expanded(i, self._expansion, top, count)
            found = other if i else total
            seen = self._seen(wide[begin:], part, count)
            into = found.reshape(*seen.shape[:2], -1)
            yield partial(np.einsum, "hrijm,ijm->hrm", seen, part.weight, out=into)
            if i:
                yield partial(np.add, total, other, out=total)
        yield _added(total, self._bias)
        yield partial(self._applies[1], total, total)

    def _projected(self, rows: Array) -> Iterator[Call]:
        begin, other = 0, self._fresh[: rows.size].reshape(rows.shape)
        for i, weight in enumerate(self._projection):
            end = begin + weight.shape[1]
            part = self._sums[0, : len(rows), :, begin:end]
            yield multiplied(part, weight, other if i else rows)
            if i:
                yield partial(np.add, rows, other, out=rows)
            begin = end

    def _expanded(self, i: int, weight: Array, top: int, count: int) -> Iterator[Call]:
        """The rows of a part of the wide image that so many rows of the output meet."""
        image, wide, part = self._x[i], self._wide[i], self._parts[i]
        apply = self._applies[0]
        assert apply is not None
        kernel, stride = self._kernel[0], self._stride[0]
        first, reach = top * stride - self._above, (count - 1) * stride + kernel
        kept = kernel - stride if top else 0  # made by the band before
        if kept:
            yield partial(np.copyto, wide[:kept], wide[self._rows * stride :][:kept])
        begin = max(first + kept, 0)
        end = max(begin, min(first + reach, self._height))
        yield from _cleared(wide[kept : begin - first], wide[end - first : reach])
        if begin == end or part.count == 0:
            return
        rows = wide[begin - first : end - first]
        inside = rows[:, part.at : part.at + part.count]
        if part.count >= DIRECT:
            yield multiplied(image[begin:end], weight, inside)
            yield partial(apply, rows, rows)  # the border too: zeros stay zeros
            return
        shape = end - begin, part.count, self._channels
        fresh = self._fresh[: prod(shape)].reshape(shape)
        yield multiplied(image[begin:end], weight, fresh)
        yield partial(apply, fresh, inside)

    def _seen(self, wide: Array, part: _Part, count: int) -> Array:
        """What the windows of each run of pixels see [rows, runs, kh, taps, pixels C]."""
        row, pixel, one = wide.strides
        run = part.weight.shape[2] // self._channels
        shape = (count, self._out[1] // run, *part.weight.shape)
        strides = (self._stride[0] * row, run * pixel, row, pixel, one)
        return as_strided(wide, shape, strides, writeable=False)


def _run(width: int, channels: int) -> int:
    """How many pixels einsum takes at once; all runs of a row are of one length."""
    most = min(width, max(1, RUN // channels))
    return next(n for n in range(most, 0, -1) if width % n == 0)


def _stacked(expansion: Stage, rows: int) -> Array:
    """The image gets a channel of ones: the bias is one more row of the weight."""
    return panels(np.concatenate([expansion.weight[0, 0], expansion.bias[None]]), rows)


def _cleared(*views: Array) -> Iterator[Call]:
    return (partial(view.fill, 0) for view in views if view.size)


def _added(rows: Array, bias: Array) -> Call:
    """The call that adds `bias` [w F] to each of the rows [h, w, F]."""
    flat = rows.reshape(len(rows), -1)
    return partial(np.add, flat, bias, out=flat)


def _rounded(shape: Shape) -> int:
    """Elements of an array, so that the next one begins a line of the cache."""
    return -(-prod(shape) // LANES) * LANES
