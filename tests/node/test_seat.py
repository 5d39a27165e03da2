"""A seat always comes to hold a live worker: at once, or ever more slowly where none lives long."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aiaas_async.compute.jobs import Unload
from aiaas_async.node.seat import WorkerSeat
from tests.node.fakes import FakeSource


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest_asyncio.fixture
async def seat(source: FakeSource) -> AsyncIterator[WorkerSeat]:
    made = WorkerSeat("node n0", source, lambda: None)
    await made.start()
    yield made
    await made.vacate(0.0)


async def test_workers_that_die_before_a_first_job_follow_each_other_ever_more_slowly(
    seat: WorkerSeat, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for number in range(3):
        (await source.worker(number)).kill()
    await source.worker(3)
    await seat.do(Unload("m:1"), 60.0)
    source.workers[3].kill()
    (await source.worker(4)).kill()
    await source.worker(5)
    early = "node n0: its worker was ended before it finished a first job; the next one in"
    assert [record.getMessage() for record in caplog.records] == [
        f"{early} 0.05 s",
        f"{early} 0.10 s",
        f"{early} 0.20 s",
        "node n0: its worker was ended; another takes its seat",
        f"{early} 0.05 s",
    ]
