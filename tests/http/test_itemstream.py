"""An upload of any length is in memory by two values, however slow the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from aiohttp import web

from aiaas_async import AsyncClient
from aiaas_async.client import datasets
from aiaas_async.data.dataset import Dataset
from aiaas_async.http import itemstream
from aiaas_async.http.budget import BodyBudget
from aiaas_async.http.exchange import BUDGET, PLATFORM
from aiaas_async.service.datasets import InOrder
from aiaas_async.wire import skim
from aiaas_async.wire.codecs import encode_msgpack
from tests.http.conftest import Served

ITEMS, ITEM_BYTES, VALUE_BYTES = 60_000, 1024, 1 << 20


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set: writing goes on."""
    put, free = Dataset.put, threading.Event()

    def slow(self: Dataset, *given: Any) -> Any:
        assert free.wait(20)
        return put(self, *given)

    monkeypatch.setattr(Dataset, "put", slow)
    monkeypatch.setattr(datasets, "VALUE_BYTES", VALUE_BYTES)
    return free


class Counted(list[int]):
    """How often values of a body were looked up."""

    looks = 0

    def __getitem__(self, first: Any) -> Any:
        self.looks += 1
        return super().__getitem__(first)


async def test_a_value_that_comes_byte_by_byte_is_looked_over_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [{"x": [[0] * 90] * 40}, {"texts": ["a" * 300, "b"], "data": bytes(2000)}, {}]
    body = b"".join(map(encode_msgpack, values))

    async def trickled(*_: Any) -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    counted = Counted(skim._STEPS)
    monkeypatch.setattr(skim, "_STEPS", counted)
    monkeypatch.setattr(itemstream, "stream_body", trickled)
    app = {PLATFORM: served.platform, BUDGET: BodyBudget(1 << 20)}
    request = cast(web.Request, SimpleNamespace(app=app))
    found = [bytes(raw) async for raw in itemstream.raw_values(request)]
    assert found == [encode_msgpack(value) for value in values]
    assert counted.looks < len(body)


class Taken:
    """The sizes of values that the server has taken whole; `two` is set with the second."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.two = asyncio.Event()

    def add(self, size: int) -> None:
        self.sizes.append(size)
        if len(self.sizes) == 2:
            self.two.set()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    add, found = InOrder.add, Taken()

    async def counted(self: InOrder, raw: bytearray) -> None:
        found.add(len(raw))
        await add(self, raw)

    monkeypatch.setattr(InOrder, "add", counted)
    return found


async def until_nothing_moves(sent: list[tuple[int, int]]) -> None:
    """Both ends are in this loop: what the sockets take, they take in its turns."""
    before, still = len(sent), 0
    while still < 200:
        await asyncio.sleep(0)
        still = still + 1 if len(sent) == before else 0
        before = len(sent)


async def test_an_upload_waits_for_the_disk_instead_of_filling_the_memory(
    served: Served, disk: threading.Event, taken: Taken
) -> None:
    sent: list[tuple[int, int]] = []
    async with AsyncClient(served.url) as client:
        await client.put_dataset("d", {"x": {"dtype": "uint8", "shape": [ITEM_BYTES]}})
        x = np.zeros((ITEMS, ITEM_BYTES), np.uint8)
        keys = [str(number) for number in range(ITEMS)]
        upload = asyncio.create_task(
            client.put_items("d", {"x": x}, keys, lambda *at: sent.append(at))
        )
        async with asyncio.timeout(20):
            await taken.two.wait()
        await until_nothing_moves(sent)
        # One is being stored, one waits; the sockets' buffers hold some on the way.
        assert len(taken.sizes) == 2
        assert sent[-1][0] < ITEMS // 2
        disk.set()
        report = await upload
    assert report["written"] == ITEMS
    assert sent[-1] == (ITEMS, ITEMS)
    assert max(taken.sizes) < 1.1 * VALUE_BYTES


async def test_who_breaks_off_an_upload_leaves_whole_values_and_no_task(
    served: Served, disk: threading.Event, taken: Taken
) -> None:
    before = asyncio.all_tasks()  # none of the client's connection, or of what is stored
    async with AsyncClient(served.url) as client:
        await client.put_dataset("d", {"x": {"dtype": "uint8", "shape": [ITEM_BYTES]}})
        x = np.zeros((ITEMS, ITEM_BYTES), np.uint8)
        keys = [str(number) for number in range(ITEMS)]
        upload = asyncio.create_task(client.put_items("d", {"x": x}, keys))
        async with asyncio.timeout(20):
            await taken.two.wait()
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    disk.set()
    async with asyncio.timeout(20):
        while late := asyncio.all_tasks() - before:
            await asyncio.wait(late)
    count = (await served.platform.datasets.describe("d"))["count"]
    step = ITEMS * VALUE_BYTES // (x.nbytes + 4 * ITEMS + sum(map(len, keys)))
    assert count % step == 0
    assert 0 < count < ITEMS, "what was on its way may be stored, but no value in part"
