"""Every deadline is kept, never early, by far fewer timers than there are envelopes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.actors.deadlines import Deadlines
from aiaas_async.actors.envelope import Envelope
from aiaas_async.errors import DeadlineError

Mail = Envelope[str, int]


class Clock:
    """A loop of which only the clock and the timers are real, and both by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, object, tuple[object, ...]]] = []
        self._loop = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[int]:
        return self._loop.create_future()

    def call_at(self, when: float, callback: object, *arguments: object) -> None:
        self.timers.append((when, callback, arguments))

    def advance(self, now: float) -> None:
        """Run the timers that are due by `now`."""
        self.now = now
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, callback, arguments in due:
            assert callable(callback)
            callback(*arguments)

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with patch("asyncio.get_running_loop", return_value=made):
        yield made
    made.close()


def mail(clock: Clock, after_s: float) -> Mail:
    return Envelope("work", 10, clock.now + after_s, clock)  # type: ignore[arg-type]


def watched(clock: Clock, after_s: float, deadlines: Deadlines) -> Mail:
    found = mail(clock, after_s)
    assert found.deadline is not None
    deadlines.watch(found, found.deadline)
    return found


async def test_a_deadline_that_passed_before_it_was_watched_is_announced_by_the_loop_itself() -> (
    None
):
    late = Mail("work", 10, asyncio.get_running_loop().time(), asyncio.get_running_loop())
    assert late.deadline is not None
    Deadlines().watch(late, late.deadline)
    with pytest.raises(DeadlineError, match="timeout_ms"):
        await late.reply


@given(st.lists(st.floats(0.0, 60.0), min_size=1, max_size=50))
def test_none_expires_early_nor_later_than_a_twentieth_of_its_time(waits: list[float]) -> None:
    clock = Clock()
    with patch("asyncio.get_running_loop", return_value=clock):
        deadlines = Deadlines()
        mails = [watched(clock, wait, deadlines) for wait in waits]
        for wait, one in sorted(zip(waits, mails, strict=True), key=lambda pair: pair[0]):
            clock.advance(max(clock.now, 1000.0 + wait - 1e-6))
            assert one.deadline is not None
            assert not one.abandoned or clock.now >= one.deadline
        for wait, one in sorted(zip(waits, mails, strict=True), key=lambda pair: pair[0]):
            clock.advance(max(clock.now, 1000.0 + wait + max(1e-6, wait / 20)))
            assert one.abandoned
    for one in mails:
        assert isinstance(one.reply.exception(), DeadlineError)
    clock.close()


def test_a_thousand_calls_of_half_a_minute_take_a_handful_of_timers(clock: Clock) -> None:
    deadlines = Deadlines()
    for number in range(1000):
        clock.now = 1000.0 + number / 2000
        watched(clock, 30.0, deadlines)
    assert len(clock.timers) <= 2


def test_a_thousand_calls_of_a_second_share_timers_too(clock: Clock) -> None:
    deadlines = Deadlines()
    for number in range(1000):
        clock.now = 1000.0 + number / 2000
        watched(clock, 1.0, deadlines)
    assert len(clock.timers) <= 20


def test_what_is_answered_is_forgotten_at_once(clock: Clock) -> None:
    deadlines = Deadlines()
    one, other = watched(clock, 30.0, deadlines), watched(clock, 30.0, deadlines)
    one.answer(1)
    assert "1 watched" in repr(deadlines)
    clock.advance(1031.0)
    assert one.reply.result() == 1
    assert isinstance(other.reply.exception(), DeadlineError)
