"""All parameters as one flat vector, cut into a segment for each worker, summed in a fixed order.

Each worker adds up its own segment of everybody's gradients and takes the optimiser's step there:
every number is stepped once, by one worker, and its sum does not depend on who came first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from aiaas_async.nn.layer import Array, Shape

_GRAIN: Final = 16  # numbers; a parameter and a segment begin at a cache line


@dataclass(frozen=True, slots=True)
class Vector:
    """Where each parameter lies in a flat vector of `size` numbers; what lies between is zero."""

    shapes: Mapping[str, Shape]
    offsets: Mapping[str, int]
    size: int

    @classmethod
    def of(cls, shapes: Mapping[str, Shape]) -> Vector:
        offsets, end = {}, 0
        for name, shape in shapes.items():
            offsets[name] = end
            end += -(-math.prod(shape) // _GRAIN) * _GRAIN
        return cls(dict(shapes), offsets, end)

    def views(self, flat: Array) -> dict[str, Array]:
        """The parameters as views of `flat`."""
        return {
            name: flat[at : at + math.prod(self.shapes[name])].reshape(self.shapes[name])
            for name, at in self.offsets.items()
        }


def segments(size: int, count: int) -> list[slice]:
    """`size` numbers in `count` parts, as equal as cache lines allow; some may be empty."""
    lines = -(-size // _GRAIN)
    ends = [min(size, (lines * part // count) * _GRAIN) for part in range(count)] + [size]
    return [slice(a, b) for a, b in pairwise(ends)]


def share(count: int, rank: int, world: int) -> slice:
    """The part of `count` items that worker `rank` of `world` computes."""
    return slice(count * rank // world, count * (rank + 1) // world)


def add_in_order(parts: Sequence[Array], out: Array) -> Array:
    """The sum of `parts`, always from the first to the last, in `out`."""
    np.copyto(out, parts[0])
    for part in parts[1:]:
        out += part
    return out
