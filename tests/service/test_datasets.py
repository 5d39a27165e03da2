"""Data sets for the event loop: nobody waits for another's, and damage is that one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.data.library import Library
from aiaas_async.service.datasets import Datasets
from tests.data.build import BODY, columns, ring_of
from tests.service.movement import HeldMove


def items(*labels: int) -> dict[str, Any]:
    return {"keys": [f"k{label}" for label in labels], "columns": columns(list(labels))}


@pytest.fixture
async def datasets(scratch: Path) -> AsyncIterator[Datasets]:
    """Two data sets of a few items; readers have two threads."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    made = Datasets(Library(scratch / "datasets", ring_of(2)))
    for name in ("one", "two"):
        await made.declare(name, BODY)
        await made.put(name, items(*range(20)))
    yield made
    await made.stop()


async def test_writers_who_wait_for_one_data_set_stop_no_reader(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldMove(monkeypatch)
    moving = asyncio.create_task(datasets.follow(ring_of(3)))
    await held.reached.wait()
    changes: list[asyncio.Task[Any]] = [
        asyncio.create_task(datasets.put("one", items(100 + n))) for n in range(8)
    ]
    changes += [asyncio.create_task(datasets.delete_item("one", f"k{n}")) for n in range(4)]
    async with asyncio.timeout(5):
        for name in ("one", "two"):
            assert (await datasets.get(name, "k7"))["columns"]["label"] == 7
            assert len(await datasets.source(name)) == 20
        await datasets.put("two", items(50))
    assert not any(change.done() for change in changes)
    held.free.set()
    await asyncio.gather(moving, *changes)
    assert len(await datasets.source("one")) == 20 + 8 - 4
