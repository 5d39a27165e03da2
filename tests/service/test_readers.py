"""Readers of long JSON bodies: what waits for them is bounded in number and in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from aiaas_async.errors import OverloadedError
from aiaas_async.service import readers
from aiaas_async.service.readers import Readers
from tests.node.fakes import FakeSource
from tests.service.held import Held

BODY = [b"[1, ", b"2, 3]"]


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest_asyncio.fixture
async def reading(source: FakeSource) -> AsyncIterator[Readers]:
    """One reader, which reads nothing by itself."""
    made = Readers(source, 1)
    yield made
    await made.stop()


async def waiting(reading: Readers, source: FakeSource, count: int) -> list[asyncio.Task[object]]:
    found = [asyncio.create_task(reading.read_json(BODY)) for _ in range(count)]
    await asyncio.sleep(0)
    await (await source.worker(0)).next()
    for _ in range(20):
        await asyncio.sleep(0)
    return found


@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_WAITING", 3), ("MAX_BYTES", 3 * len(b"".join(BODY)))]
)
async def test_one_body_too_many_is_refused_at_once(
    reading: Readers,
    source: FakeSource,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
) -> None:
    monkeypatch.setattr(readers, limit, most)
    under_way = await waiting(reading, source, 3)
    with pytest.raises(OverloadedError, match="3 long JSON bodies of 27 bytes wait"):
        await reading.read_json(BODY)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    (again,) = await waiting(reading, source, 1)
    assert not again.done()
    again.cancel()


async def test_a_body_larger_than_all_that_may_wait_is_read_when_none_does(
    reading: Readers, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_BYTES", 1)
    (alone,) = await waiting(reading, source, 1)
    assert not alone.done()
    alone.cancel()


async def test_an_answer_is_written_though_no_reader_has_the_time(
    reading: Readers, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WRITING_PATIENCE_S", 0.0)
    under_way = await waiting(reading, source, 3)
    written = await reading.write_json({"y": np.arange(3)})
    assert written == {"y": msgspec.Raw(b"[0,1,2]")}
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def test_a_body_that_takes_too_long_is_not_read_again(
    reading: Readers, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PATIENCE_S", 0.01)
    with pytest.raises(OverloadedError, match="not read in time"):
        await reading.read_json(BODY)
    assert len(source.workers) == 1


async def test_long_bodies_are_read_one_at_a_time_though_those_who_sent_them_hang_up(
    reading: Readers,
) -> None:
    held = Held()
    first = asyncio.create_task(reading.in_thread(held))
    await held.is_begun()
    first.cancel()
    second = asyncio.create_task(reading.in_thread(held))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not first.done()  # so that its bytes are counted as long as they lie here
    held.free.set()
    assert await second == 7
    assert held.most == 1
    assert first.cancelled()
