"""A job's events end, for whoever follows them, from wherever."""

from __future__ import annotations

import asyncio

import pytest

from aiaas_async.jobs.events import EventLog


def ended() -> EventLog:
    log = EventLog()
    log.add("progress", {"step": 1})
    log.add("end", {"state": "succeeded"})
    return log


@pytest.mark.parametrize(("after", "numbers"), [(0, [1, 2]), (1, [2]), (2, []), (99, [])])
async def test_who_follows_a_job_that_is_over_comes_to_an_end(
    after: int, numbers: list[int]
) -> None:
    async with asyncio.timeout(5):
        assert [event.number async for event in ended().follow(after)] == numbers


async def test_who_has_had_the_end_of_a_job_that_goes_on_gets_what_comes_then() -> None:
    log = ended().continued()
    assert not log.has_ended_by(2)
    following = asyncio.ensure_future(anext(log.follow(2)))
    await asyncio.sleep(0)
    log.add("state", {"state": "running"})
    assert (await following).number == 3
