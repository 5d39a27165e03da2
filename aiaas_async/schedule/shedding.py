"""Shedding: which calls are refused at once, because they would wait longer than is any use.

A bound in items or bytes says nothing of time: a thousand calls of 5 ms are 5 s of waiting, and
an overloaded server that lets each of them wait answers everyone too late. What waits is bounded
in seconds of work, generously at first, since a burst drains again. Once a call had to be
refused, the bound is short, until less than a tenth is refused again: a queue that stands in
front of a busy worker gains nothing (Nichols and Jacobson, "Controlling Queue Delay", 2012;
Maurer, "Fail at Scale", 2015, has two bounds as well).

A few callers who each wait for their answer, as load generators do, are no overload however slow
the model is: they bring no more than they are. Refused, they would ask again at once, and refusals
without end take the processors from the model: 32 callers of one on a busy machine had 40 answers a
second and 5,000 refusals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_WINDOW_S: Final = 0.5
_CALM: Final = 0.1  # share of refused calls below which the overload counts as over


@dataclass(frozen=True, slots=True)
class Bound:
    """How long a call may have to wait: `seconds`, or `times` its own duration if that is more,
    since what takes long is worth waiting for; behind less than `few` others `seconds_of_few`."""

    seconds: float
    times: float
    few: int = 0
    seconds_of_few: float = 0.0

    def allows(self, wait_s: float, own_s: float, others: int) -> bool:
        if others < self.few and wait_s <= self.seconds_of_few:
            return True
        return wait_s <= max(self.seconds, self.times * own_s)


# At 80 % of a worker's capacity the 99th percentile of waits is about ten durations (M/D/1).
BURST: Final = Bound(0.5, 16.0, few=64, seconds_of_few=4.0)
STANDING: Final = Bound(0.05, 8.0)


class Shedding:
    """Times are of any one clock, in seconds. Work of unknown duration counts as none."""

    def __init__(self, burst: Bound = BURST, standing: Bound = STANDING) -> None:
        self._burst, self._standing = burst, standing
        self._active = False
        self._window_ends = 0.0
        self._admitted = self._refused = 0

    @property
    def active(self) -> bool:
        """Whether the short bound holds."""
        return self._active

    def admits(self, wait_s: float, own_s: float, now: float, others: int) -> bool:
        """Whether a call of `own_s` seconds may wait behind `others` of `wait_s` seconds."""
        if now >= self._window_ends:
            self._turn(now)
        bound = self._standing if self._active else self._burst
        if bound.allows(wait_s, own_s, others):
            self._admitted += 1
            return True
        self._refused += 1
        self._active = True
        return False

    def _turn(self, now: float) -> None:
        """Begin a window; the one that ended says whether there still is an overload."""
        self._active = self._active and self._refused > _CALM * (self._admitted + self._refused)
        self._admitted = self._refused = 0
        self._window_ends = now + _WINDOW_S

    def __repr__(self) -> str:
        state = "active" if self._active else "at rest"
        return f"<Shedding {state}: {self._refused} refused, {self._admitted} admitted lately>"
