"""Company: when a batch leaves, so that what comes together goes together.

A lone request loses a few microseconds by it. Nothing waits by a timer, but for the moment after
a long batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

# A request needs two turns of the loop from its bytes to the mailbox.
_QUIET_TURNS: Final = 2
_MOST_TURNS: Final = 8
# Of a batch that takes longer, the way to the worker and back is less than a fiftieth.
LONG_S: Final = 0.01
# The share of a long batch that its callers are waited for: 4 x 4096 at 32 connections answered
# 354 requests a second without, 486 with it.
_PATIENCE: Final = 1 / 16
_GLANCE_S: Final = 0.001
# A call that was alone in a batch of so long lets the next one leave at once: turns of the loop
# take 0.02 ms with cold caches, as they are after milliseconds.
_ALONE_S: Final = 0.002


class Company:
    """Of one node; `waiting` tells how many requests are in its mailbox, `crowded` whether it
    refuses some."""

    def __init__(self, waiting: Callable[[], int], crowded: Callable[[], bool]) -> None:
        self._waiting, self._crowded = waiting, crowded
        self._long: asyncio.Future[Any] | None = None  # the batch sent last, if it is long
        self._calls, self._patient_until = 0, 0.0
        self.alone = False  # whether the next call should leave at once

    def sent(self, future: asyncio.Future[Any], expected_s: float) -> None:
        """A batch that should take so many seconds went to the worker."""
        self._long = future if expected_s > LONG_S else None
        self.alone = False

    def ended(self, calls: int, seconds: float) -> None:
        """A batch of `calls` was answered; it took `seconds`."""
        self._calls = calls if seconds > LONG_S else 0
        self.alone = calls == 1 and seconds > _ALONE_S
        self._patient_until = time.perf_counter() + seconds * _PATIENCE

    async def gather(self) -> None:
        """Return when what waits should leave."""
        if self._long is not None and not self._long.done():
            # A batch sent behind another hides the way to the worker, a tenth of a millisecond;
            # behind one of tens of milliseconds it only is smaller, and no longer to be
            # scheduled, than what could have left when the worker was free.
            await asyncio.wait([self._long])
        if not (self.alone or self._crowded()):  # in a crowd a turn is long
            await self._returning()
            await self._arriving()

    async def _returning(self) -> None:
        """The callers of a long batch come back one after the other: the first alone would be a
        batch, and all others would wait for it."""
        while self._waiting() < self._calls:
            left = self._patient_until - time.perf_counter()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _GLANCE_S))

    async def _arriving(self) -> None:
        """Let the event loop turn for as long as it brings company to what waits.

        Requests that arrive together reach the mailbox one after the other; a batch that left
        with the first would cost as much to send as one with all: 16 busy connections gained
        16 % of their rate.
        """
        seen, quiet = 0, 0
        for _ in range(_MOST_TURNS):
            quiet = quiet + 1 if self._waiting() == seen else 0
            if quiet == _QUIET_TURNS:
                return
            seen = self._waiting()
            await asyncio.sleep(0)
