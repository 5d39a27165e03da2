"""Which items make which batch: an order per epoch, a function of the seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 to n - 1: Philox (Salmon et al. 2011) keyed by (seed, epoch).

    Any epoch's order can be had without the earlier ones, so a resumed run meets the same
    batches. `seed` and `epoch` in 0 to 2**64 - 1.
    """
    key = np.array([seed, epoch], np.uint64)
    order: NDArray[np.int64] = np.random.Generator(np.random.Philox(key=key)).permutation(n)
    return order


def minibatches(n: int, size: int) -> Iterator[slice]:
    """Slices of `size` over n items; the last may be shorter. `size` is at least 1."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))
