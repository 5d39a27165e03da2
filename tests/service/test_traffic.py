"""Copies for a shadow are nobody's errand: bounded, and ended with the platform."""

from __future__ import annotations

import asyncio

import pytest

from aiaas_async.service.traffic import MAX_COPIES, Shadows
from tests.service.conftest import Start


class Copies:
    """Copies that take for ever, and how many of them have ended."""

    def __init__(self) -> None:
        self.ended = 0

    async def one(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_copies_under_way_end_with_the_platform_and_none_begins(start: Start) -> None:
    copies = Copies()
    async with start() as platform:
        shadows = platform.calls.shadows
        for _ in range(3):
            shadows.send(copies.one())
        await asyncio.sleep(0)
    assert copies.ended == 3
    shadows.send(copies.one())
    assert shadows.statistics.left_out == 1


async def test_so_many_copies_run_at_once_and_others_are_left_out() -> None:
    shadows, copies = Shadows(), Copies()
    for _ in range(MAX_COPIES + 2):
        shadows.send(copies.one())
    assert shadows.statistics.left_out == 2
    await shadows.stop()
    assert (shadows.statistics.answered, shadows.statistics.failed) == (0, 0)


async def test_a_copy_that_meets_a_defect_has_failed_and_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    shadows = Shadows()
    shadows.send(broken())
    await shadows.settled()
    assert shadows.statistics.failed == 1
    assert "ZeroDivisionError" in caplog.text
