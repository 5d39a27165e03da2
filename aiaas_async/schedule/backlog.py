"""The backlog: tasks that wait, one queue a node; a node without work of its own steals.

It steals from the longest queue, and from its end, as Blumofe and Leiserson (1999) have it: the
owner takes from the front, so what is stolen is what it would come to last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from aiaas_async.schedule.assign import Assignment, Loads
from aiaas_async.schedule.divide import Task


class Backlog:
    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._queues: dict[str, deque[Task]] = {}
        self._loads: dict[str, int] = {}  # items that wait
        self.stolen = 0

    def __len__(self) -> int:
        """Items that wait."""
        return sum(self._loads.values())

    @property
    def loads(self) -> Loads:
        """Items that wait for each node."""
        return self._loads

    def set_nodes(self, nodes: Iterable[str]) -> None:
        """The nodes there are now; the tasks of those that left are assigned again."""
        wanted = set(nodes)
        orphans: list[Task] = []
        for node in self._queues.keys() - wanted:
            orphans += self._queues.pop(node)
            del self._loads[node]
        for node in wanted - self._queues.keys():
            self._queues[node] = deque()
            self._loads[node] = 0
        self.add(orphans)

    def add(self, tasks: Iterable[Task]) -> None:
        """Assign each task to a node."""
        for task in tasks:
            node = self._assignment.choose(task, self._loads)
            self._queues[node].append(task)
            self._loads[node] += task.items

    def put_back(self, task: Task, failed_on: str) -> None:
        """A task that `failed_on` could not do goes first at the least loaded other node."""
        others = [node for node in self._queues if node != failed_on] or list(self._queues)
        node = min(others, key=lambda node: (self._loads[node], node))
        self._queues[node].appendleft(task)
        self._loads[node] += task.items

    def take(self, node: str, limit: int) -> Task | None:
        """The next task for `node`, of up to `limit` items: its own, else a stolen one.

        None when nothing waits."""
        own = self._queues.get(node)
        if own is None:
            return None
        if own:
            task = own.popleft()
            while task.items < limit and own and task.precedes(own[0]):
                task = task.joined(own.popleft())
            if task.items > limit:
                task, rest = task.cut(limit)
                own.appendleft(rest)
            return self._taken(node, task)
        return self._steal(limit)

    def _steal(self, limit: int) -> Task | None:
        victim = max(self._loads, key=lambda other: (self._loads[other], other))
        queue = self._queues[victim]
        if not queue:
            return None
        self.stolen += 1
        task = queue.pop()
        while task.items < limit and queue and queue[-1].precedes(task):
            task = queue.pop().joined(task)
        if task.items > limit:
            rest, task = task.cut(task.items - limit)
            queue.append(rest)
        return self._taken(victim, task)

    def _taken(self, node: str, task: Task) -> Task:
        self._loads[node] -= task.items
        return task

    def __repr__(self) -> str:
        return f"<Backlog: {len(self)} items wait, {self.stolen} tasks were stolen>"
