"""Cores: a node that works alone may use those of the nodes that have nothing to do.

One BLAS thread a node is right while all are busy. A lone request to a large network would then
leave every other core idle, and take as long as on a machine of one core. The server's own process
counts among the busy when it is: threads that share a core with it keep the others waiting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

# Whoever worked so lately will work again at once: more threads than cores wait for each other,
# and a batch takes 2 to 5 times as long.
_LATELY_S: Final = 0.1
# Of a core. Beside a process that used 0.4 of one, two threads did 152 rows a second, one 173;
# beside one that used 0.8, 54 and 139.
_BUSY: Final = 0.25


class Cores:
    """The `count` cores of a machine (0: none is lent) for workers of `threads` threads each.

    Workers go by names; times are the loop's, in seconds. `spent` tells how many seconds of a core
    this process has used.
    """

    def __init__(
        self, count: int = 0, threads: int = 1, spent: Callable[[], float] = time.process_time
    ) -> None:
        self._count, self._threads, self._spent = count, threads, spent
        self._used_until: dict[str, float] = {}
        self._busy, self._seen_at, self._seen = False, -math.inf, 0.0

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
        share = (self._count - self._is_busy(now)) // (1 + others)
        return share if share > self._threads else 0

    def _is_busy(self, now: float) -> bool:
        """Whether this process itself keeps a core busy, as of the last `_LATELY_S` or more."""
        if now - self._seen_at >= _LATELY_S:
            spent = self._spent()
            self._busy = spent - self._seen > _BUSY * (now - self._seen_at)
            self._seen_at, self._seen = now, spent
        return self._busy
