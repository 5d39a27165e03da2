"""Division: a job over shards becomes tasks, each within one shard and none too long.

A task shall take about 10 ms where calls come as well: short enough that they hardly notice. Where
none came lately it takes longer, since handing one over costs the server half a millisecond. How
many items that are is measured while the job runs, so the backlog holds tasks as large as bytes
allow, and cuts from them, or joins, what a node shall take. Towards the end that becomes less, so
that all nodes end together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

TASK_S: Final = 0.010
ALONE_TASK_S: Final = 0.035
LATELY_S: Final = 2.0
TASK_BYTES: Final = 2 << 20
INPUT_BYTES: Final = 32 << 20
MAX_TASK_ITEMS: Final = 8192
FIRST_ITEMS: Final = 16  # what is run while nothing has been measured
LAST_PART: Final = 4  # of what a task usually has, one in so many at the least


@dataclass(frozen=True, slots=True)
class Task:
    """Items `start` to `stop` - 1 of the shard that node `home` holds. `failures` counts the
    nodes that could not do it."""

    home: str
    start: int
    stop: int
    failures: int = 0

    @property
    def key(self) -> str:
        return f"{self.home}/{self.start}"

    @property
    def items(self) -> int:
        return self.stop - self.start

    def cut(self, at: int) -> tuple[Task, Task]:
        """The task's first `at` items, and the others."""
        middle = self.start + at
        return self._part(self.start, middle), self._part(middle, self.stop)

    def precedes(self, other: Task) -> bool:
        """Whether both together are a task."""
        alike = self.home == other.home and self.failures == other.failures
        return alike and self.stop == other.start

    def joined(self, other: Task) -> Task:
        """The task and the one it precedes, as one."""
        return self._part(self.start, other.stop)

    def _part(self, start: int, stop: int) -> Task:
        return Task(self.home, start, stop, self.failures)


def divide(counts: Mapping[str, int], task_items: int) -> list[Task]:
    """Tasks of at most `task_items` items that cover each shard's `counts` items once.

    The tasks of a shard differ by one item at most; shards take turns, so that all nodes have
    work from the start.
    """
    rows = [list(_pieces(home, count, task_items)) for home, count in counts.items()]
    longest = max(map(len, rows), default=0)
    return [row[turn] for turn in range(longest) for row in rows if turn < len(row)]


def _pieces(home: str, count: int, task_items: int) -> list[Task]:
    pieces = -(-count // task_items)
    edges = [count * piece // pieces for piece in range(pieces + 1)] if pieces else []
    return [Task(home, start, stop) for start, stop in pairwise(edges)]


def coarse_items(item_bytes: int, input_bytes: int = 0) -> int:
    """How many items a task may have at most, from the bytes of an item's results, which travel,
    and of its inputs, which are read where they lie."""
    few = min(TASK_BYTES // max(1, item_bytes), INPUT_BYTES // max(1, input_bytes))
    return max(1, min(few, MAX_TASK_ITEMS))


def fine_items(row_s: float | None, since_call_s: float = 0.0) -> int:
    """How many items a task should have, from the seconds each takes, and those since a call."""
    task_s = TASK_S if since_call_s < LATELY_S else ALONE_TASK_S
    return FIRST_ITEMS if row_s is None else max(1, int(task_s / max(row_s, 1e-9)))


def guided_items(items: int, waiting: int, takers: int) -> int:
    """How many of `items` that a task may have it should, when `waiting` are left for so many
    takers: the share of one (guided self-scheduling: Polychronopoulos and Kuck 1987)."""
    return min(items, max(-(-waiting // takers), items // LAST_PART, 1))
