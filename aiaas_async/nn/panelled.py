"""Products with dense weights that lie in panels (`blas.py`).

A weight [4096, 4096] takes one thread for 2 rows 0.2 of the time that it takes as it was, for 8
0.35, for 32 0.6, for 128 0.85, for 512 and more 1.0 to 1.1. One row, for which BLAS never copies,
takes 0.8 if it is given twice: with two rows a kernel keeps the sums in registers and reads the
weight in order, while that for a vector writes them at every fourth number. Of [512, 512], in the
cache, one row takes 1.3 times as long (19 us), 8 half.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from aiaas_async.nn.blas import UNPACKED, in_panels
from aiaas_async.nn.layer import Array, Shape
from aiaas_async.nn.team import TEAM

ROWS: Final = 32  # of a block, at most
# Columns of a panel, the fastest first: registers of 16 float32; 40 for a thousand classes.
WIDTHS: Final = (32, 48, 40, 16)
# Numbers of a weight: smaller ones BLAS takes as they lie for 4 rows, and fewer rows come often.
SMALLEST: Final = UNPACKED // 4
SHALLOWEST: Final = 128  # depth of a block; the parts of more of them would take long to add
TOGETHER: Final = 2**18  # numbers that the calls of a few panels read again: a MiB, for the cache
# Rows x numbers of a weight, from which a second thread earns its waking: of [1024, 1024] 8 rows
# take as long with two, 12 rows 0.77.
SHARED: Final = 2**24
_TWICE: Final = 2
_AHEAD: Final = 16  # by such a part of all panels the caller's share is larger: 0.1 ms of 2
Applied = Callable[[Array, Array], None] | None  # an activation, as `Layer.apply`


def fits(shape: Shape) -> bool:
    """Whether a weight [K, N] is large enough for panels and divides into them."""
    depth, columns = shape
    width = _width(columns)
    return depth * columns >= SMALLEST and width > 0 and _depth(depth, width) >= SHALLOWEST


def as_panels(weight: Array) -> Array:
    """A weight [K, N] that `fits` as panels [N / width, K, width]: a view, to be copied."""
    return in_panels(weight, _width(weight.shape[1]))


def times(x: Array, weight: Array, bias: Array | None = None, apply: Applied = None) -> Array:
    """x [..., K] times a copy of `as_panels` [N / width, K, width], plus a bias [N], through an
    activation: [..., N].

    Where BLAS takes blocks as they lie, a row's bits depend neither on the rows beside it, if there
    are any, nor on the threads.
    """
    count, whole, width = weight.shape
    asked = math.prod(x.shape[:-1])
    rows = np.ascontiguousarray(x.reshape(asked, whole))
    if asked == 1:
        return _one(rows, weight, bias, apply).reshape(*x.shape[:-1], count * width)
    y = np.empty((asked, count * width), np.result_type(x, weight))
    _Product(rows, weight, y, _depth(whole, width), bias, apply).compute_all(asked)
    return y.reshape(*x.shape[:-1], count * width)


def _one(row: Array, weight: Array, bias: Array | None, apply: Applied) -> Array:
    """A row [1, K], given twice. Its weight drives everything else out of the caches, so that what
    comes between two products is slow, while nothing is read: the thread that is awake does it
    alone. Of the 0.58 ms in which no thread computed 4 x [4096, 4096] that took 0.1."""
    count, whole, width = weight.shape
    y = np.empty((_TWICE, count * width), np.result_type(row, weight))
    twice = row.repeat(_TWICE, axis=0)
    _Product(twice, weight, y, _depth(whole, width, _TWICE)).compute_all(1, count // _AHEAD)
    found = y[:1]
    if bias is not None:
        found += bias
    if apply is not None:
        apply(found, found)
    return found


@dataclass(slots=True)
class _Product:
    """Of x [M, K] and a weight [n, K, width] in blocks of `depth`, to be y [M, n * width]."""

    x: Array
    weight: Array
    y: Array
    depth: int
    bias: Array | None = None
    apply: Applied = None

    def compute_all(self, asked: int, more: int = 0) -> None:
        """All panels, for `asked` rows; with other threads if that is worth it, each of which gets
        `more` panels fewer than the caller."""
        count = len(self.weight)
        if (asked + 4) * self.weight.size >= SHARED:
            TEAM.share(count, self.compute, more)
        else:
            self.compute(0, count)

    def compute(self, begin: int, end: int) -> None:
        """The columns of panels `begin` to `end`, and bias and activation on them, in the thread
        that computed them."""
        x, width = self.x, self.weight.shape[2]
        out = in_panels(self.y, width)
        blocks = max(1, -(-len(x) // ROWS))
        edges = [len(x) * i // blocks for i in range(blocks + 1)]
        step = self._together(len(x) // blocks, blocks)
        for first in range(begin, end, step):
            some = slice(first, min(first + step, end))
            for top, bottom in itertools.pairwise(edges):
                self._block(x[top:bottom], some, out[some, top:bottom])
        columns = slice(begin * width, end * width)
        found = self.y[:, columns]
        if self.bias is not None:
            found += self.bias[columns]
        if self.apply is not None:
            self.apply(found, found)

    def _together(self, rows: int, blocks: int) -> int:
        """Of how many panels at a time what is read more than once stays in the cache: the parts of
        a sum, and where there are several blocks of rows, the weight. As many as that, since
        threads that call often wait for each other."""
        _, whole, width = self.weight.shape
        parts = whole // self.depth
        again = (rows * parts if parts > 1 else 0) + (whole if blocks > 1 else 0)
        return max(1, TOGETHER // (again * width)) if again else sys.maxsize

    def _block(self, x: Array, some: slice, out: Array) -> None:
        """Some panels for a few rows: in blocks of `depth`, added up."""
        weight = self.weight[some]
        count, whole, width = weight.shape
        if self.depth == whole:
            np.matmul(x, weight, out=out)
            return
        parts = whole // self.depth
        deep = x.reshape(len(x), parts, self.depth).swapaxes(0, 1)
        found = np.matmul(deep, weight.reshape(count, parts, self.depth, width))
        np.add.reduce(found, axis=1, out=out)


@lru_cache(maxsize=1024)
def _depth(whole: int, width: int, rows: int = ROWS) -> int:
    """The largest divisor of `whole` with which a block of `rows` is not copied. `ROWS` also for
    fewer of them: else a row's sum would depend on how many others there are."""
    most = min(whole, UNPACKED // (rows * width))
    return next(depth for depth in range(most, 0, -1) if whole % depth == 0)


def _width(columns: int) -> int:
    return next((width for width in WIDTHS if columns % width == 0), 0)
