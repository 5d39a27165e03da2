"""Work that must not be left half done when the one who asked for it goes away."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Who is cancelled meanwhile is so when `work` is done, and holds the
    locks that it holds until then."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    _tell(task)
    raise cancelled


async def to_its_end_in(threads: Executor, work: Callable[[], T]) -> T:
    """What `work` returns, done by one of `threads` in the caller's context; it is handed over
    before anything is awaited."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    done = loop.run_in_executor(threads, context.run, work)

    async def ended() -> T:
        return await done

    return await to_its_end(ended())


def _tell(task: asyncio.Task[Any]) -> None:
    """Of a failure that nobody waits for any more."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        logger.warning("what was begun for one who went away failed: %s", failure)


class Unbroken:
    """The same for those who may go at once: what they began is known here until it is done."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns; it comes to its end also when the one who asked is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell)
            raise

    async def settle(self, patience_s: float | None = None) -> None:
        """Wait for what is under way, so many seconds at most."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=patience_s)
