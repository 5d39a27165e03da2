"""Products with dense weights that lie in panels (`blas.py`).

A weight [4096, 4096] takes one thread for 2 rows 0.2 of the time that it takes as it was, for 8
0.35, for 32 0.6, for 128 0.85, for 512 and more 1.0 to 1.1; for one row, which BLAS never copies
for, 0.85, since memory is read in order. Of [512, 512] one row takes 1.5 times as long (20 us),
8 half.
"""

from __future__ import annotations

import itertools
import math
import sys
from functools import lru_cache, partial
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


def fits(shape: Shape) -> bool:
    """Whether a weight [K, N] is large enough for panels and divides into them."""
    depth, columns = shape
    width = _width(columns)
    return depth * columns >= SMALLEST and width > 0 and _depth(depth, width) >= SHALLOWEST


def as_panels(weight: Array) -> Array:
    """A weight [K, N] that `fits` as panels [N / width, K, width]: a view, to be copied."""
    return in_panels(weight, _width(weight.shape[1]))


def times(x: Array, weight: Array) -> Array:
    """x [..., K] times a copy of `as_panels` [N / width, K, width]: [..., N].

    Where BLAS takes blocks as they lie, a row's bits depend neither on the rows beside it, if there
    are any, nor on the threads.
    """
    count, depth, width = weight.shape
    rows = np.ascontiguousarray(x.reshape(math.prod(x.shape[:-1]), depth))
    y = np.empty((len(rows), count * width), np.result_type(x, weight))
    out = in_panels(y, width)
    work = partial(_compute, rows, weight, out)
    if (len(rows) + 4) * weight.size >= SHARED:
        TEAM.share(count, work)
    else:
        work(0, count)
    return y.reshape(*x.shape[:-1], count * width)


def _compute(x: Array, weight: Array, out: Array, begin: int, end: int) -> None:
    """Panels `begin` to `end` of x [M, K] times weight [n, K, width], into out [n, M, width]."""
    if len(x) == 1:
        np.vecmat(x[0], weight[begin:end], out=out[begin:end, 0])
        return
    blocks = max(1, -(-len(x) // ROWS))
    edges = [len(x) * i // blocks for i in range(blocks + 1)]
    step = _together(weight, len(x) // blocks, blocks)
    for first in range(begin, end, step):
        some = slice(first, min(first + step, end))
        for top, bottom in itertools.pairwise(edges):
            _block(x[top:bottom], weight[some], out[some, top:bottom])


def _together(weight: Array, rows: int, blocks: int) -> int:
    """Of how many panels at a time what is read more than once stays in the cache: the parts of
    a sum, and where there are several blocks of rows, the weight. As many as that, since threads
    that call often wait for each other."""
    _, depth, width = weight.shape
    parts = depth // _depth(depth, width)
    again = (rows * parts if parts > 1 else 0) + (depth if blocks > 1 else 0)
    return max(1, TOGETHER // (again * width)) if again else sys.maxsize


def _block(x: Array, weight: Array, out: Array) -> None:
    """A few panels for a few rows: in as deep blocks as are not copied, added up."""
    count, whole, width = weight.shape
    depth = _depth(whole, width)
    if depth == whole:
        np.matmul(x, weight, out=out)
        return
    parts = whole // depth
    deep = x.reshape(len(x), parts, depth).swapaxes(0, 1)
    found = np.matmul(deep, weight.reshape(count, parts, depth, width))
    np.add.reduce(found, axis=1, out=out)


@lru_cache(maxsize=1024)
def _depth(whole: int, width: int) -> int:
    """The largest divisor of `whole` with which a block of `ROWS` is not copied: for fewer rows
    there are larger ones, but then a row's sum would depend on how many others there are."""
    most = min(whole, UNPACKED // (ROWS * width))
    return next(depth for depth in range(most, 0, -1) if whole % depth == 0)


def _width(columns: int) -> int:
    return next((width for width in WIDTHS if columns % width == 0), 0)
