"""Data sets for the event loop: nobody waits for another's, and damage is that one's own."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiaas_async.data.library import Library
from aiaas_async.data.reports import PutReport
from aiaas_async.data.schema import DatasetSpec
from aiaas_async.errors import ConflictError, CorruptError, NotFoundError, StorageError
from aiaas_async.service import datasets as module
from aiaas_async.service.datasets import PAGE_VALUES, Datasets
from tests.data.build import BODY, columns, ring_of
from tests.service.movement import HeldMove
from tests.service.test_turns import Held


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


async def test_those_who_wait_for_one_that_is_being_opened_stop_no_reader_of_another(
    datasets: Datasets, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await datasets.stop()
    again = Datasets(Library(scratch / "datasets", ring_of(3)))
    await again.describe("two")
    held = HeldMove(monkeypatch)
    waiting: list[asyncio.Task[Any]] = [
        asyncio.create_task(ask)
        for _ in range(3)
        for ask in (again.page("one", None, 5), again.source("one"), again.list_all(), again.held())
    ]
    await held.reached.wait()
    async with asyncio.timeout(5):
        assert (await again.get("two", "k7"))["columns"]["label"] == 7
        await again.put("two", items(7))
    assert not any(each.done() for each in waiting)
    held.free.set()
    for each in await asyncio.gather(*waiting):
        assert len(each) in {2, 3, 20}
    await again.stop()


async def test_a_job_that_comes_while_a_deletion_waits_for_its_turn_keeps_its_data_set(
    datasets: Datasets,
) -> None:
    held, jobs = Held(), list[str]()
    datasets.users.append(lambda name: jobs if name == "one" else [])
    change = asyncio.create_task(datasets._turns.take("one", held))
    await held.is_begun()
    deleting = asyncio.create_task(datasets.delete("one"))
    await asyncio.sleep(0)
    jobs.append("batch job 7")
    held.free.set()
    with pytest.raises(ConflictError, match="data set one is in use by batch job 7; cancel that"):
        await deleting
    await change
    assert len(await datasets.source("one")) == 20
    jobs.clear()
    await datasets.delete("one")
    with pytest.raises(NotFoundError):
        await datasets.source("one")


async def test_what_a_client_that_went_away_left_to_be_stored_is_told_of_if_it_fails(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, unheard = asyncio.Event(), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    free = threading.Event()

    def fails(*_: Any) -> PutReport:
        loop.call_soon_threadsafe(begun.set)
        assert free.wait(10)
        raise StorageError("no space left")

    async def bodies() -> AsyncIterator[bytearray]:
        yield bytearray()
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "put_body", fails)
    putting = asyncio.create_task(datasets.put_stream("one", bodies(), lambda _: items(1)))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    free.set()
    await asyncio.wait(left)
    del putting, left
    gc.collect()
    await asyncio.sleep(0)
    assert not unheard
    assert "items that a client left to be stored were not: no space left" in caplog.text


async def pages(datasets: Datasets, name: str) -> list[list[str]]:
    """The keys of all pages, none of which has more values than it may."""
    found, after = list[list[str]](), None
    while after is not None or not found:
        page = await datasets.page(name, after, 10_000)
        keys, after = page["keys"], page["next"]
        assert len(keys) == 1 or sum(a.size for a in page["columns"].values()) <= PAGE_VALUES
        found.append(keys)
    return found


async def test_a_page_of_large_items_is_full_before_its_limit_and_the_next_goes_on(
    datasets: Datasets,
) -> None:
    columns = {"x": {"dtype": "uint8", "shape": [100, 1000]}, "y": {"dtype": "bool", "shape": [9]}}
    await datasets.declare("large", {"columns": columns})
    keys, x = [f"k{n}" for n in range(20)], np.zeros((20, 100, 1000), np.uint8)
    values = {"x": x, "y": np.zeros((20, 9), np.bool_)}
    await datasets.put("large", {"keys": keys, "columns": values})
    found = await pages(datasets, "large")
    assert sum(found, []) == keys  # noqa: RUF017 - three lists
    assert [len(each) for each in found] == [9, 9, 2]
    part = await datasets.range("large", 2, 19)
    assert part["keys"] == keys[2:11]
    rest = await datasets.page("large", part["next"], 100)
    assert rest["keys"] == keys[11:20]


async def test_an_item_larger_than_a_page_is_a_page_of_its_own(datasets: Datasets) -> None:
    size = PAGE_VALUES + 1
    await datasets.declare("huge", {"columns": {"x": {"dtype": "uint8", "shape": [size]}}})
    x = np.zeros((2, size), np.uint8)
    await datasets.put("huge", {"keys": ["a", "b"], "columns": {"x": x}})
    assert await pages(datasets, "huge") == [["a"], ["b"]]


async def damaged(folder: Path, name: str) -> Datasets:
    """The same data sets after a restart, `name` without what was committed."""
    library = Library(folder, ring_of(2))
    (library.get(name).folder / "commit.bin").write_bytes(b"")
    return Datasets(Library(folder, ring_of(2)))


async def test_a_damaged_data_set_is_listed_with_its_damage_and_counts_for_nothing(
    datasets: Datasets, scratch: Path
) -> None:
    await datasets.stop()
    again = await damaged(scratch / "datasets", "one")
    first, second = await again.list_all()
    assert (first["name"], first["count"], first["replication"]) == ("one", None, 1)
    assert set(first["columns"]) == set(BODY["columns"])
    with pytest.raises(CorruptError) as caught:
        await again.describe("one")
    assert first["error"] == caught.value.message
    assert (second["name"], second["count"]) == ("two", 20)
    assert "error" not in second
    held, left_out = await again.held()
    assert sum(each["rows"] for each in held.values()) == 20
    assert left_out == {"one": caught.value.message}


async def test_a_data_set_that_is_deleted_while_all_are_listed_is_left_out(
    scratch: Path,
) -> None:
    class Deleting(Library):
        """One goes whenever somebody asks what there is."""

        def specs(self) -> list[DatasetSpec]:
            found = super().specs()
            if found:
                self.delete(found[0].name)
            return found

    library = Deleting(scratch, ring_of(2))
    for name in ("one", "two", "three"):
        library.declare(name, BODY)
    datasets = Datasets(library)
    assert [facts["name"] for facts in await datasets.list_all()] == ["three", "two"]
    held, left_out = await datasets.held()
    assert (left_out, sum(each["rows"] for each in held.values())) == ({}, 0)
