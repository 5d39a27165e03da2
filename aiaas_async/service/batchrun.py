"""One run of a batch job: lanes for each node take tasks, have them done, and hand over results.

A node has two lanes: while one task computes, the next waits at the worker. A third would only
keep a task from nodes that have none left. Lanes of a node without tasks steal; a node that joins
gets lanes, one that leaves loses them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, Final

from aiaas_async.errors import (
    CapacityError,
    InputError,
    OverloadedError,
    QuotaError,
    StoppingError,
    WorkerDiedError,
)
from aiaas_async.jobs.events import EventLog
from aiaas_async.node.node import Node
from aiaas_async.ring.hashring import Ring
from aiaas_async.schedule.assign import make_assignment
from aiaas_async.schedule.backlog import Backlog
from aiaas_async.schedule.divide import Task, coarse_items, divide, fine_items, guided_items
from aiaas_async.schedule.rates import Rates
from aiaas_async.service.batchdata import Reader, Sink
from aiaas_async.service.batchwork import Work
from aiaas_async.service.cluster import Cluster

LANES: Final = 2
MAX_FAILURES: Final = 3  # nodes that may fail one task before it is given up
_REPORT_S: Final = 0.25
_REFUSALS: Final = (OverloadedError, QuotaError)


class BatchRun:
    def __init__(
        self, cluster: Cluster, reader: Reader, work: Work, sink: Sink, events: EventLog
    ) -> None:
        self._cluster, self._reader, self._work, self._sink = cluster, reader, work, sink
        self._terms, self._events = work.terms, events
        coarse = coarse_items(work.terms.item_bytes, work.terms.input_bytes)
        self._most = work.terms.task_items or coarse  # items of a task
        self._rates = Rates()
        self._backlog = Backlog(make_assignment(work.terms.assignment, self._owner))
        self._lanes: dict[asyncio.Task[None], str] = {}
        self._ring: Ring | None = None
        self._ring_changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._started = self._reported = self._loop.time()
        self._skipped = reader.total - sum(reader.counts.values())
        self._items: Counter[str] = Counter()
        self._tasks = self._retried = 0

    async def run(self) -> None:
        """Do all tasks and store all results. Cancelled, it leaves no lane behind."""
        try:
            self._follow_ring()
            self._backlog.add(divide(self._reader.counts, self._most))
            await self._drive()
        finally:
            for lane in self._lanes:
                lane.cancel()
            await asyncio.gather(*self._lanes, return_exceptions=True)
            await self._sink.flush()
        self._report()

    def _owner(self, key: str) -> str:
        """By whatever ring there is when a task is assigned."""
        return self._cluster.ring.owner(key)

    def _limit(self) -> int:
        """Items that a task should have now."""
        terms, nodes = self._terms, self._cluster.nodes
        if terms.task_items is not None:
            return self._most
        rates = [self._rates, *(node.rates for node in nodes.values())]
        measured = [each.row_s(terms.servable.id) for each in rates]
        known = (seconds for seconds in measured if seconds is not None)
        called_at = max(node.called_at for node in nodes.values())
        fine = fine_items(min(known, default=None), self._loop.time() - called_at)
        return guided_items(min(fine, self._most), len(self._backlog), LANES * len(nodes))

    async def _drive(self) -> None:
        """Keep lanes in every node until nothing waits and nothing is under way."""
        while True:
            self._follow_ring()
            self._open_lanes()
            if not self._lanes:
                return
            changed = asyncio.ensure_future(self._ring_changed.wait())
            try:
                await asyncio.wait([*self._lanes, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            for lane in [lane for lane in self._lanes if lane.done()]:
                del self._lanes[lane]
                lane.result()

    def _follow_ring(self) -> None:
        self._ring_changed.clear()
        ring = self._cluster.ring
        if ring is self._ring:
            return
        if not len(ring):
            raise StoppingError("no node is serving", retry_after=1.0)
        self._ring = ring
        self._backlog.set_nodes(ring.members)

    def _open_lanes(self) -> None:
        busy = Counter(self._lanes.values())
        waiting = len(self._backlog)
        for node in self._cluster.ring.members:
            for _ in range(min(LANES - busy[node], waiting)):
                self._lanes[asyncio.create_task(self._lane(node))] = node

    async def _lane(self, node_id: str) -> None:
        while (node := self._cluster.nodes.get(node_id)) is not None:
            if self._cluster.ring is not self._ring:
                self._ring_changed.set()
                return
            task = self._backlog.take(node_id, self._limit())
            if task is None:
                return
            await self._do(task, node)

    async def _do(self, task: Task, node: Node) -> None:
        try:
            done = await self._work.do(task, node)
        except InputError as error:
            raise await asyncio.to_thread(self._reader.at_fault, task, error) from error
        except (CapacityError, WorkerDiedError) as error:
            await self._fail(task, node, error)
            return
        self._tasks += 1
        if done.node in self._items:  # a node's first task pays for pages and caches that are cold
            self._rates.record(self._terms.servable.id, task.items, done.compute_s)
        self._items[done.node] += task.items
        await self._sink.add(done.results)
        if self._loop.time() - self._reported >= _REPORT_S:
            self._report()

    async def _fail(self, task: Task, node: Node, error: CapacityError | WorkerDiedError) -> None:
        """Leave the task to another node; a full or leaving node is no failure of the task."""
        blameless = isinstance(error, _REFUSALS) or node.id not in self._cluster.ring
        failures = task.failures + (not blameless)
        if failures >= MAX_FAILURES:
            raise error
        self._retried += 1
        if self._cluster.ring is not self._ring:
            self._ring_changed.set()
        self._backlog.put_back(replace(task, failures=failures), node.id)
        if isinstance(error, _REFUSALS):
            await asyncio.sleep(error.retry_after or 0.1)

    def facts(self) -> dict[str, Any]:
        """How far it is, as JSON-like values."""
        seconds = self._loop.time() - self._started
        done = sum(self._items.values())
        return {
            "total": self._reader.total,
            "done": self._skipped + self._sink.stored,
            "computed": done,
            "skipped": self._skipped,
            "tasks": self._tasks,
            "waiting": len(self._backlog),
            "stolen": self._backlog.stolen,
            "retried": self._retried,
            "nodes": dict(sorted(self._items.items())),
            "seconds": round(seconds, 3),
            "items_per_s": round(done / seconds, 1) if seconds > 0 else 0.0,
        }

    def _report(self) -> None:
        self._reported = self._loop.time()
        self._events.add("progress", self.facts())
