"""What is begun comes to its end, and whoever asked hears of it then."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aiaas_async.actors.unbroken import Unbroken, to_its_end
from aiaas_async.errors import StorageError


async def test_work_gives_its_result_or_its_error() -> None:
    async def work() -> int:
        return 7

    async def fails() -> int:
        raise StorageError("no space left")

    assert await to_its_end(work()) == 7
    with pytest.raises(StorageError):
        await to_its_end(fails())


async def test_who_is_cancelled_holds_a_lock_until_the_work_is_done() -> None:
    lock, free, done = asyncio.Lock(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await free.wait()
        done.set()

    async def ask() -> None:
        async with lock:
            await to_its_end(work())

    asking = asyncio.create_task(ask())
    for _ in range(3):
        await asyncio.sleep(0)
        asking.cancel()
        assert lock.locked()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert done.is_set()
    assert not lock.locked()


async def test_what_failed_for_one_who_went_away_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = asyncio.Event()

    async def fails() -> None:
        await free.wait()
        raise StorageError("no space left")

    asking = asyncio.create_task(to_its_end(fails()))
    await asyncio.sleep(0)
    asking.cancel()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert "failed: no space left" in caplog.text


async def test_who_goes_away_leaves_at_once_and_what_was_begun_is_waited_for() -> None:
    changes, free, done = Unbroken(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await free.wait()
        done.set()

    asking = asyncio.create_task(changes.do(work()))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await changes.settle(0.0)
    assert not done.is_set()
    free.set()
    await changes.settle()
    assert done.is_set()
    await changes.settle()


async def test_what_failed_for_one_who_left_at_once_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes, free = Unbroken(), asyncio.Event()

    async def fails() -> None:
        await free.wait()
        raise StorageError("no space left")

    asking = asyncio.create_task(changes.do(fails()))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    free.set()
    await changes.settle()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "what was begun for one who went away failed: no space left"
    ]
