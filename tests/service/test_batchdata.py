"""Results are stored in packs: full ones, old ones, and what is left when nothing more waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pytest

from aiaas_async.data.journal import ROW
from aiaas_async.data.keys import Keys
from aiaas_async.data.reports import Known
from aiaas_async.schedule.divide import Task
from aiaas_async.service import batchdata as module
from aiaas_async.service.batchdata import Reader, Results, Sink
from aiaas_async.service.datasets import Datasets
from aiaas_async.wire.tensors import Array


class Disk:
    """Notes each pack, once it is allowed to."""

    def __init__(self) -> None:
        self.packs: list[list[bytes]] = []
        self.new_at: list[int | None] = []
        self.free = asyncio.Event()
        self.free.set()

    async def put_results(
        self, name: str, results: Callable[[], tuple[Keys, Mapping[str, Array], Known]]
    ) -> None:
        await self.free.wait()
        keys, columns, known = results()
        assert len(columns["y"]) == len(known.rows) == len(keys)
        self.packs.append(list(keys))
        self.new_at.append(known.new_at)


class Numbered:
    """A reader whose items have their number as key; one result was there before."""

    next_result = 2

    def keys(self, task: Task) -> tuple[Keys, Array]:
        numbers = range(task.start, task.stop)
        return Keys.of([b"%d" % number for number in numbers]), np.zeros(task.items, ROW)


@pytest.fixture
async def disk() -> Disk:
    return Disk()


@pytest.fixture
async def sink(disk: Disk) -> Sink:
    return Sink(cast(Datasets, disk), "results", cast(Reader, Numbered()))


def results(start: int, stop: int) -> Results:
    return Results(Task("a", start, stop), {"y": np.zeros((stop - start, 2), np.float32)})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_left_is_stored_at_once_when_nothing_more_waits(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACK_ITEMS", 3)
    await sink.add(results(0, 3))
    await settle()
    await sink.add(results(3, 4))
    sink.hurry()
    await settle()
    assert disk.packs == [[b"0", b"1", b"2"], [b"3"]]
    await sink.add(results(4, 5))
    sink.hurry()
    await settle()
    assert len(disk.packs) == 2, "the last few go together"
    await sink.flush()
    assert disk.packs[2:] == [[b"4"]]
    assert sink.stored == 5


async def test_what_is_left_is_stored_once_the_pack_before_it_is(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACK_ITEMS", 3)
    disk.free.clear()
    await sink.add(results(0, 3))
    await sink.add(results(3, 4))
    sink.hurry()
    disk.free.set()
    await settle()
    assert len(disk.packs) == 1
    await sink.add(results(4, 5))
    await settle()
    assert disk.packs == [[b"0", b"1", b"2"], [b"3", b"4"]]


async def test_hurrying_does_not_hide_that_a_pack_could_not_be_stored(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(name: str, results: Any) -> None:
        raise OSError("full")

    with monkeypatch.context() as patched:
        patched.setattr(module, "PACK_ITEMS", 1)
        patched.setattr(disk, "put_results", fails)
        await sink.add(results(0, 1))
        await settle()
    await sink.add(results(1, 2))
    with pytest.raises(OSError, match="full"):
        sink.hurry()
    with pytest.raises(OSError, match="full"):
        await sink.flush()
    assert sink.stored == 0


async def test_results_lie_in_the_order_of_their_items_and_are_said_to_be_new(
    sink: Sink, disk: Disk
) -> None:
    await sink.add(results(4, 6))
    await sink.add(results(0, 1))
    await sink.flush()
    await sink.add(results(1, 2))
    await sink.flush()
    assert disk.packs == [[b"0", b"4", b"5"], [b"1"]]
    assert disk.new_at == [2, 5]


@pytest.mark.parametrize("limit", ["PACK_S", "PACK_ITEMS", "PACK_BYTES"])
async def test_a_pack_that_is_old_or_full_is_stored_while_the_next_one_fills(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 0)
    disk.free.clear()
    await sink.add(results(0, 1))
    waiting = asyncio.create_task(sink.add(results(1, 2)))
    await settle()
    assert not waiting.done(), "two packs are in memory at most"
    disk.free.set()
    await waiting
    await sink.flush()
    assert disk.packs == [[b"0"], [b"1"]]


async def test_what_storing_a_pack_raised_ends_the_job(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(name: str, results: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(disk, "put_results", fails)
    await sink.add(results(0, 1))
    with pytest.raises(OSError, match="full"):
        await sink.flush()
