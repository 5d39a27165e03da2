"""A job's events: a bounded history that any number of followers read at their own pace.

A follower who falls behind loses the oldest progress, never the end: the last event stays.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

HISTORY = 1024
NUMBERS_PER_RUN = 1_000_000


class Event(NamedTuple):
    """`number` counts from 1 and is what a follower resumes after; `kind` is progress, state
    or end."""

    number: int
    kind: str
    data: dict[str, Any]


class EventLog:
    """Numbers go on from `run` times a million: a follower that comes back after a restart of
    the server is behind everything the new run says, not ahead of it."""

    def __init__(self, run: int = 0) -> None:
        self._events: deque[Event] = deque(maxlen=HISTORY)
        self._count = run * NUMBERS_PER_RUN
        self._news = asyncio.Event()

    def continued(self) -> EventLog:
        """An empty log whose numbers go on from this one's, for a job that begins again."""
        new = EventLog()
        new._count = self._count
        return new

    def add(self, kind: str, data: dict[str, Any]) -> None:
        self._count += 1
        self._events.append(Event(self._count, kind, data))
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def latest(self) -> dict[str, Any]:
        """The data of the newest progress, or nothing."""
        found = (event.data for event in reversed(self._events) if event.kind == "progress")
        return next(found, {})

    def progress(self) -> list[dict[str, Any]]:
        """The data of all remembered progress, oldest first."""
        return [event.data for event in self._events if event.kind == "progress"]

    def has_ended_by(self, number: int) -> bool:
        """Whether nothing comes after event `number`: the end is that one, or before it."""
        last = self._events[-1] if self._events else None
        return last is not None and last.kind == "end" and last.number <= number

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Events numbered above `after`, then new ones as they come, up to the end."""
        while not self.has_ended_by(after):
            news = self._news
            for event in [e for e in self._events if e.number > after]:
                yield event
                after = event.number
            if not self.has_ended_by(after):
                await news.wait()
