"""A node: an actor with a mailbox, a memory budget and one worker.

Its one task takes what waits, makes it a batch, sees that the version is loaded, and submits; the
answer comes by callback while the next batch is already being made. A lone call is submitted where
it comes. Whatever is taken gets exactly one terminal answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import asdict
from functools import partial
from typing import Any

from aiaas_async.actors.supervisor import supervise
from aiaas_async.compute.base import Answer, Worker, WorkerSource
from aiaas_async.compute.frames import Pieces
from aiaas_async.compute.jobs import Differentiate, Infer, Scan, StreamJob
from aiaas_async.compute.streams import gone
from aiaas_async.errors import AiaasError, InternalError, StoppingError, WorkerDiedError
from aiaas_async.names import ModelRef
from aiaas_async.node.coalesce import Batch
from aiaas_async.node.company import Company
from aiaas_async.node.cores import Cores
from aiaas_async.node.holding import Holding
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.loading import Loading
from aiaas_async.node.lone import Lone, job_of
from aiaas_async.node.measured import Measured
from aiaas_async.node.quarantine import Quarantine
from aiaas_async.node.residency import Residency
from aiaas_async.node.seat import WorkerSeat
from aiaas_async.node.work import (
    Call,
    Differentiation,
    Hold,
    Message,
    Release,
    Result,
    Scanning,
    Servable,
    StreamStep,
    WorkItem,
    request_ids,
)
from aiaas_async.schedule.divide import LATELY_S
from aiaas_async.schedule.origin import A_CALL, BATCH, Origin
from aiaas_async.wire.unread import UnreadError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 2


class Node:
    def __init__(
        self,
        node_id: str,
        source: WorkerSource,
        limits: NodeLimits,
        quarantine: Quarantine,
        cores: Cores,
    ) -> None:
        self.id = node_id
        self.limits = limits
        self._quarantine = quarantine
        self._mailbox = limits.mailbox()
        self._cores = cores
        self._measured = Measured(node_id, cores)
        self.rates, self.statistics = self._measured.rates, self._measured.statistics
        self.called_at = -math.inf  # the loop's time of the last call
        self._residency = Residency(limits.memory)
        self._seat = WorkerSeat(f"node {node_id}", source, self._on_new_worker)
        self._loading = Loading(self._seat, self._residency, self.statistics, limits.load_timeout_s)
        self._holding = Holding(self._loading, self._residency)
        self._task: asyncio.Task[None] | None = None
        self._company = Company(self._mailbox.__len__, self._mailbox.is_crowded)
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._stopped = False
        self._loop = asyncio.get_running_loop()

    @property
    def load(self) -> int:
        """Requests that wait here or are under way."""
        return len(self._mailbox) + self._under_way

    def waiting(self) -> Counter[ModelRef]:
        """Calls that wait here for the worker, by version."""
        asked = (item.message for item in self._mailbox if not item.abandoned)
        return Counter(each.servable.ref for each in asked if isinstance(each, Call))

    @property
    def worker_pid(self) -> int | None:
        """Of the worker's process, if there is one. Not for callers."""
        return self._seat.pid

    @property
    def free_bytes(self) -> int:
        """Memory that no pinned version holds."""
        return self._residency.free

    @property
    def budget_bytes(self) -> int:
        """Memory for versions, whatever holds it just now."""
        return self._residency.budget

    def incarnation(self, servable_id: str) -> int:
        """Which load of a version is, or was, the latest here: its state in memory is as old."""
        return self._loading.incarnation(servable_id)

    async def start(self) -> None:
        """Start the worker, and begin to take work."""
        await self._seat.start()
        # In a context of its own: it outlives the request by which it joined.
        self._task = asyncio.create_task(
            supervise(f"node {self.id}", self._run, self._give_up),
            name=f"node {self.id}",
            context=Context(),
        )

    def _on_new_worker(self) -> None:
        """It has nothing loaded. What is pinned is loaded before anybody asks for it."""
        for hold in self._holding.lost():
            with suppress(AiaasError):  # the node ends, or in quarantine: a call that comes will
                again = self.submit(hold, 0, None)
                again.reply.add_done_callback(asyncio.Future.exception)  # nobody waits for it

    def submit(
        self,
        message: Message,
        cost: int,
        deadline: float | None,
        origin: Origin = A_CALL,
    ) -> WorkItem:
        """Queue `message`, or send it at once; its answer comes in the returned envelope's `reply`.
        The node's schedule goes by its `origin`.

        Raises `OverloadedError`, `StoppingError`, or `QuarantinedError`.
        """
        self._check_quarantine(message)
        item = WorkItem(message, cost, deadline, self._loop, origin)
        if origin.flow != BATCH:
            self.called_at = item.enqueued_at
        if isinstance(message, (Call, Scanning)):
            item.reckon(message, self.rates)
        if isinstance(message, Call) and (worker := self._worker_for(message.servable)):
            self._mailbox.pass_through(item)
            self._send_at_once(Batch(item, message), worker)
        else:
            self._mailbox.put_nowait(item)
        return item

    def _worker_for(self, servable: Servable) -> Worker | None:
        """The worker, if a call can leave at once: nothing else is here or expected with it."""
        lone = self._company.alone and not (self._under_way or len(self._mailbox))
        at_once = lone and not servable.max_delay_s and self._loading.has(servable)
        return self._seat.ready if at_once else None

    def _send_at_once(self, batch: Batch, worker: Worker) -> None:
        self._under_way += 1
        self._cores.begin(self.id)
        try:
            self._send(batch, worker)
        except Exception as error:
            if not isinstance(error, AiaasError):
                logger.exception("node %s: defect while it sent a call", self.id)
            self._on_failure(batch.items, _as_ours(error))

    def _check_quarantine(self, message: Message) -> None:
        if not isinstance(message, Release):
            self._quarantine.check(message.servable.id, self._loop.time())

    async def _run(self) -> None:
        while True:
            await self._mailbox.wait_nonempty()
            await self._seat.free()
            if self._loop.time() - self.called_at < LATELY_S:  # tasks of jobs keep no company
                await self._company.gather()
            item = self._mailbox.take_nowait(self._loop.time())
            if item is None:
                self._settle(0)
            else:
                await self._dispatch(item)

    async def _dispatch(self, item: WorkItem) -> None:
        taken = [item]
        self._under_way += 1
        self._cores.begin(self.id)
        try:
            self._check_quarantine(item.message)
            match item.message:
                case Call():
                    batch = await self._batch(item, item.message)
                    taken = batch.items
                    await self._loading.ensure(batch.servable)
                    self._send(batch, await self._seat.free())
                case Scanning() | Differentiation() | StreamStep():
                    await self._run_alone(item, item.message)
                case Hold():
                    item.answer(Result(self.id, facts=await self._holding.hold(item.message)))
                    self._settle(1)
                case Release():
                    await self._holding.release(item.message)
                    self._measured.forget(item.message.servable_id)
                    item.answer(Result(self.id))
                    self._settle(1)
        except AiaasError as error:
            self._on_failure(taken, error)
        except asyncio.CancelledError:
            self._on_failure(taken, StoppingError("the node was stopped during this request"))
            raise
        except Exception:
            self._on_failure(taken, InternalError("the node met a defect of its own"))
            raise

    async def _batch(self, item: WorkItem, call: Call) -> Batch:
        batch = Batch(item, call)
        if batch.space and len(self._mailbox):
            self._take_company(batch)
        delay = call.servable.max_delay_s
        if delay and batch.space:
            await asyncio.sleep(max(0.0, item.enqueued_at + delay - self._loop.time()))
            self._take_company(batch)
        return batch

    def _take_company(self, batch: Batch) -> None:
        company = self._mailbox.take_like(batch.joiner(), batch.space, self._loop.time())
        batch.extend(company)
        self._under_way += len(company)

    def _send(self, batch: Batch, worker: Worker) -> None:
        servable = batch.servable
        submitted = time.perf_counter()
        threads = self._measured.threads_for(servable.id, batch.rows, self._loop.time())
        job = Infer(servable.id, batch.rows, batch.outputs, threads, batch.texts())
        answer = partial(self._on_batch, batch, submitted, threads)
        future = self._submit(worker, job, batch.pieces(), servable, batch.items, answer)
        self._company.sent(future, self.rates.expected_s(servable.id, batch.rows))

    async def _run_alone(self, item: WorkItem, asked: Lone) -> None:
        servable = asked.servable
        if not isinstance(asked, StreamStep) or asked.begins:
            await self._loading.ensure(servable)
        elif servable.id not in self._residency:
            raise gone()
        submitted = time.perf_counter()
        job, pieces = job_of(asked)
        answer = partial(self._on_alone, item, submitted)
        self._submit(await self._seat.free(), job, pieces, servable, [item], answer)

    def _submit(
        self,
        worker: Worker,
        job: Infer | Scan | Differentiate | StreamJob,
        pieces: list[Pieces],
        servable: Servable,
        items: Sequence[WorkItem],
        answer: Callable[[asyncio.Future[Answer]], None],
    ) -> asyncio.Future[Answer]:
        """`answer` is the first to hear that the job is done, before who waits for its place."""
        if servable.id not in self._residency:
            raise WorkerDiedError("the worker died before the job reached it", {"started": False})
        future = worker.submit(job, pieces)
        future.add_done_callback(answer)
        self._seat.watch(future, *self.limits.time_of(items))
        self._residency.begin(servable.id)
        future.add_done_callback(lambda _: self._residency.end(servable.id))
        return future

    def _on_batch(
        self, batch: Batch, submitted: float, threads: int, done: asyncio.Future[Answer]
    ) -> None:
        error = done.exception()
        if error is not None:
            self._on_failure(batch.items, _as_ours(error))
            return
        answer = done.result()
        seconds, unread = answer.compute_us / 1e6, answer.facts.get("unread", ())
        computed = len(unread) < len(batch.items)
        if computed:
            self._company.ended(len(batch.items), seconds)
        self._under_way -= len(batch.items)
        try:
            for number in unread:
                batch.items[number].fail(UnreadError())
            for item, arrays in zip(batch.items, batch.split(answer.arrays), strict=True):
                queued = submitted - item.arrived
                item.answer(Result(self.id, arrays, {}, queued, seconds, batch.rows))
        finally:
            self._loop.call_soon(self._book, batch, answer if computed else None, threads)

    def _book(self, batch: Batch, answer: Answer | None, threads: int) -> None:
        """Keep the books on a batch that was computed: 0.05 ms, for which no caller waits."""
        if answer is not None:
            self._measured.batch(batch.servable.id, batch.rows, answer, lent=threads > 0)
        self._settle(0)

    def _on_alone(self, item: WorkItem, submitted: float, done: asyncio.Future[Answer]) -> None:
        error = done.exception()
        if error is not None:
            self._on_failure([item], _as_ours(error))
            return
        answer, message = done.result(), item.message
        rows = message.rows if isinstance(message, Scanning) else 1
        seconds = answer.compute_us / 1e6
        if isinstance(message, Scanning):
            self._measured.task(message.servable.id, rows, answer)
        else:
            self._measured.other(answer)
        self._settle(1)
        queued = submitted - item.arrived
        item.answer(Result(self.id, answer.arrays, answer.facts, queued, seconds, rows))

    def _on_failure(self, items: Sequence[WorkItem], error: AiaasError) -> None:
        """Answer, or try once more, what did not succeed."""
        self._settle(len(items))
        self.statistics.failures += 1
        died = isinstance(error, WorkerDiedError)
        started = died and bool(error.details.get("started"))
        if started:
            self._note_death(items, overdue=bool(error.details.get("overdue")))
        for item in items:
            item.attempts += started
            again = item.attempts < MAX_ATTEMPTS if died else len(items) > 1
            if again and not item.abandoned and not self._stopped:
                item.alone = item.alone or started or not died
                self._mailbox.put_back(item)
            else:
                item.fail(error)

    def _note_death(self, items: Sequence[WorkItem], *, overdue: bool) -> None:
        self.statistics.deaths += 1
        message = items[0].message
        if not isinstance(message, Release):
            self._quarantine.record(message.servable.id, self._loop.time())
            what = "ended: a job of %s outlived its time" if overdue else "worker died running %s"
            said = f"node %s: {what}; requests: %s"
            logger.warning(said, self.id, message.servable.id, request_ids(items))

    def _give_up(self, _: BaseException) -> None:
        self._mailbox.close(StoppingError(f"node {self.id} failed too often and is out of service"))

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, finish what waits for up to `grace_s` seconds, end the worker."""
        self._mailbox.refuse_new()
        try:
            await asyncio.wait_for(self._drained(), grace_s)
        except TimeoutError:
            logger.warning("node %s: %d requests did not finish in time", self.id, self.load)
        self._stopped = True
        self._mailbox.close(StoppingError("the node was stopped before it came to this request"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._cores.forget(self.id)
        await self._seat.vacate(0.0 if self._under_way else 1.0)

    async def _drained(self) -> None:
        while self.load:
            self._quiet.clear()
            await self._quiet.wait()

    def _settle(self, count: int) -> None:
        """`count` requests are no longer under way."""
        self._under_way -= count
        if not self._under_way:
            self._cores.end(self.id, self._loop.time())
        if not self.load:
            self._quiet.set()

    def status(self) -> dict[str, Any]:
        """JSON-like facts for people and programs."""
        return {
            "id": self.id,
            "state": "serving" if self._seat.alive else "starting",
            "load": self.load,
            "loaded": sorted(self._residency),
            "pinned": sorted(self._residency.pinned),
            "memory": {"budget": self._residency.budget, "used": self._residency.used},
            "schedule": self.limits.schedule,
            "mailbox": asdict(self._mailbox.statistics()),
            "workers_started": self._seat.started,
            "statistics": asdict(self.statistics),
        }

    def __repr__(self) -> str:
        return f"<Node {self.id}: {self.load} requests, {len(self._residency.pinned)} pinned>"


def _as_ours(error: BaseException) -> AiaasError:
    return error if isinstance(error, AiaasError) else InternalError("the job was dropped")
