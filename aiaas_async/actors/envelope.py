"""An envelope: a message, where its answer goes, and by when.

The return address travels with the message, so there is no table of ids to leak or to race.
The loop's clock (monotonic seconds) is the only clock.
"""

from __future__ import annotations

import asyncio
import time
from typing import Generic, Self, TypeVar

from aiaas_async.errors import DeadlineError

M = TypeVar("M")
R = TypeVar("R")


def expired() -> DeadlineError:
    """What one is told whose deadline passed."""
    return DeadlineError(
        "not answered within the time this request allowed; raise timeout_ms or lower the load"
    )


class Envelope(Generic[M, R]):
    """`cost` is the message's size in bytes, as the mailbox counts it. `enqueued_at` is of the
    loop's clock, which uvloop reads in milliseconds; `arrived` is of `time.perf_counter`, for
    measuring. `expected_s` is how many seconds it takes by itself, `work_s` how many it adds to
    what its owner has to do, as far as is known. `taken`: the owner has come to it, and does it
    even if nobody waits any more; it comes to one that is `owed` in any case. One that is not
    `bounded` is taken however full the mailbox is. Who watches its deadline keeps it in
    `watched_in`, until it is answered or dropped."""

    __slots__ = (
        "arrived",
        "bounded",
        "cost",
        "deadline",
        "enqueued_at",
        "expected_s",
        "message",
        "owed",
        "reply",
        "taken",
        "watched_in",
        "work_s",
    )

    def __init__(
        self, message: M, cost: int, deadline: float | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.message = message
        self.cost = cost
        self.deadline = deadline
        self.expected_s = self.work_s = 0.0
        self.taken = self.owed = False
        self.bounded = True
        self.enqueued_at = loop.time()
        self.arrived = time.perf_counter()
        self.reply: asyncio.Future[R] = loop.create_future()
        self.watched_in: set[Self] | None = None

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more, answered, expired, or the caller went away; and it is not
        owed."""
        return self.reply.done() and not self.owed

    def expire(self) -> None:
        """Answer that the deadline passed; the work is dropped where it is next looked at."""
        self.fail(expired())

    def answer(self, result: R) -> None:
        if not self.reply.done():
            self.reply.set_result(result)
        self.leave()

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)
        self.leave()

    def leave(self) -> None:
        """Nobody need watch its deadline any more."""
        if self.watched_in is not None:
            self.watched_in.discard(self)

    def __repr__(self) -> str:
        state = "abandoned" if self.abandoned else "waiting"
        return f"<Envelope {type(self.message).__name__} {state} {self.cost} bytes>"
