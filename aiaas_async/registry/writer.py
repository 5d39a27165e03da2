"""The registry's writer: changes are decided in the loop, made durable in a thread, then visible.

While one transaction syncs, further mutations queue; all of them go into the next (group commit).
Each is decided against the catalogue that its predecessors leave, and one that is refused fails
alone. The catalogue others see changes only when the disk holds the change.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from aiaas_async.errors import (
    AiaasError,
    InternalError,
    OverloadedError,
    StoppingError,
    from_code,
)
from aiaas_async.registry.catalog import Catalog
from aiaas_async.registry.draft import Draft
from aiaas_async.registry.loading import Stored
from aiaas_async.registry.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
Mutation = Callable[[Draft], Any]

MAX_WAITING: Final = 1024
_DEFECT: Final = "the change met a defect of the server and was not made"


@dataclass(frozen=True, slots=True)
class _Queued:
    """A mutation and where its answer goes."""

    mutation: Mutation
    answer: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a mutation came to, told only when its transaction is over."""

    queued: _Queued
    value: Any
    error: Exception | None

    def tell(self) -> None:
        answer = self.queued.answer
        if answer.done():
            return
        if self.error is None:
            answer.set_result(self.value)
        else:
            answer.set_exception(self.error)


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Counts since start; `waiting` now."""

    waiting: int
    transactions: int
    mutations: int
    failed_transactions: int


class RegistryWriter:
    """Make one with `open`. `secret` is random, made once with the file; `damage` says in words
    what was found damaged at open."""

    def __init__(
        self, store: Store, stored: Stored, thread: ThreadPoolExecutor, max_waiting: int
    ) -> None:
        self._store, self._thread, self._max_waiting = store, thread, max_waiting
        self._catalog, self._jobs = stored.catalog, stored.jobs
        self.secret, self.damage = stored.secret, tuple(stored.damage)
        self._queue: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._transactions = self._mutations = self._failures = 0
        self._task = asyncio.create_task(self._run(), name="registry writer")

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        make_store: Callable[[Path], Store] = Store,
        max_waiting: int = MAX_WAITING,
    ) -> RegistryWriter:
        """Open the file `path`, or create it.

        Raises `ConflictError` when another server has it, `CorruptError`, `StorageError`.
        """
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "registry")
        try:
            store, stored = await loop.run_in_executor(thread, _opened, make_store, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(store, stored, thread, max_waiting)

    @property
    def catalog(self) -> Catalog:
        """The catalogue as of the last acknowledged change."""
        return self._catalog

    def jobs(self) -> list[bytes]:
        """The jobs' records as they were when the file was opened."""
        return list(self._jobs)

    async def mutate(self, mutation: Callable[[Draft], T]) -> T:
        """Apply `mutation` to a draft; returns its result once the change is durable.

        Raises what the mutation raises, `OverloadedError` when too many wait, `StoppingError`,
        and `StorageError` when the disk refuses: then nothing of it has happened.
        """
        answer: asyncio.Future[T] = self.submit(mutation)
        return await answer

    def submit(self, mutation: Callable[[Draft], T]) -> asyncio.Future[T]:
        """`mutate` without the wait."""
        if self._stopping:
            raise StoppingError("the registry takes no more changes: shutting down")
        if len(self._queue) >= self._max_waiting:
            raise OverloadedError(
                f"{len(self._queue)} changes wait for the disk already", retry_after=1.0
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Queued(mutation, answer))
        self._wake.set()
        return answer

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                group = [queued for queued in self._queue if not queued.answer.done()]
                self._queue.clear()
                await self._transact(group)
            if self._stopping:
                return

    async def _transact(self, group: list[_Queued]) -> None:
        """Decide every mutation of `group`, make the result durable, then tell everyone."""
        draft = Draft(self._catalog)
        outcomes = [_decided(draft, queued) for queued in group]
        try:
            catalog = draft.catalog()
            if draft.writes:
                await self._in_thread(self._store.apply, draft.writes)
                self._transactions += 1
            self._catalog = catalog
            self._mutations += len(group)
        except AiaasError as error:
            self._failures += 1
            outcomes = [_Outcome(queued, None, _copy(error)) for queued in group]
        except Exception:
            logger.exception("the registry's writer met a defect")
            outcomes = [_Outcome(queued, None, InternalError(_DEFECT)) for queued in group]
        for outcome in outcomes:
            outcome.tell()
        if self._store.log_is_long:
            await self._in_thread(self._store.checkpoint)

    async def _in_thread(self, work: Callable[..., None], *args: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def close(self) -> None:
        """Take no more changes, finish those that wait, and let the file go."""
        if self._stopping:
            return
        self._stopping = True
        self._wake.set()
        await self._task
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(
            waiting=len(self._queue),
            transactions=self._transactions,
            mutations=self._mutations,
            failed_transactions=self._failures,
        )

    def __repr__(self) -> str:
        state = "closed" if self._stopping else "open"
        facts = f"{len(self._queue)} waiting, {self._transactions} transactions"
        return f"<RegistryWriter {state}: {facts}, {self._catalog!r}>"


def _opened(make_store: Callable[[Path], Store], path: Path) -> tuple[Store, Stored]:
    store = make_store(path)
    try:
        return store, store.load()
    except BaseException:
        store.close()
        raise


def _decided(draft: Draft, queued: _Queued) -> _Outcome:
    """Apply one mutation to `draft`; one that raises leaves no trace in it."""
    fork = draft.fork()
    try:
        value = queued.mutation(fork)
    except Exception as error:
        return _Outcome(queued, None, error)
    draft.absorb(fork)
    return _Outcome(queued, value, None)


def _copy(error: AiaasError) -> AiaasError:
    """An error of one's own for each waiter, who will add a traceback to it."""
    return from_code(error.code, error.message, error.details, error.retry_after)
