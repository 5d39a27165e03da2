"""Threads of one process that compute parts of one product side by side.

BLAS has threads of its own for what it computes in one call; a product made of many small calls
is divided here. numpy gives up the interpreter's lock while it computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final


class Team:
    """`size` threads, the caller among them; the others are started when they are first needed."""

    def __init__(self, size: int = 1) -> None:
        self._size = self._first = size
        self._others: ThreadPoolExecutor | None = None
        self._started = 0

    def use(self, size: int) -> None:
        """Use so many threads from now on; 0 stands for as many as it began with."""
        self._size = size or self._first

    def share(self, count: int, work: Callable[[int, int], None]) -> None:
        """Do `work(begin, end)` for parts that together are 0 to `count`; returns when all are
        done, and raises what the first part that failed raised."""
        parts = min(self._size, count)
        if parts < 2:
            work(0, count)
            return
        bounds = [count * part // parts for part in range(parts + 1)]
        pool = self._pool(parts - 1)
        others = [pool.submit(work, *bounds[i : i + 2]) for i in range(1, parts)]
        try:
            work(*bounds[:2])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _pool(self, size: int) -> ThreadPoolExecutor:
        if self._others is None or self._started < size:
            if self._others is not None:
                self._others.shutdown()
            self._others, self._started = ThreadPoolExecutor(size, "team"), size
        return self._others


def threads_at_start() -> int:
    """As many as BLAS begins with: what the worker's process was given."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else 1


TEAM: Final = Team(threads_at_start())  # as BLAS's own threads, one team serves the process
