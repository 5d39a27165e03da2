"""Equal calls are computed once; nobody gets another's answer, failure, or deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from aiaas_async.errors import DeadlineError, WorkerDiedError
from aiaas_async.node.work import Call, Result
from aiaas_async.service.caching import ResponseCache
from aiaas_async.service.statistics import VersionStatistics
from tests.node.fakes import servable

OF = servable()


def call(value: Any = 1.0, outputs: tuple[str, ...] | None = ("y",), **more: Any) -> Call:
    arrays = {"x": np.full((2, 2), value, np.float32), **more}
    return Call(OF, arrays, 2, outputs)


def soon() -> float:
    return asyncio.get_running_loop().time() + 60


class Work:
    """Computes when it is let; counts what it was asked and what was cancelled."""

    def __init__(self, *, held: bool = False) -> None:
        self.started = self.cancelled = 0
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None
        if not held:
            self.open.set()

    async def __call__(self, asked: Call, deadline: float) -> Result:
        self.started += 1
        self.reached.set()
        try:
            async with asyncio.timeout_at(deadline):
                await self.open.wait()
        except TimeoutError:
            raise DeadlineError("too late") from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        whole = np.concatenate([asked.arrays["x"], asked.arrays["x"]])
        return Result("n0", {"y": whole[:2] * 1}, {}, 0.1, 0.2, 2)


async def test_an_equal_call_is_answered_without_computing() -> None:
    version = VersionStatistics()
    cache, work = ResponseCache("d", 1 << 20, version), Work()
    first = await cache.call(call(), soon(), work)
    again = await cache.call(call(), soon(), work)
    assert work.started == 1
    assert (first.cached, again.cached) == (False, True)
    assert (again.node, again.batch_size, again.compute_s) == ("", 0, 0.0)
    assert np.array_equal(first.arrays["y"], again.arrays["y"])
    counts = cache.statistics()
    assert (counts.hits, counts.misses, counts.shared, counts.entries) == (1, 1, 0, 1)
    assert 16 < counts.bytes <= counts.budget == 1 << 20
    assert (version.cache_hit.count, version.cache_miss.count) == (1, 1)
    assert version.cache_hit.ns > 0
    assert version.cache_miss.ns > 0


OTHERS = [
    call(2.0),
    call(outputs=("y", "z")),
    call(outputs=None),
    Call(OF, {"x": np.full((2, 2), 1.0, np.float64)}, 2, ("y",)),
    Call(OF, {"x": np.full((4, 1), 1.0, np.float32)}, 4, ("y",)),
    Call(OF, {"x": np.full((1, 4), 1.0, np.float32)}, 1, ("y",)),
    call(z=np.zeros((2, 0), np.float32)),
    Call(OF, {"z": np.full((2, 2), 1.0, np.float32)}, 2, ("y",)),
]


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
async def test_what_differs_in_anything_that_counts_is_computed(other: Call) -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work()
    await cache.call(call(), soon(), work)
    if "x" not in other.arrays:
        other = Call(OF, {**other.arrays, "x": other.arrays["z"]}, 2, ("y",))
    assert not (await cache.call(other, soon(), work)).cached


async def test_texts_and_their_order_count() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work()
    texts = [np.array(["ab", "c"]), np.array(["a", "bc"]), np.array(["ab", "c"])]
    found = [await cache.call(call(t=text), soon(), work) for text in texts]
    assert [each.cached for each in found] == [False, False, True]


async def test_long_inputs_and_answers_are_told_apart_as_short_ones_are() -> None:
    cache, work = ResponseCache("d", 8 << 20, VersionStatistics()), Work()
    long = np.zeros((2, 200_000), np.float32)
    other = long.copy()
    other[1, -1] = 1
    found = [
        await cache.call(Call(OF, {"x": x}, 2, ("y",)), soon(), work) for x in (long, other, long)
    ]
    assert [each.cached for each in found] == [False, False, True]
    assert np.array_equal(found[2].arrays["y"], long)


async def test_a_remembered_answer_cannot_be_changed_and_keeps_no_batch_alive() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work()
    first = await cache.call(call(), soon(), work)
    first.arrays["y"][:] = 7  # its receiver's to change
    again = (await cache.call(call(), soon(), work)).arrays["y"]
    assert again.tolist() == [[1, 1], [1, 1]]
    assert again.base is None
    with pytest.raises(ValueError, match="read-only"):
        again[:] = 7


async def test_an_answer_that_does_not_fit_is_given_and_not_remembered() -> None:
    cache, work = ResponseCache("d", 64, VersionStatistics()), Work()
    for _ in range(2):
        assert not (await cache.call(call(), soon(), work)).cached
    assert work.started == 2
    assert cache.statistics().bytes == 0


async def test_equal_calls_at_once_share_one_computation() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    calls = [asyncio.create_task(cache.call(call(), soon(), work)) for _ in range(5)]
    await work.reached.wait()
    work.open.set()
    found = await asyncio.gather(*calls)
    assert work.started == 1
    assert all(each.arrays["y"].tolist() == [[1, 1], [1, 1]] for each in found)
    counts = cache.statistics()
    assert (counts.hits, counts.misses, counts.shared) == (0, 1, 4)


@pytest.mark.parametrize("leaver", [0, 1])
async def test_who_leaves_takes_the_answer_from_nobody(leaver: int) -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    calls = [asyncio.create_task(cache.call(call(), soon(), work)) for _ in range(3)]
    await work.reached.wait()
    calls[leaver].cancel()
    await asyncio.wait([calls[leaver]])
    work.open.set()
    kept = [each for place, each in enumerate(calls) if place != leaver]
    assert [each.batch_size for each in await asyncio.gather(*kept)] == [2, 2]
    assert (work.started, work.cancelled) == (1, 0)
    assert calls[leaver].cancelled()


async def test_when_the_last_has_left_the_computation_ends_and_the_next_starts_anew() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    calls = [asyncio.create_task(cache.call(call(), soon(), work)) for _ in range(2)]
    await work.reached.wait()
    for each in calls:
        each.cancel()
    await asyncio.wait(calls)
    work.open.set()
    assert not (await cache.call(call(), soon(), work)).cached
    assert (work.started, work.cancelled) == (2, 1)


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    work.error = WorkerDiedError("died")
    calls = [asyncio.create_task(cache.call(call(), soon(), work)) for _ in range(2)]
    await work.reached.wait()
    work.open.set()
    failed = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, WorkerDiedError) for each in failed)
    work.error = None
    assert not (await cache.call(call(), soon(), work)).cached
    assert work.started == 2


async def test_who_has_more_time_than_the_first_computes_again() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    now = asyncio.get_running_loop().time()
    first = asyncio.create_task(cache.call(call(), now + 0.01, work))
    await work.reached.wait()
    patient = asyncio.create_task(cache.call(call(), soon(), work))
    with pytest.raises(DeadlineError):
        await first
    work.open.set()
    assert (await patient).batch_size == 2
    assert work.started == 2


async def test_who_has_less_time_than_the_first_is_told_so_in_time() -> None:
    cache, work = ResponseCache("d", 1 << 20, VersionStatistics()), Work(held=True)
    first = asyncio.create_task(cache.call(call(), soon(), work))
    await work.reached.wait()
    with pytest.raises(DeadlineError, match="an equal call was being computed"):
        await cache.call(call(), asyncio.get_running_loop().time() + 0.01, work)
    work.open.set()
    assert (await first).batch_size == 2
