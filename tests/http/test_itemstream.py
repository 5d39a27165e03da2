"""An upload of any length is in memory by two values, however slow the disk."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from aiaas_async import AsyncClient
from aiaas_async.client import datasets
from aiaas_async.data.dataset import Dataset
from aiaas_async.service.datasets import InOrder
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


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of values that the server has taken whole."""
    add, sizes = InOrder.add, list[int]()

    async def counted(self: InOrder, raw: bytearray) -> None:
        sizes.append(len(raw))
        await add(self, raw)

    monkeypatch.setattr(InOrder, "add", counted)
    return sizes


async def test_an_upload_waits_for_the_disk_instead_of_filling_the_memory(
    served: Served, disk: threading.Event, taken: list[int]
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
            while len(taken) < 2:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0)
        before = -1
        while before != len(sent):  # until nothing moves any more
            before = len(sent)
            await asyncio.sleep(0.05)
        # One is being stored, one waits; the sockets' buffers hold some on the way.
        assert len(taken) == 2
        assert sent[-1][0] < ITEMS // 2
        disk.set()
        report = await upload
    assert report["written"] == ITEMS
    assert sent[-1] == (ITEMS, ITEMS)
    assert max(taken) < 1.1 * VALUE_BYTES


async def test_who_breaks_off_an_upload_leaves_whole_values_and_no_task(
    served: Served, disk: threading.Event, taken: list[int]
) -> None:
    before = len(asyncio.all_tasks())  # none of the client's connection, or of what is stored
    async with AsyncClient(served.url) as client:
        await client.put_dataset("d", {"x": {"dtype": "uint8", "shape": [ITEM_BYTES]}})
        x = np.zeros((ITEMS, ITEM_BYTES), np.uint8)
        keys = [str(number) for number in range(ITEMS)]
        upload = asyncio.create_task(client.put_items("d", {"x": x}, keys))
        async with asyncio.timeout(20):
            while len(taken) < 2:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0)
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    disk.set()
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    count = (await served.platform.datasets.describe("d"))["count"]
    step = ITEMS * VALUE_BYTES // (x.nbytes + 4 * ITEMS + sum(map(len, keys)))
    assert count % step == 0
    assert 0 < count < ITEMS, "what was on its way may be stored, but no value in part"
