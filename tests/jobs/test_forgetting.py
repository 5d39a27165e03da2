"""Old jobs are forgotten beside others that are accepted, resumed, or find the disk full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiaas_async.errors import NotFoundError, StorageError
from aiaas_async.jobs import board as module
from aiaas_async.jobs.board import JobBoard
from aiaas_async.jobs.record import JobRecord
from tests.jobs.test_board import Disk, Scripted, over


class FullDisk(Disk):
    """Takes records, and forgets none."""

    async def save(self, records: Sequence[JobRecord], forgotten: Sequence[str]) -> None:
        if forgotten:
            raise StorageError("the disk is full")
        await super().save(records, forgotten)


class YieldingDisk(Disk):
    """Others run while it saves."""

    async def save(self, records: Sequence[JobRecord], forgotten: Sequence[str]) -> None:
        await asyncio.sleep(0)
        await super().save(records, forgotten)


class Noting(Scripted):
    """Remembers whose folders were deleted; resumes when it is let."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def resuming(self, board: JobBoard, record: JobRecord) -> AsyncIterator[dict[str, Any]]:
        self.asked.set()
        await self.let.wait()
        async with super().resuming(board, record) as request:
            yield request

    def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)


def of_old(disk: Disk, runner: Scripted, count: int = 3) -> JobBoard:
    """A board with jobs "0", "1", … that have failed, the oldest first."""
    records = [
        JobRecord(str(n), "work", "failed", {"do": "fail", "then": "wait"}, n, finished_at=n)
        for n in range(count)
    ]
    disk.records |= {record.id: record for record in records}
    board = JobBoard({"work": runner}, disk.save, max_running=4)
    board.restore(records)
    return board


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FINISHED", 2)


async def test_of_too_many_that_are_over_the_oldest_are_forgotten_with_what_they_left() -> None:
    disk, runner = Disk(), Noting()
    board = of_old(disk, runner, 4)
    job = await board.submit("work", {"do": "wait"})
    assert {each.record.id for each in board.all()} == set(disk.records)
    assert set(disk.records) == {"2", "3", job.record.id}
    assert runner.forgotten == ["0", "1"]
    with pytest.raises(NotFoundError):
        board.get("0")
    await board.cancel(job.record.id)


async def test_jobs_accepted_at_once_forget_an_old_one_once() -> None:
    disk = YieldingDisk()
    board = of_old(disk, Noting())
    jobs = await asyncio.gather(*(board.submit("work", {"do": "succeed"}) for _ in range(3)))
    assert [await over(job) for job in jobs] == ["succeeded"] * 3
    assert "0" not in disk.records


async def test_a_job_that_is_being_resumed_is_not_forgotten() -> None:
    disk, runner = Disk(), Noting()
    board = of_old(disk, runner)
    resuming = asyncio.create_task(board.resume("0"))
    await runner.asked.wait()
    await board.submit("work", {"do": "wait"})
    assert runner.forgotten == ["1"]
    runner.let.set()
    again = await resuming
    assert board.get("0") is again
    assert "0" in disk.records
    await board.stop(1.0)


async def test_a_disk_that_forgets_nothing_refuses_no_job_and_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "aiaas_async.jobs.board")
    disk, runner = FullDisk(), Noting()
    board = of_old(disk, runner)
    job = await board.submit("work", {"do": "fail"})
    assert await over(job) == "failed"
    assert runner.forgotten == []
    assert caplog.messages == [
        "1 old jobs are not forgotten, and back at the next start: the disk is full"
    ]
