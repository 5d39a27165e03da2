"""A worker's watchdog: a job that outlives its time is ended with its worker.

There is no other way to stop a running kernel, and everybody pays for it: what was loaded is
loaded anew. So a job's time begins when the worker comes to it, and not while another runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass

from aiaas_async.compute.base import Answer, Worker
from aiaas_async.errors import WorkerDiedError


@dataclass(slots=True, eq=False)
class _Watched:
    future: asyncio.Future[Answer]
    patience_s: float
    until: float


class Watchdog:
    """Of one worker. `proven`: it finished a job; `bitten`: it was ended from here.

    Jobs end in time but for a few, so the timer of one is left to the next, and set again where it
    goes off too early: to cancel and set it for each job took 2 us, and 40 with cold caches."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._watched: deque[_Watched] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._ends_at = self._time_s = 0.0  # of the timer; of the job it is for
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # of no request: the timer outlives those it is set in
        self.proven = self.bitten = False

    def watch(self, future: asyncio.Future[Answer], patience_s: float, until: float) -> None:
        """The job of `future` may run `patience_s`, and until `until` (loop time) if that is
        later. Then it fails with `WorkerDiedError`, its details say `overdue`."""
        watched = _Watched(future, patience_s, until)
        self._watched.append(watched)
        if len(self._watched) == 1:
            self._begin(watched)
        future.add_done_callback(lambda _: self._finished(watched))

    def _begin(self, watched: _Watched) -> None:
        now = self._loop.time()
        self._ends_at = max(watched.until, now + watched.patience_s)
        self._time_s = self._ends_at - now
        if self._timer is not None and self._ends_at < self._rings_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        self._rings_at = self._ends_at
        self._timer = self._loop.call_at(self._rings_at, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._watched:
            return
        if self._loop.time() < self._ends_at:
            self._set_timer()
        else:
            self._bite(self._watched[0], self._time_s)

    def _bite(self, watched: _Watched, time_s: float) -> None:
        self.bitten = True
        if not watched.future.done():
            watched.future.set_exception(
                WorkerDiedError(
                    f"the job outlived its time of {time_s:.4g} s and was ended with its process",
                    {"started": True, "overdue": True},
                )
            )
        self._worker.kill()

    def _finished(self, watched: _Watched) -> None:
        future = watched.future
        if not future.cancelled() and not isinstance(future.exception(), WorkerDiedError):
            self.proven = True
        first = self._watched[0] is watched
        self._watched.remove(watched)
        if first and self._watched:
            self._begin(self._watched[0])
