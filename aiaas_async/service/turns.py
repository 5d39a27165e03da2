"""Turns: changes of one data set come one after the other, and wait without holding a thread; so
do those who wait until it is open.

They have threads of their own: however many data sets change, open, move, or wait for their disk,
those who read have the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from aiaas_async.actors.unbroken import to_its_end_in
from aiaas_async.errors import StoppingError

P = ParamSpec("P")
T = TypeVar("T")

_THREADS: Final = 8  # changes are hashed on two cores or more, and wait for one disk


class Turns:
    """`threads` is what its threads are called."""

    def __init__(self, threads: str) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._threads = ThreadPoolExecutor(_THREADS, threads)
        self._stopped = False

    async def take(self, name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a thread, when the earlier ones for `name` are done. Who goes away before
        that, it is not begun for. Raises `StoppingError` after `stop`."""
        async with self.turn(name):
            return await self.beside(work, *args, **kwargs)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """When the earlier ones for `name` are done, for work `beside` that something is to be
        looked at before: nobody has the next turn meanwhile."""
        turn = self._turns.get(name)
        if turn is None:
            turn = self._turns[name] = asyncio.Lock()
        async with turn:
            yield

    async def beside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a thread, whatever else is done meanwhile; once begun it comes to its end.
        Raises `StoppingError` after `stop`."""
        if self._stopped:
            raise StoppingError("data sets are opened and changed no more: shutting down")
        return await to_its_end_in(self._threads, partial(work, *args, **kwargs))

    async def stop(self) -> None:
        """When what waits has had its turn."""
        for turn in list(self._turns.values()):
            async with turn:
                pass
        self._stopped = True
        await asyncio.to_thread(self._threads.shutdown)
