"""Threads of one process that compute parts of one product side by side.

BLAS has threads of its own for what it computes in one call; a product made of many small calls
is divided here. numpy gives up the interpreter's lock while it computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import Final

_MOST: Final = 256  # threads; each is started when all others have something to do


class Team:
    """`size` threads, the caller among them. A process that forks must not have used it before."""

    def __init__(self, size: int = 1) -> None:
        self._size = self._first = size

    @cached_property
    def _others(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_MOST, "team")

    def use(self, size: int) -> None:
        """Use so many threads from now on; 0 stands for as many as it began with."""
        self._size = size or self._first

    def share(self, count: int, work: Callable[[int, int], None]) -> None:
        """Do `work(begin, end)` for parts that together are 0 to `count`; returns when all are
        done, and raises what the first part that failed raised. Where no thread can be started,
        the caller does all of it."""
        parts = max(1, min(self._size, count))
        bounds = [count * part // parts for part in range(parts + 1)]
        try:
            others = [self._others.submit(work, *bounds[i : i + 2]) for i in range(1, parts)]
        except RuntimeError:  # beyond a limit on processes, or on address space
            self._others.shutdown(cancel_futures=True)
            work(0, count)
            return
        try:
            work(*bounds[:2])
        finally:
            wait(others)
        for other in others:
            other.result()


def threads_at_start() -> int:
    """As many as the process was given for BLAS (`compute/pool.py`)."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else 1


TEAM: Final = Team(threads_at_start())  # as BLAS's own threads, one team serves the process
