"""Work in threads of its own: few at a time, and whoever waits for the default ones waits for none
of it.

Whose work is under way goes away no sooner than it ends: what is counted for him, the bytes of his
body among it, is so until then, and no other takes the place meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from aiaas_async.actors.unbroken import to_its_end_in
from aiaas_async.errors import OverloadedError, StoppingError

T = TypeVar("T")

PATIENCE_S: Final = 10.0


class OwnThreads:
    """At most `count` at once; the first to ask is the first to have a turn."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._name, self._count = name, count
        self._places = asyncio.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, name)
        self._stopped = False

    async def do(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises `OverloadedError` when it had no turn in `PATIENCE_S`,
        `StoppingError` when there are no more."""
        try:
            return await self.do_by(asyncio.get_running_loop().time() + PATIENCE_S, work)
        except TimeoutError:
            raise OverloadedError(
                f"no thread for {self._name} was free within {PATIENCE_S:g} s; try later",
                retry_after=1.0,
            ) from None

    async def do_by(self, deadline: float, work: Callable[[], T]) -> T:
        """The same. Raises `TimeoutError` when it had no turn by `deadline`, of the loop's
        clock."""
        async with asyncio.timeout_at(deadline):
            await self._places.acquire()
        try:
            if self._stopped:
                raise StoppingError("shutting down", retry_after=5.0)
            return await to_its_end_in(self._threads, work)
        finally:
            self._places.release()

    async def stop(self) -> None:
        """When what waits has had its turn."""
        for _ in range(self._count):
            await self._places.acquire()
        self._stopped = True
        for _ in range(self._count):
            self._places.release()
        await asyncio.to_thread(self._threads.shutdown)
