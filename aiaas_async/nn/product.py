"""Products of pixels and filters, in blocks so small that BLAS takes them as they lie, where it
does (`blas.py`).

So the pointwise convolutions of EfficientNet-Lite0 take 0.8 of the time; where BLAS copies
always, blocks would take up to 1.4 times as long as the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np

from aiaas_async.nn.blas import UNPACKED, in_panels, takes_as_it_lies
from aiaas_async.nn.layer import Array

FEWEST: Final = 28  # rows of a block; for fewer, the weight is read too often
MOST: Final = 98  # rows of a block of some of the columns
LANES: Final = 16  # float32 in a register: a block of some columns has a multiple of so many


def panels(weight: Array, rows: int) -> Array:
    """A copy of a weight [K, F] that is to meet so many rows at once, as [F / c, K, c]."""
    depth, filters = weight.shape
    columns = _columns(rows, depth, filters) if takes_as_it_lies() else filters
    return in_panels(weight, columns).copy()


def multiplied(x: Array, weight: Array, out: Array) -> Callable[[], Any]:
    """The call that computes rows x [m, w, K] times `panels` [F / c, K, c] into out [m, w, F]."""
    (count, width, depth), (parts, _, columns) = x.shape, weight.shape
    if _even(x) and _even(out):
        rows = count * width
        rows = _rows(rows, depth, columns) if takes_as_it_lies() else rows
        count, width = count * width // rows, rows
    across = out.reshape(count, width, parts, columns).swapaxes(1, 2)
    return partial(np.matmul, x.reshape(count, 1, width, depth), weight, out=across)


def _columns(rows: int, depth: int, filters: int) -> int:
    if UNPACKED // (depth * filters) >= FEWEST or filters % LANES:
        return filters
    for height in _divisors(rows, MOST, FEWEST) or [rows]:
        fit = _divisors(filters // LANES, UNPACKED // (height * depth * LANES), 1)
        if fit:
            return LANES * fit[0]
    return filters


def _even(x: Array) -> bool:
    """Whether all rows of x [m, w, K] are equally far apart."""
    between, within = x.strides[:2]
    return bool(between == x.shape[1] * within)


@lru_cache(maxsize=256)
def _rows(count: int, depth: int, columns: int) -> int:
    """Of a block, where there are `count` in all."""
    fit = _divisors(count, UNPACKED // (depth * columns), FEWEST)
    return fit[0] if fit else count


def _divisors(n: int, most: int, least: int) -> list[int]:
    """Of n, from the largest."""
    return [d for d in range(min(n, most), least - 1, -1) if n % d == 0]
