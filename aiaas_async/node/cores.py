"""Cores: a node that works alone may use those of the nodes that have nothing to do.

One BLAS thread a node is right while all are busy. A lone request to a large network would then
leave every other core idle, and take as long as on a machine of one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

# Whoever worked so lately will work again at once: more threads than cores wait for each other,
# and a batch takes 2 to 5 times as long.
_LATELY_S: Final = 0.1


class Cores:
    """The `count` cores of a machine (0: none is lent) for workers of `threads` threads each.

    Workers go by names; times are the loop's, in seconds.
    """

    def __init__(self, count: int = 0, threads: int = 1) -> None:
        self._count, self._threads = count, threads
        self._used_until: dict[str, float] = {}

    def begin(self, worker: str) -> None:
        """`worker` has something to do."""
        self._used_until[worker] = math.inf

    def end(self, worker: str, now: float) -> None:
        """`worker` has nothing more to do."""
        self._used_until[worker] = now

    def forget(self, worker: str) -> None:
        """`worker` is no more."""
        self._used_until.pop(worker, None)

    @contextmanager
    def taken(self, workers: Iterable[str]) -> Iterator[None]:
        """All of these are at work."""
        names = tuple(workers)
        for name in names:
            self.begin(name)
        try:
            yield
        finally:
            for name in names:
                self.forget(name)

    def share(self, worker: str, now: float) -> int:
        """How many threads a job of `worker` may use: its own and its share of what is idle; 0
        where that is no more than its own."""
        others = sum(
            until > now - _LATELY_S for name, until in self._used_until.items() if name != worker
        )
        share = self._count // (1 + others)
        return share if share > self._threads else 0
