"""Pace: how slow the other side of a connection may be. Pure arithmetic.

A body that comes byte by byte holds memory and a connection as a whole one does, for as long as it
likes; so does a reply that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiaas_async.config import Settings


@dataclass(frozen=True, slots=True)
class Pace:
    """At least `rate` bytes a second on the average, after a grace of `grace_s` seconds. A rate of
    0 asks for nothing."""

    grace_s: float = 5.0
    rate: int = 64 << 10

    def allowed_s(self, moved: int) -> float:
        """Seconds that may pass, from the beginning, until more than `moved` bytes have."""
        return self.grace_s + moved / self.rate if self.rate else float("inf")

    def keeps(self, moved: int, seconds: float) -> bool:
        """Whether `moved` bytes are enough for `seconds`, without the grace."""
        return moved >= self.rate * seconds

    def __str__(self) -> str:
        return f"{self.rate / 1024:g} KiB a second"


def pace_of(settings: Settings) -> Pace:
    """What the settings ask of bodies and of readers."""
    return Pace(settings.body_grace_s, settings.body_min_kib_s << 10)
