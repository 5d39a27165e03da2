"""Results are stored in packs: full ones, old ones, and what is left when nothing more waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

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
    counts: Final[dict[str, int]] = {"a": 60, "b": 40}

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


async def test_near_the_end_packs_are_stored_before_they_are_full(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EARLY_ITEMS", 4)
    await sink.add(results(0, 74))
    await settle()
    assert not disk.packs, "26 are still to come"
    await sink.add(results(74, 75))
    await settle()
    assert [len(pack) for pack in disk.packs] == [75]
    await sink.add(results(75, 94))
    await sink.add(results(94, 97))
    await sink.add(results(97, 100))
    await settle()
    assert [len(pack) for pack in disk.packs] == [75, 19], "the last few go together"
    await sink.flush()
    assert [len(pack) for pack in disk.packs] == [75, 19, 6]
    assert sink.stored == 100


async def test_nobody_waits_for_a_pack_that_is_not_full(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EARLY_ITEMS", 4)
    disk.free.clear()
    await sink.add(results(0, 75))
    await sink.add(results(75, 96))
    disk.free.set()
    await settle()
    assert [len(pack) for pack in disk.packs] == [75]
    await sink.add(results(96, 97))
    await settle()
    assert [len(pack) for pack in disk.packs] == [75, 22]


async def test_a_pack_that_could_not_be_stored_is_not_forgotten_for_the_next_one(
    sink: Sink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(name: str, results: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(module, "EARLY_ITEMS", 4)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "put_results", fails)
        await sink.add(results(0, 75))
        await settle()
    with pytest.raises(OSError, match="full"):
        await sink.add(results(75, 96))
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
