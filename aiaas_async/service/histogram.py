"""A histogram: how many values fell below each of a few bounds, and their sum."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final


class Histogram:
    """`counts` has one place for each of `bounds`, which rise, and one for what is above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds: Final = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"
