"""Deadlines: many envelopes by few timers.

A timer for each envelope costs 2 us to make and to stop, and nearly all are stopped: most deadlines
are half a minute away. Far ones that fall into one tenth of a second share a timer, near ones have
their own; no deadline is announced early, and none later than a twentieth of its time.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiaas_async.actors.envelope import Envelope

_FAR_S: Final = 2.0
_PARTS: Final = 10  # of a second that share a timer


class Deadlines:
    """Times are of the running loop's clock, in seconds."""

    def __init__(self) -> None:
        self._due: dict[float, set[Envelope[Any, Any]]] = {}

    def watch(self, envelope: Envelope[Any, Any], deadline: float) -> None:
        """Expire `envelope` when `deadline` has passed, unless it is answered before."""
        is_far = deadline - envelope.enqueued_at > _FAR_S
        at = math.ceil(deadline * _PARTS) / _PARTS if is_far else deadline
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
