"""A mailbox: a queue bounded in items, bytes and time, in the order its discipline chooses.

What it took is answered by its deadline, whatever becomes of it.

Putting never waits: a full mailbox refuses at once, with the time after which a place should be
free, computed from the measured drain rate. Only the owner waits, in `wait_nonempty`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiaas_async.actors.deadlines import Deadlines
from aiaas_async.actors.envelope import Envelope
from aiaas_async.errors import OverloadedError, QuotaError, StoppingError
from aiaas_async.schedule.fifo import Fifo
from aiaas_async.schedule.shedding import Shedding
from aiaas_async.schedule.waiting import Discipline

E = TypeVar("E", bound=Envelope[Any, Any])

MIN_RETRY_S, MAX_RETRY_S = 0.05, 30.0
_SMOOTHING = 0.2  # weight of the newest interval in the drain rate's moving average


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    """Counts since start; sizes in bytes, the drain rate in envelopes a second."""

    items: int
    size: int
    peak_items: int
    accepted: int
    refused: int
    dropped: int
    drain_rate: float


class Mailbox(Generic[E]):
    def __init__(
        self, max_items: int, max_bytes: int, discipline: Discipline[E] | None = None
    ) -> None:
        self._queue: Discipline[E] = Fifo() if discipline is None else discipline
        self._max_items, self._max_bytes = max_items, max_bytes
        self._count = self._bytes = 0  # of what waits
        self._peak = self._accepted = self._refused = self._dropped = 0
        self._work_s = 0.0
        self._shedding = Shedding()
        self._deadlines = Deadlines()
        self._interval = 0.0  # smoothed seconds between takes
        self._last_take: float | None = None
        self._nonempty = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[E]:
        return iter(self._queue)

    def can_put(self, cost: int) -> bool:
        """Whether an envelope of `cost` bytes fits. An empty mailbox takes one of any size."""
        if not self._count:
            return True
        return self._count < self._max_items and self._bytes + cost <= self._max_bytes

    def is_crowded(self) -> bool:
        """Whether more seconds of work come than are taken, so that some is refused."""
        return self._shedding.active

    def put_nowait(self, item: E) -> None:
        """Queue `item`; raises `OverloadedError` when full, unless `item` is not bounded, and
        `StoppingError` when closed.

        What its discipline says must make room for `item` is answered with `QuotaError`."""
        self._check(item)
        if item.deadline is not None:
            self._deadlines.watch(item, item.deadline)
        self._push(item)
        self._accepted += 1

    def pass_through(self, item: E) -> None:
        """Count `item` and watch its deadline: its owner has come to it already, since nothing
        waits. Raises what `put_nowait` does."""
        self._check(item)
        if item.deadline is not None:
            self._deadlines.watch(item, item.deadline)
        item.taken = True
        self._accepted += 1

    def _check(self, item: E) -> None:
        if self._closed:
            raise StoppingError("no new work is taken: shutting down", retry_after=1.0)
        if not item.bounded:
            return
        while self._count and not self.can_put(item.cost):
            if not self._send_away_for(item):
                raise self._refusal(
                    f"{self._count} requests ({self._bytes} bytes) wait already",
                    self._time_to_drain(),
                )
        admits = self._shedding.admits
        while item.work_s and not admits(
            self._work_s, item.expected_s, item.enqueued_at, self._count
        ):
            if not self._send_away_for(item):
                raise self._refusal(
                    f"{self._work_s:.2f} s of work wait already", max(MIN_RETRY_S, self._work_s)
                )

    def _refusal(self, why: str, retry_after: float) -> OverloadedError:
        self._refused += 1
        return OverloadedError(f"{why}; try again later", retry_after=retry_after)

    def _send_away_for(self, item: E) -> bool:
        """Answer what has less of a right to wait than `item`, if anything has."""
        sent = self._queue.give_way(item)
        if sent is None:
            return False
        if not sent.bounded:  # of those there are few, and no caller can send one again
            self._queue.push(sent)
            return False
        self._count -= 1
        self._bytes -= sent.cost
        self._work_s -= sent.work_s
        self._refused += 1
        sent.fail(
            QuotaError(
                f"{self._count} requests wait, most of them of this tenant, and another's "
                "came; try again later",
                retry_after=self._time_to_drain(),
            )
        )
        return True

    def put_back(self, item: E) -> None:
        """Queue again what was taken and could not be done; never refused, never counted."""
        self._push(item)

    def _push(self, item: E) -> None:
        self._queue.push(item)
        self._count += 1
        self._bytes += item.cost
        self._work_s += item.work_s
        self._peak = max(self._peak, self._count)
        self._nonempty.set()

    def take_nowait(self, now: float) -> E | None:
        """The next envelope that somebody still waits for, or None. `now` is the loop's time."""
        while self._count:
            item = self._queue.pop()
            self._took(item, now)
            if not item.abandoned:
                item.taken = True
                return item
            self._drop(item)
        return None

    def take_like(self, fits: Callable[[E], bool], limit: int, now: float) -> list[E]:
        """Up to `limit` further live envelopes for which `fits` holds, in the queue's order."""
        if limit <= 0 or not self._count:
            return []
        taken = self._queue.take_like(lambda e: e.abandoned or fits(e), limit)
        for item in taken:
            self._took(item, now)
        live = []
        for item in taken:
            if item.abandoned:
                self._drop(item)
            else:
                item.taken = True
                live.append(item)
        return live

    def _drop(self, item: E) -> None:
        item.leave()  # whoever watches its deadline holds all that it carries
        self._dropped += 1

    def _took(self, item: E, now: float) -> None:
        self._count -= 1
        self._bytes -= item.cost
        self._work_s -= item.work_s
        if self._last_take is not None:
            gap = now - self._last_take
            seen = self._interval or gap
            self._interval = seen + _SMOOTHING * (gap - seen)
        self._last_take = now
        if not self._count:
            self._nonempty.clear()
            self._work_s = 0.0  # what adding and taking away left over
            # Idle time is not service time: the next interval starts with the next burst.
            self._last_take = None

    def _time_to_drain(self) -> float:
        return min(MAX_RETRY_S, max(MIN_RETRY_S, self._count * self._interval))

    async def wait_nonempty(self) -> None:
        await self._nonempty.wait()

    def refuse_new(self) -> None:
        """Take nothing more; what waits may still be taken."""
        self._closed = True

    def close(self, error: Exception) -> None:
        """Take nothing more, and fail whatever waits with `error`: everyone gets an answer."""
        self._closed = True
        while self._count:
            item = self._queue.pop()
            self._count -= 1
            self._bytes -= item.cost
            item.fail(error)
        self._work_s = 0.0
        self._nonempty.clear()

    def statistics(self) -> MailboxStatistics:
        rate = 1.0 / self._interval if self._interval > 0 else 0.0
        return MailboxStatistics(
            items=self._count,
            size=self._bytes,
            peak_items=self._peak,
            accepted=self._accepted,
            refused=self._refused,
            dropped=self._dropped,
            drain_rate=rate,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Mailbox {state}: {self._count} waiting, {self._bytes} bytes>"
