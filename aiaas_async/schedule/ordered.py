"""Disciplines that take the item of the least key first: a heap, and first come first served
among equals.

Shortest expected first has the least mean time to completion (Smith 1956), earliest deadline
first the least maximal lateness (Jackson 1955). All three may starve what comes late in their
order, which `Fair` never does.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic

from aiaas_async.schedule.waiting import W


class Ordered(ABC, Generic[W]):
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, W]] = []
        self._count = 0

    @abstractmethod
    def key(self, item: W) -> float:
        """What is least goes first. Read once, when the item comes."""

    def push(self, item: W) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.key(item), self._count, item))

    def pop(self) -> W:
        return heapq.heappop(self._heap)[2]

    def take_like(self, fits: Callable[[W], bool], limit: int) -> list[W]:
        taken: list[W] = []
        passed: list[tuple[float, int, W]] = []
        while self._heap and len(taken) < limit:
            entry = heapq.heappop(self._heap)
            if fits(entry[2]):
                taken.append(entry[2])
            else:
                passed.append(entry)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return taken

    def give_way(self, item: W) -> W | None:  # noqa: ARG002 - a port's signature
        return None

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[W]:
        return (entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"


class HighestPriority(Ordered[W]):
    """The higher priority first."""

    def key(self, item: W) -> float:
        return -item.priority


class ShortestFirst(Ordered[W]):
    """The shortest expected time first."""

    def key(self, item: W) -> float:
        return item.expected_s


class EarliestDeadline(Ordered[W]):
    """The earliest deadline first; what has none comes last."""

    def key(self, item: W) -> float:
        return math.inf if item.deadline is None else item.deadline
