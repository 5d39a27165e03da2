"""Jobs are accepted, run, cancelled, restored and forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiaas_async.errors import CancelledJobError, ConflictError, InvalidError, NotFoundError
from aiaas_async.jobs.board import JobBoard, Running, render
from aiaas_async.jobs.record import JobRecord


class Disk:
    """Records as they were saved."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.saved: list[JobRecord] = []

    async def save(self, records: Sequence[JobRecord], forgotten: Sequence[str]) -> None:
        self.saved += records
        self.records |= {record.id: record for record in records}
        for job_id in forgotten:
            del self.records[job_id]


class SlowDisk(Disk):
    """Saves when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def save(self, records: Sequence[JobRecord], forgotten: Sequence[str]) -> None:
        self.asked.set()
        await self.let.wait()
        await super().save(records, forgotten)


class Scripted:
    """A runner that does what the request says."""

    async def run(self, job: Running) -> dict[str, Any]:
        job.events.add("progress", {"step": 1})
        match job.record.request["do"]:
            case "succeed":
                return {"answer": 42}
            case "fail":
                raise InvalidError("there is no such column")
            case "break":
                raise ZeroDivisionError
            case _:
                await job.cancel.wait()
                raise CancelledJobError("stopped at step 1")

    @asynccontextmanager
    async def resuming(self, board: JobBoard, record: JobRecord) -> AsyncIterator[dict[str, Any]]:
        await asyncio.sleep(0)
        if "then" not in record.request:
            raise ConflictError("nothing is left of it")
        yield {"do": record.request["then"]}

    def forget(self, job_id: str) -> None: ...


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def board(disk: Disk) -> JobBoard:
    return JobBoard({"work": Scripted()}, disk.save)


async def test_the_log_says_when_a_job_begins_and_how_it_ended(
    board: JobBoard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiaas_async.jobs.board")
    asked = {"model": "m", "version": "1.1"}
    good = await board.submit("work", {"do": "succeed", **asked})
    await over(good)
    bad = await board.submit("work", {"do": "fail"})
    await over(bad)
    assert caplog.messages == [
        f"work job {good.record.id} of m:1.1: running",
        f"work job {good.record.id} of m:1.1: succeeded",
        f"work job {bad.record.id}: running",
        f"work job {bad.record.id}: failed: there is no such column",
    ]


async def over(job: Running) -> str:
    assert job.task is not None
    await asyncio.wait([job.task])
    return job.record.state


async def test_a_job_is_on_disk_before_it_is_acknowledged(board: JobBoard, disk: Disk) -> None:
    job = await board.submit("work", {"do": "succeed"})
    assert job.record.id in disk.records
    assert await over(job) == "succeeded"


async def test_a_job_that_succeeds_keeps_its_result(board: JobBoard, disk: Disk) -> None:
    job = await board.submit("work", {"do": "succeed"})
    await over(job)
    assert disk.records[job.record.id].result == {"answer": 42}
    assert render(job)["progress"] == {"step": 1}


@pytest.mark.parametrize(("do", "code"), [("fail", "invalid"), ("break", "internal")])
async def test_a_job_that_fails_says_why(board: JobBoard, do: str, code: str) -> None:
    job = await board.submit("work", {"do": do})
    assert await over(job) == "failed"
    assert job.record.error is not None
    assert job.record.error["code"] == code


async def test_a_running_job_can_be_cancelled(board: JobBoard) -> None:
    job = await board.submit("work", {"do": "wait"})
    await asyncio.sleep(0)
    assert (await board.cancel(job.record.id)).record.state == "cancelled"


async def test_a_waiting_job_can_be_cancelled_before_it_starts(board: JobBoard) -> None:
    first = await board.submit("work", {"do": "wait"})
    second = await board.submit("work", {"do": "succeed"})
    assert (await board.cancel(second.record.id)).record.state == "cancelled"
    assert second.record.starts == 0
    await board.cancel(first.record.id)


async def test_what_was_running_when_the_server_stopped_runs_again(
    board: JobBoard, disk: Disk
) -> None:
    job = await board.submit("work", {"do": "wait"})
    await asyncio.sleep(0)
    await board.stop(10.0)
    assert disk.records[job.record.id].state == "queued"
    again = JobBoard({"work": Scripted()}, disk.save)
    again.restore(list(disk.records.values()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert again.get(job.record.id).record.starts == 2
    await again.stop(10.0)


async def test_a_job_killed_with_the_server_runs_again(disk: Disk) -> None:
    record = JobRecord("1", "work", "running", {"do": "succeed"}, 0.0, starts=1)
    disk.records["1"] = record
    board = JobBoard({"work": Scripted()}, disk.save)
    board.restore([record])
    assert await over(board.get("1")) == "succeeded"


async def test_followers_see_every_event_up_to_the_end(board: JobBoard) -> None:
    job = await board.submit("work", {"do": "succeed"})
    kinds = [event.kind async for event in job.events.follow()]
    assert kinds == ["state", "progress", "end"]
    assert [e.kind async for e in job.events.follow(after=2)] == ["end"]


async def test_an_unknown_job_is_not_found(board: JobBoard) -> None:
    with pytest.raises(NotFoundError, match="GET /jobs"):
        board.get("nope")


@pytest.mark.parametrize("do", ["succeed", "fail", "wait"])
async def test_how_far_a_job_was_is_known_after_a_restart(
    board: JobBoard, disk: Disk, do: str
) -> None:
    job = await board.submit("work", {"do": do})
    async for event in job.events.follow():
        if event.kind == "progress":
            break
    await board.stop(1.0)
    again = JobBoard({"work": Scripted()}, disk.save)
    again.restore(list(disk.records.values()))
    assert render(again.get(job.record.id))["progress"] == {"step": 1}
    await again.stop(1.0)


async def test_events_after_a_restart_have_higher_numbers_than_those_before() -> None:
    record = JobRecord("a", "echo", "succeeded", {}, 1.0, starts=2, finished_at=2.0)
    board = JobBoard({}, _never_saved)
    board.restore([record])
    seen_before_the_restart = 1_000_007  # of its second run
    followed = [event async for event in board.get("a").events.follow(seen_before_the_restart)]
    assert [event.kind for event in followed] == ["end"]


async def _never_saved(records: object, forgotten: object) -> None:
    raise AssertionError((records, forgotten))


@pytest.mark.parametrize("do", ["wait", "fail"])
async def test_a_job_that_was_cancelled_or_failed_is_resumed_and_told_on(
    board: JobBoard, disk: Disk, do: str
) -> None:
    job = await board.submit("work", {"do": do, "then": "succeed"})
    await asyncio.sleep(0)
    await board.cancel(job.record.id)
    told = [event.number async for event in job.events.follow()]
    del disk.saved[:]
    again = await board.resume(job.record.id)
    record = disk.saved[0]
    assert (record.state, record.error, record.finished_at) == ("queued", None, None)
    assert await over(again) == "succeeded"
    assert again is board.get(job.record.id)
    assert again.record.starts == 2
    numbers = [event.number async for event in again.events.follow(told[-1])]
    assert numbers == [told[-1] + 1, told[-1] + 2, told[-1] + 3]


async def test_a_job_is_resumed_once_and_only_where_it_can_be(board: JobBoard, disk: Disk) -> None:
    good = await board.submit("work", {"do": "fail", "then": "wait"})
    done = await board.submit("work", {"do": "succeed"})
    lost = await board.submit("work", {"do": "fail"})
    for job in (good, done, lost):
        await over(job)
    both = await asyncio.gather(
        board.resume(good.record.id), board.resume(good.record.id), return_exceptions=True
    )
    assert isinstance(both[1], ConflictError)
    assert "is being resumed; only one" in both[1].message
    with pytest.raises(ConflictError, match="is succeeded; only one that was cancelled or failed"):
        await board.resume(done.record.id)
    with pytest.raises(ConflictError, match="nothing is left"):
        await board.resume(lost.record.id)
    assert disk.records[lost.record.id].state == "failed"
    await board.cancel(good.record.id)


async def test_a_resumed_job_waits_again_after_a_restart(board: JobBoard, disk: Disk) -> None:
    job = await board.submit("work", {"do": "fail", "then": "wait"})
    await over(job)
    await board.resume(job.record.id)
    await asyncio.sleep(0)
    await board.stop(1.0)
    again = JobBoard({"work": Scripted()}, disk.save)
    again.restore(list(disk.records.values()))
    assert again.get(job.record.id).record.state == "queued"
    await again.stop(1.0)


async def test_a_job_whose_client_went_away_while_it_was_saved_is_on_the_board() -> None:
    disk = SlowDisk()
    board = JobBoard({"work": Scripted()}, disk.save)
    submitting = asyncio.create_task(board.submit("work", {"do": "succeed"}))
    await hung_up(submitting, disk)
    (job,) = board.all()
    assert await over(job) == "succeeded"
    assert disk.records[job.record.id].state == "succeeded"


async def test_a_job_whose_client_went_away_while_it_was_resumed_goes_on() -> None:
    slow, job_id = SlowDisk(), "1"
    record = JobRecord(job_id, "work", "failed", {"do": "fail", "then": "succeed"}, 0.0)
    board = JobBoard({"work": Scripted()}, slow.save)
    board.restore([record])
    await hung_up(asyncio.create_task(board.resume(job_id)), slow)
    assert await over(board.get(job_id)) == "succeeded"


async def hung_up(asking: asyncio.Task[Running], disk: SlowDisk) -> None:
    """`asking` is cancelled while the disk is slow; the disk comes to its end."""
    await disk.asked.wait()
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    disk.let.set()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_stop_waits_until_a_job_that_is_being_accepted_is_saved() -> None:
    disk = SlowDisk()
    board = JobBoard({"work": Scripted()}, disk.save)
    submitting = asyncio.create_task(board.submit("work", {"do": "succeed"}))
    await disk.asked.wait()
    stopping = asyncio.create_task(board.stop(10.0))
    await asyncio.sleep(0)
    assert not stopping.done()
    disk.let.set()
    await stopping
    assert disk.records[(await submitting).record.id].state == "queued"
