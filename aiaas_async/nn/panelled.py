"""Products with weights that lie in panels of 32 columns, which BLAS need not pack.

OpenBLAS copies a weight into its own order at every product, and what a batch of few rows computes
with it does not earn that back. Blocks of at most 100^3 multiply-adds its AVX-512 kernels take as
they lie (`product.py`), if their columns lie together: a weight [4096, 4096] on one thread takes
a batch of 2 rows 0.2 of the time, of 8 0.35, of 32 0.62, of 128 0.85; and one row, which BLAS
never packs for, 0.85, since memory is read in order. Its AVX2 kernels pack always: there, blocks
take 1.1 to 1.4 times as long, so no weight is laid out for them.
"""

from __future__ import annotations

import itertools
import math
import sys
from functools import cache, lru_cache, partial
from typing import Final

import numpy as np
from threadpoolctl import threadpool_info

from aiaas_async.nn.layer import Array, Shape
from aiaas_async.nn.product import UNPACKED
from aiaas_async.nn.team import TEAM

COLUMNS: Final = 32  # of a panel: two registers of 16 float32
ROWS: Final = 32  # of a block, at most
# Numbers of a weight: smaller ones BLAS takes as they lie for 4 rows, and fewer rows come often.
SMALLEST: Final = UNPACKED // 4
SHALLOWEST: Final = 128  # depth of a block; the parts of more of them would take long to add
TOGETHER: Final = 2**18  # numbers that the calls of a few panels read again: a MiB, for the cache
SHARED: Final = 2**23  # rows x numbers of a weight, from which a second thread earns its waking
# OpenBLAS's names of the cores for which it has such kernels.
_IN_PLACE: Final = {"SkylakeX", "Cooperlake", "SapphireRapids"}


@cache
def pays() -> bool:
    """Whether this process's BLAS has kernels that take small blocks as they lie."""
    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    return bool(libraries) and all(
        each["internal_api"] == "openblas" and each.get("architecture") in _IN_PLACE
        for each in libraries
    )


def fits(shape: Shape) -> bool:
    """Whether a weight [K, N] is large enough for panels and divides into them."""
    depth, columns = shape
    large, even = depth * columns >= SMALLEST, columns % COLUMNS == 0
    return large and even and _depth(depth, ROWS) >= SHALLOWEST


def in_panels(weight: Array) -> Array:
    """A weight [K, N] as panels [N / 32, K, 32]: a view, whose copies lie as `times` wants."""
    depth, columns = weight.shape
    return weight.reshape(depth, columns // COLUMNS, COLUMNS).swapaxes(0, 1)


def times(x: Array, weight: Array) -> Array:
    """x [..., K] times panels [N / 32, K, 32] of a weight: [..., N]."""
    panels, depth, _ = weight.shape
    rows = np.ascontiguousarray(x.reshape(math.prod(x.shape[:-1]), depth))
    y = np.empty((len(rows), panels * COLUMNS), np.result_type(x, weight))
    out = y.reshape(len(rows), panels, COLUMNS).swapaxes(0, 1)
    work = partial(_compute, rows, weight, out)
    if (len(rows) + 4) * weight.size >= SHARED:
        TEAM.share(panels, work)
    else:
        work(0, panels)
    return y.reshape(*x.shape[:-1], panels * COLUMNS)


def _compute(x: Array, weight: Array, out: Array, begin: int, end: int) -> None:
    """Panels `begin` to `end` of x [M, K] times weight [n, K, 32], into out [n, M, 32]."""
    if len(x) == 1:
        np.vecmat(x[0], weight[begin:end], out=out[begin:end, 0])
        return
    blocks = max(1, -(-len(x) // ROWS))
    edges = [len(x) * i // blocks for i in range(blocks + 1)]
    step = _together(weight.shape[1], len(x), blocks)
    for first in range(begin, end, step):
        some = slice(first, min(first + step, end))
        for top, bottom in itertools.pairwise(edges):
            _block(x[top:bottom], weight[some], out[some, top:bottom])


def _together(depth: int, rows: int, blocks: int) -> int:
    """Of how many panels at a time what is read more than once stays in the cache: the parts of
    a sum, and where there are several blocks of rows, the weight. As many as that, since threads
    that call often wait for each other."""
    count = depth // _depth(depth, rows // blocks)
    again = (rows // blocks * count if count > 1 else 0) + (depth if blocks > 1 else 0)
    return max(1, TOGETHER // (again * COLUMNS)) if again else sys.maxsize


def _block(x: Array, weight: Array, out: Array) -> None:
    """A few panels for a few rows: in as deep blocks as are computed in place, added up."""
    panels, whole, _ = weight.shape
    depth = _depth(whole, len(x))
    if depth == whole:
        np.matmul(x, weight, out=out)
        return
    count = whole // depth
    deep = x.reshape(len(x), count, depth).swapaxes(0, 1)
    parts = np.matmul(deep, weight.reshape(panels, count, depth, COLUMNS))
    np.add.reduce(parts, axis=1, out=out)


@lru_cache(maxsize=1024)
def _depth(whole: int, rows: int) -> int:
    """The largest divisor of `whole` with which a block of so many rows is computed in place."""
    most = min(whole, UNPACKED // (max(rows, 1) * COLUMNS))
    return next(depth for depth in range(most, 0, -1) if whole % depth == 0)
