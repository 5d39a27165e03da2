"""Threads of one process that compute parts of one product side by side.

BLAS has threads of its own for what it computes in one call; a product made of many small calls
is divided here. numpy gives up the interpreter's lock while it computes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aiaas_async.nn.binding import Binding

MOST: Final = 256  # threads


class _Helper:
    """A thread that does one thing at a time. Two locks, since a future of `concurrent.futures`
    costs 30 us more where a product has driven its code out of the caches."""

    def __init__(self) -> None:
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._ended.acquire()
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="team", daemon=True)
        self._thread.start()

    @property
    def id(self) -> int:
        """As the kernel knows it."""
        return self._thread.native_id or 0

    def begin(self, work: Callable[[], None]) -> None:
        self._work = work
        self._begun.release()

    def end(self) -> BaseException | None:
        """Wait for what was begun; returns what it raised."""
        self._ended.acquire()
        error, self._error = self._error, None
        return error

    def _serve(self) -> None:
        while True:
            self._begun.acquire()
            work, self._work = self._work, None
            try:
                if work is not None:
                    work()
            except BaseException as error:
                self._error = error
            del work  # with the arrays it holds
            self._ended.release()


class Team:
    """`size` threads, the caller among them, for the life of the process: they are started as they
    are needed, and stay. A process that forks must not have used it before."""

    def __init__(self, size: int = 1) -> None:
        self._size = self._first = size
        self._helpers: list[_Helper] = []
        self._binding = Binding()
        self._busy = threading.Lock()

    def use(self, size: int) -> None:
        """Use so many threads from now on; 0 stands for as many as it began with."""
        self._size = size or self._first

    def share(self, count: int, work: Callable[[int, int], None], more: int = 0) -> None:
        """Do `work(begin, end)` for parts that together are 0 to `count`; returns when all are
        done, and raises what the first part that failed raised. Where no thread can be started, or
        all have something to do, the caller does all of it. Each has a core of its own until the
        caller has its `rest`, if there are so many. The caller's part is `more` larger than the
        others': it begins 0.05 ms before them, and if it ends last it need not be woken, which
        takes another 0.05 to 0.1."""
        parts = max(1, min(self._size, count, MOST))
        if parts == 1 or not self._busy.acquire(blocking=False):
            work(0, count)
            return
        try:
            helpers = self._some(parts - 1)
            if len(helpers) == parts - 1:
                self._together(helpers, count, work, more)
            else:
                work(0, count)
        finally:
            self._busy.release()

    def rest(self) -> None:
        """No product follows soon: the caller need not keep a core."""
        self._binding.release()

    def _together(
        self, helpers: Sequence[_Helper], count: int, work: Callable[[int, int], None], more: int
    ) -> None:
        if not self._binding.held:
            self._binding.bind([helper.id for helper in helpers])
        more = min(more, count)
        parts = len(helpers) + 1
        bounds = [0, *(more + (count - more) * part // parts for part in range(1, parts + 1))]
        ended = False
        try:
            for i, helper in enumerate(helpers, 1):
                helper.begin(partial(work, bounds[i], bounds[i + 1]))
            try:
                work(0, bounds[1])
            finally:
                errors = [helper.end() for helper in helpers]
                ended = True
        finally:
            if not ended:  # interrupted: nobody knows what they still do
                self._helpers = []
        for error in filter(None, errors):
            raise error

    def _some(self, count: int) -> list[_Helper]:
        """So many helpers; fewer where a limit on processes, or on address space, forbids it."""
        try:
            while len(self._helpers) < count:
                self._binding.release()  # a new one would inherit the caller's one core
                self._helpers.append(_Helper())
        except RuntimeError:
            return self._helpers
        return self._helpers[:count]


def threads_at_start() -> int:
    """As many as the process was given for BLAS (`compute/pool.py`)."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else 1


TEAM: Final = Team(threads_at_start())  # as BLAS's own threads, one team serves the process
