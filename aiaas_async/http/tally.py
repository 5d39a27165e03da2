"""What HTTP counts: requests by route and status, how long they took, how many are under way.

Each route's handler holds its own counters, so that a request looks up nothing by its labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from aiaas_async.service.histogram import Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A caller who left before the answer has no status in HTTP; this is the one of nginx's log.
CALLER_LEFT: Final = 499


class RouteTally:
    """Of one route; `method` is "*" for what takes any."""

    __slots__ = ("durations", "method", "pattern", "statuses", "under_way")

    def __init__(self, method: str, pattern: str) -> None:
        self.method, self.pattern = method, pattern
        self.statuses: dict[int, int] = {}
        self.durations = Histogram(SECONDS)
        self.under_way = 0

    def ended(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.durations.add(seconds)


class Tally:
    """Of all routes. `connections` says how many are open."""

    def __init__(self) -> None:
        self.routes: list[RouteTally] = []
        self.connections: Callable[[], int] = lambda: 0

    def route(self, method: str, pattern: str) -> RouteTally:
        """The counters of a new route."""
        self.routes.append(RouteTally(method, pattern))
        return self.routes[-1]

    @property
    def under_way(self) -> int:
        return sum(route.under_way for route in self.routes)


TALLY: web.AppKey[Tally] = web.AppKey("tally", Tally)
