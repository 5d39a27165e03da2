"""The watch over the event loop: a stall is counted, and its culprit is in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aiaas_async.service.loopwatch import LOG_EVERY_S, LoopWatch


@contextmanager
def watching(watch: LoopWatch) -> Iterator[LoopWatch]:
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def stall_until(watch: LoopWatch, stalls: int) -> None:
    """Hold the loop until the watch has seen it: a kernel of somebody's in the wrong place."""
    give_up = time.monotonic() + 10
    while watch.stalls < stalls and time.monotonic() < give_up:
        time.sleep(0.001)  # that it blocks is what is tested


async def next_turn(watch: LoopWatch) -> None:
    """Until the watch has timed another turn, the late one if the loop was held."""
    timed = watch.lag.count
    async with asyncio.timeout(10):
        while watch.lag.count == timed:  # noqa: ASYNC110 - a thread counts; it sets no event
            await asyncio.sleep(0)


async def test_a_stall_is_counted_and_the_log_says_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), watching(LoopWatch(0.02, 0.001)) as watch:
        stall_until(watch, 1)
        await next_turn(watch)
    assert watch.stalls >= 1
    assert watch.lag.total >= 0.02
    (said,) = [record.getMessage() for record in caplog.records]
    assert "over 20 ms (1 times since" in said
    assert "in stall_until" in said


async def test_the_log_is_bounded_and_says_what_it_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    with (
        caplog.at_level(logging.WARNING),
        watching(LoopWatch(0.02, 0.001, clock=lambda: now)) as watch,
    ):
        for number in range(1, 4):
            stall_until(watch, number)
            await next_turn(watch)
        assert len(caplog.records) == 1
        now = LOG_EVERY_S
        stall_until(watch, watch.stalls + 1)
        await next_turn(watch)
    assert len(caplog.records) == 2
    assert "times since the last such line" in caplog.records[-1].getMessage()
    assert "(1 times" not in caplog.records[-1].getMessage()


async def test_code_that_lets_no_thread_run_is_seen_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), watching(LoopWatch(0.02, 0.001)) as watch:
        await next_turn(watch)
        stalled, before = watch.stalls, time.perf_counter()
        sum(range(10_000_000))  # one C function, which never gives the interpreter lock away
        took = time.perf_counter() - before
        await next_turn(watch)
    assert watch.stalls > stalled
    assert watch.lag.total >= 0.9 * took
    assert "the event loop stalls" in caplog.records[-1].getMessage()


async def test_a_loop_that_turns_is_only_timed() -> None:
    with watching(LoopWatch(10.0, 0.001)) as watch:
        for _ in range(3):
            await next_turn(watch)
        (thread,) = [t for t in threading.enumerate() if t.name == "loop watch"]
    assert watch.stalls == 0
    assert not thread.is_alive()


async def test_it_ends_while_the_loop_does_not_turn() -> None:
    watch = LoopWatch(10.0, 0.001)
    watch.start()
    watch.stop()  # holds the loop: no turn can be had
