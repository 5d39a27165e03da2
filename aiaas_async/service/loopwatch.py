"""A watch over the event loop: how late it takes up its turns, and what it did when it stalled.

A thread asks the loop for a turn and times the answer. When none comes in time it logs where the
loop's thread is just then: the one moment when the culprit can be seen. C code that keeps the
interpreter to itself stops this thread as well, so what it times begins when it meant to ask.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from aiaas_async.service.histogram import Histogram

logger = logging.getLogger(__name__)

# A stall that outlasts this and the bound is always seen. Twenty turns a second take 0.35 % of a
# core (0.7 % at forty).
INTERVAL_S: Final = 0.05
LAG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# A loop that stalls again and again must not fill the log's disk.
LOG_EVERY_S: Final = 10.0
_FRAMES: Final = 30


class LoopWatch:
    """Watches the running loop once it is started. A stall is a turn later than `stall_s`."""

    def __init__(
        self,
        stall_s: float,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stall_s, self._interval_s, self._clock = stall_s, interval_s, clock
        self._stopped, self._turned = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._logged_at, self._unlogged = -LOG_EVERY_S, 0
        self.lag = Histogram(LAG_S)
        self.stalls = 0

    def start(self) -> None:
        loop, owner = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(loop, owner), name="loop watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it takes no turn of the loop to end."""
        self._stopped.set()
        self._turned.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop, owner: int) -> None:
        due = self._clock() + self._interval_s
        while not self._stopped.wait(self._interval_s):
            self._turned.clear()
            if self._stopped.is_set():
                return
            loop.call_soon_threadsafe(self._turned.set)
            seen = not self._turned.wait(self._stall_s)
            if seen:
                self._note_stall(_stack_of(owner))
                self._turned.wait()
            lag = max(0.0, self._clock() - due)
            if lag > self._stall_s and not seen:
                self._note_stall("(code that let no other thread run)")
            self.lag.add(lag)
            due = self._clock() + self._interval_s

    def _note_stall(self, where: str) -> None:
        self.stalls += 1
        now = self._clock()
        if now - self._logged_at < LOG_EVERY_S:
            self._unlogged += 1
            return
        logger.warning(
            "the event loop stalls for over %g ms (%d times since the last such line) in:\n%s",
            1000 * self._stall_s,
            self._unlogged + 1,
            where,
        )
        self._logged_at, self._unlogged = now, 0


def _stack_of(thread: int) -> str:
    """Where `thread` is just now, its innermost frames last."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the only way to see another thread
    return "".join(traceback.format_stack(frame, _FRAMES)) if frame else "(gone)"
