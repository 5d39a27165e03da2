"""Deadlines: many envelopes by few timers.

A timer for each envelope costs 2 us to make and to stop, and nearly all are stopped: most deadlines
are half a minute away. Those that fall between the same two steps of a grid share a timer. The
longer the wait, the wider the grid: no deadline is announced early, and none later than a
twentieth of its time.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiaas_async.actors.envelope import Envelope

_LATEST: Final = 1 / 20  # of the time to a deadline
_SOON_S: Final = 0.001  # what is nearer gets a timer of its own: no loop's clock is finer


class Deadlines:
    """Times are of the running loop's clock, in seconds."""

    def __init__(self) -> None:
        self._due: dict[float, set[Envelope[Any, Any]]] = {}

    def watch(self, envelope: Envelope[Any, Any], deadline: float) -> None:
        """Expire `envelope` when `deadline` has passed, unless it is answered before."""
        at = _on_grid(deadline, deadline - envelope.enqueued_at)
        due = self._due.get(at)
        if due is None:
            due = self._due[at] = set()
            asyncio.get_running_loop().call_at(at, self._expire, at)
        due.add(envelope)
        envelope.watched_in = due

    def _expire(self, at: float) -> None:
        for envelope in list(self._due.pop(at)):
            envelope.expire()

    def __repr__(self) -> str:
        return f"<Deadlines: {sum(map(len, self._due.values()))} watched>"


def _on_grid(deadline: float, wait: float) -> float:
    """The next time at or after `deadline` on a grid whose step is a power of two."""
    if wait < _SOON_S:
        return deadline
    step = 2.0 ** math.floor(math.log2(wait * _LATEST))
    return math.ceil(deadline / step) * step
