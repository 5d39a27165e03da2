"""Answers in parts: one node computes each part when it is asked for.

The channel between the node and the caller holds one part: the next one is computed while its
predecessor is sent, and no further. A caller that goes closes the stream.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiaas_async.compute.frames import Array
from aiaas_async.compute.jobs import CloseStream, NextPart, OpenStream, StreamJob
from aiaas_async.errors import AiaasError
from aiaas_async.node.node import Node
from aiaas_async.node.work import Call, Result, Servable, StreamStep, WorkItem, cost_of
from aiaas_async.schedule.origin import Origin
from aiaas_async.service.seating import Seating

Part = Mapping[str, Array]
_NONE: Mapping[str, Any] = {}


class Streams:
    def __init__(self, seating: Seating) -> None:
        self._seating = seating

    async def parts(
        self, call: Call, deadline: float, origin: Origin
    ) -> AsyncGenerator[Part, None]:
        """The parts of the answer to `call`. Close the iterator, unless it came to its end.

        Raises what `Calls.call` raises, also between parts.
        """
        node, servable = await self._seating.seat(call.servable, call.servable.id, deadline)
        stream = _Stream(node, servable, deadline, origin)
        try:
            await stream.open(call)
            stream.ask_next()
            while (part := await stream.part()) is not None:
                stream.ask_next()
                yield part
        finally:
            stream.close()


class _Stream:
    """The server's end of a stream on a node. `_ahead` is the step that was asked for last: to open
    it, or for a part; None before the first and after the last part."""

    def __init__(self, node: Node, servable: Servable, deadline: float, origin: Origin) -> None:
        self._node, self._servable = node, servable
        self._deadline, self._origin = deadline, origin
        self._id = secrets.token_hex(8)
        self._ahead: WorkItem | None = None

    async def open(self, call: Call) -> None:
        seconds = self._deadline - asyncio.get_running_loop().time()
        job = OpenStream(self._servable.id, self._id, call.outputs, seconds)
        self._ahead = self._submit(job, call.arrays)
        await self._ahead.reply

    def ask_next(self) -> None:
        self._ahead = self._submit(NextPart(self._id))

    async def part(self) -> Part | None:
        """The part that was asked for; None when there is no more."""
        assert self._ahead is not None
        result = await self._ahead.reply
        if not result.facts.get("end"):
            return result.arrays
        self._ahead = None
        return None

    def close(self) -> None:
        """Give up what was asked for and would follow, unless the end was reached. Who leaves while
        the stream is opened does not hear that it is."""
        if self._ahead is None:
            return
        if not self._ahead.reply.cancel():
            _look_at(self._ahead.reply)
        try:
            last = self._submit(CloseStream(self._id))
        except AiaasError:
            return  # the worker ends it when its time is over
        last.reply.add_done_callback(_look_at)

    def _submit(self, job: StreamJob, arrays: Mapping[str, Array] = _NONE) -> WorkItem:
        message = StreamStep(self._servable, job, arrays)
        cost = cost_of(arrays)
        return self._node.submit(message, cost, self._deadline, self._origin)


def _look_at(reply: asyncio.Future[Result]) -> None:
    """A stream that cannot be closed is closed by the worker, in time."""
    if not reply.cancelled():
        reply.exception()
