"""An envelope: a message, where its answer goes, and by when.

The return address travels with the message, so there is no table of ids to leak or to race.
The loop's clock (monotonic seconds) is the only clock.
"""

from __future__ import annotations

import asyncio
import time
from typing import Generic, TypeVar

from aiaas_async.errors import DeadlineError

M = TypeVar("M")
R = TypeVar("R")


class Envelope(Generic[M, R]):
    """`cost` is the message's size in bytes, as the mailbox counts it. `enqueued_at` is of the
    loop's clock, which uvloop reads in milliseconds; `arrived` is of `time.perf_counter`, for
    measuring. `work_s` is how many seconds of its owner it takes, as far as is known. `taken`: the
    owner has come to it, and does it even if nobody waits any more."""

    __slots__ = (
        "_timer",
        "arrived",
        "cost",
        "deadline",
        "enqueued_at",
        "message",
        "reply",
        "taken",
        "work_s",
    )

    def __init__(
        self, message: M, cost: int, deadline: float | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.message = message
        self.cost = cost
        self.deadline = deadline
        self.work_s = 0.0
        self.taken = False
        self.enqueued_at = loop.time()
        self.arrived = time.perf_counter()
        self.reply: asyncio.Future[R] = loop.create_future()
        self._timer = None if deadline is None else loop.call_at(deadline, self.expire)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more: answered, expired, or the caller went away."""
        return self.reply.done()

    def expire(self) -> None:
        """Answer that the deadline passed; the work is dropped where it is next looked at."""
        self.fail(
            DeadlineError(
                "not answered within the time this request allowed; "
                "raise timeout_ms or lower the load"
            )
        )

    def answer(self, result: R) -> None:
        if not self.reply.done():
            self.reply.set_result(result)
        self._stop_timer()

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)
        self._stop_timer()

    def withdraw(self) -> None:
        """Forget an envelope that no mailbox took: left alone, its timer would keep it, and what
        it carries, until the deadline."""
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        state = "abandoned" if self.abandoned else "waiting"
        return f"<Envelope {type(self.message).__name__} {state} {self.cost} bytes>"
