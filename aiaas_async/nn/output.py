"""Where a convolution's output goes: part by part, each finished while it is in the cache.

Bias, activation and the border that the next layer wants would be passes of their own, each over
an output that may have left the cache; activation and border are one here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from aiaas_async.nn.layer import Array, Ending, Shape
from aiaas_async.nn.windows import NO_BORDER, Tile, frame, framed_shape, tiles

PART_BYTES: Final = 2 * 1024 * 1024  # smaller parts cost more in calls than they save in fetches


class Output:
    """An output [N, oh, ow, F]; `whole` is it with the border that its reader wants."""

    def __init__(
        self, shape: Shape, dtype: DTypeLike, ending: Ending, bias: Array | None = None
    ) -> None:
        self.whole: Array = np.empty(framed_shape(shape, ending.border), dtype)
        self._inner = frame(self.whole, ending.border)
        self._bordered = ending.border != NO_BORDER
        self._apply = ending.apply
        self._bias = None if bias is None else np.tile(bias, shape[2])

    def parts(self) -> Iterator[tuple[Tile, Array]]:
        """All of it part by part, each [n, rows, ow, F], to be computed before the next one is
        asked for."""
        shape = self._inner.shape
        for at in tiles(shape[:3], shape[3] * self.whole.itemsize, PART_BYTES):
            part = self.part(at)
            yield at, part
            self.end(at, part)

    def part(self, at: Tile) -> Array:
        """An array [n, rows, ow, F] to compute that part into."""
        out = self._inner[at]
        return np.empty(out.shape, out.dtype) if self._bordered else out

    def end(self, at: Tile, part: Array) -> None:
        """Take up a part that has been computed."""
        if self._bias is not None:
            add_rowwise(part, self._bias)
        if self._apply is not None:
            self._apply(part, self._inner[at])
        elif self._bordered:
            self._inner[at] = part


def add_rowwise(y: Array, bias: Array) -> None:
    """Add `bias` [W F] to each row of pixels of y [N, H, W, F], in place.

    A row at a time: numpy's loop over F alone would be a tenth as fast for small F.
    """
    n, h, w, f = y.shape
    rows = y.reshape(n, h, w * f)
    rows += bias
