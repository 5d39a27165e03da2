"""The response cache of a deployment: equal inputs of one version are computed once.

The key is a digest of what determines the answer: the version (its files and metadata, themselves
a digest), the outputs asked for, and each input's dtype, shape and bytes. SHA-256, because nobody
must be able to make two inputs meet, and because processors have instructions for it: 600 KB take
0.35 ms, with BLAKE2b 0.8. Who asks for what is being computed already waits for that.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, ParamSpec, TypeVar

import msgspec
import numpy as np

from aiaas_async.compute.frames import Array
from aiaas_async.errors import DeadlineError
from aiaas_async.node.work import Call, Result
from aiaas_async.service.responses import Responses
from aiaas_async.service.statistics import VersionStatistics

# Beyond, digests and copies are made in a thread: 256 KiB take 0.15 ms.
_IN_LOOP_BYTES: Final = 256 << 10

Compute = Callable[[Call, float], Awaitable[Result]]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class CacheStatistics:
    """Counts since the deployment began. `shared` calls waited for an equal one that was being
    computed; `misses` were computed. `entries` and `bytes` are of this moment."""

    hits: int = 0
    misses: int = 0
    shared: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0
    budget: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    """A computation under way, and how many wait for it."""

    task: asyncio.Task[Result]
    waiting: int = 0


class ResponseCache:
    """For one version, of the content `digest`; `counts` are the version's."""

    def __init__(self, digest: str, budget: int, counts: VersionStatistics) -> None:
        self._seed = hashlib.sha256(digest.encode())
        self._responses: Responses[Mapping[str, Array]] = Responses(budget)
        self._flights: dict[bytes, _Flight] = {}
        self._counts = CacheStatistics(budget=budget)
        self._hit, self._miss = counts.cache_hit, counts.cache_miss

    async def call(self, call: Call, deadline: float, compute: Compute) -> Result:
        """The answer to `call`: remembered, or being computed, or computed now.

        Raises what `compute` raises, which is never remembered, and `DeadlineError`.
        """
        started = time.perf_counter_ns()
        size = sum(array.nbytes for array in call.arrays.values())
        key = await _beside(size, _key, self._seed, call)
        arrays = self._responses.get(key)
        if arrays is not None:
            self._counts.hits += 1
            self._hit.add(time.perf_counter_ns() - started)
            return Result("", arrays, cached=True)
        self._miss.add(time.perf_counter_ns() - started)
        return await self._missed(key, call, deadline, compute)

    async def _missed(self, key: bytes, call: Call, deadline: float, compute: Compute) -> Result:
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = self._start(key, call, deadline, compute)
                self._counts.misses += 1
                return await self._wait(key, flight, deadline)
            self._counts.shared += 1
            try:
                return await self._wait(key, flight, deadline)
            except DeadlineError:
                # The other's time was over; ours may not be.
                if asyncio.get_running_loop().time() >= deadline:
                    raise

    def _start(self, key: bytes, call: Call, deadline: float, compute: Compute) -> _Flight:
        task = asyncio.create_task(self._compute(key, call, deadline, compute))
        flight = _Flight(task)
        task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    async def _compute(self, key: bytes, call: Call, deadline: float, compute: Compute) -> Result:
        result = await compute(call, deadline)
        started = time.perf_counter_ns()
        size = sum(array.nbytes for array in result.arrays.values())
        if self._responses.can_hold(size):
            arrays = await _beside(size, _frozen, result.arrays)
            self._responses.put(key, arrays, size)
            self._miss.ns += time.perf_counter_ns() - started
        return result

    async def _wait(self, key: bytes, flight: _Flight, deadline: float) -> Result:
        """The end of a flight. Its computation ends when the last who waits for it has left."""
        left = deadline - asyncio.get_running_loop().time()
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task], timeout=max(0.0, left))
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()
        if not flight.task.done():
            raise DeadlineError("the deadline passed while an equal call was being computed")
        return flight.task.result()

    def _land(self, key: bytes, flight: _Flight) -> None:
        """Nobody joins `flight` any more."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # whoever waits gets it; perhaps nobody does any more

    def statistics(self) -> CacheStatistics:
        """A copy of the counts as of now."""
        held = self._responses.statistics()
        return replace(
            self._counts, evictions=held.evictions, entries=held.entries, bytes=held.nbytes
        )

    def __repr__(self) -> str:
        return f"<ResponseCache: {self._responses!r}, {len(self._flights)} being computed>"


def _key(seed: Any, call: Call) -> bytes:
    """Every part is preceded by its length, so that no two calls spell the same bytes."""
    found = seed.copy()
    shapes = [(name, a.dtype.str, a.shape) for name, a in sorted(call.arrays.items())]
    head = msgspec.json.encode((call.rows, call.outputs, shapes))
    found.update(len(head).to_bytes(8, "big") + head)
    for _, array in sorted(call.arrays.items()):
        if array.size:  # as bytes: texts give no buffer that hashlib takes
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    digest: bytes = found.digest()
    return digest


def _frozen(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies that nobody can change, and that keep no batch alive they were a part of."""
    copies = {name: array.copy() for name, array in arrays.items()}
    for array in copies.values():
        array.flags.writeable = False
    return copies


async def _beside(nbytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` done, in a thread when it concerns many bytes."""
    if nbytes <= _IN_LOOP_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
