"""Passes: calls of a version whose layers are divided go through its pieces as one batch.

Each piece's node would batch what it finds waiting, but calls that entered one by one reach every
piece one by one: of 32 callers of a 4 x 4096 network over two nodes 20 met in a batch, and in a
batch gathered before the first piece all do. One pass is under way at a time: it has all nodes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import numpy as np

from aiaas_async.actors.mailbox import MailboxStatistics
from aiaas_async.actors.supervisor import supervise
from aiaas_async.compute.frames import Array
from aiaas_async.errors import AiaasError, InternalError, StoppingError
from aiaas_async.node.coalesce import Batch
from aiaas_async.node.company import Company
from aiaas_async.node.limits import NodeLimits
from aiaas_async.node.work import Call, Result, WorkItem, cost_of
from aiaas_async.schedule.origin import A_CALL, Origin
from aiaas_async.schedule.rates import Rates

# The answer to a call by a deadline (loop time); where it came from.
Pass = Callable[[Call, float, Origin], Awaitable[Result]]


class Passes:
    """Gathers calls and runs each batch with `run`. How much may wait, and who is next, the
    `limits` of its nodes say: what waits here waits in their stead."""

    def __init__(self, run: Pass, limits: NodeLimits) -> None:
        self._run = run
        self._mailbox = limits.mailbox()
        self._rates = Rates()
        self._company = Company(self._mailbox.__len__, self._mailbox.is_crowded)
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(
            supervise("passes", self._serve, self._give_up), name="passes"
        )

    async def call(self, call: Call, deadline: float, origin: Origin = A_CALL) -> Result:
        """The answer to `call`. Raises `OverloadedError` when too much waits."""
        item = WorkItem(call, cost_of(call.arrays), deadline, self._loop, origin)
        item.reckon(call, self._rates)
        self._mailbox.put_nowait(item)
        return await item.reply

    async def _serve(self) -> None:
        while True:
            await self._mailbox.wait_nonempty()
            await self._company.gather()
            item = self._mailbox.take_nowait(self._loop.time())
            if item is not None:
                await self._pass(self._batch(item))

    def _batch(self, item: WorkItem) -> Batch:
        assert isinstance(item.message, Call)
        batch = Batch(item, item.message)
        if batch.space:
            now = self._loop.time()
            batch.extend(self._mailbox.take_like(batch.joiner(), batch.space, now))
        return batch

    async def _pass(self, batch: Batch) -> None:
        started = time.perf_counter()
        first = batch.items[0]
        origin = Origin(first.flow, first.tenant, first.priority)
        deadline = max(item.deadline or 0.0 for item in batch.items)
        call = Call(batch.servable, _joined(batch), batch.rows, batch.outputs)
        try:
            result = await self._run(call, deadline, origin)
        except AiaasError as error:
            self._on_failure(batch, error)
            return
        except asyncio.CancelledError:
            self._fail(batch, StoppingError("the deployment was replaced during this call"))
            raise
        except Exception:
            self._fail(batch, InternalError("a pass met a defect of its own"))
            raise
        seconds = time.perf_counter() - started
        self._company.ended(len(batch.items), seconds)
        self._rates.record(batch.servable.id, batch.rows, seconds)
        for item, arrays in zip(batch.items, batch.split(result.arrays), strict=True):
            queued = started - item.arrived + result.queue_s
            item.answer(Result(result.node, arrays, {}, queued, result.compute_s, batch.rows))

    def _on_failure(self, batch: Batch, error: AiaasError) -> None:
        """What failed in company runs again alone, so that it harms no other."""
        for item in batch.items:
            if len(batch.items) > 1 and not item.abandoned:
                item.alone = True
                self._mailbox.put_back(item)
            else:
                item.fail(error)

    def _fail(self, batch: Batch, error: AiaasError) -> None:
        for item in batch.items:
            item.fail(error)

    def _give_up(self, _: BaseException) -> None:
        self._mailbox.close(StoppingError("this deployment failed too often and is out of service"))

    def waiting(self) -> int:
        """Calls that wait for a pass."""
        return sum(not item.abandoned for item in self._mailbox)

    def statistics(self) -> MailboxStatistics:
        return self._mailbox.statistics()

    async def stop(self) -> None:
        """End; who still waits is told so."""
        self._mailbox.close(StoppingError("the deployment was replaced before it came to this"))
        self._task.cancel()
        await asyncio.wait([self._task])


def _joined(batch: Batch) -> Mapping[str, Array]:
    """The calls' arrays end to end."""
    first = batch.calls[0].arrays
    if len(batch.calls) == 1:
        return first
    return {name: np.concatenate([call.arrays[name] for call in batch.calls]) for name in first}
