"""Calls that would wait too long are refused while an overload stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.schedule.shedding import BURST, STANDING, Shedding

OWN = 0.005  # seconds: 100 of them are the burst, 10 what may stand
MANY = 1000  # others who wait


def test_a_burst_is_admitted_up_to_the_long_bound() -> None:
    shedding = Shedding()
    assert shedding.admits(BURST.seconds, OWN, 0.0, MANY)
    assert not shedding.admits(BURST.seconds + OWN, OWN, 0.0, MANY)


def test_once_a_call_was_refused_the_short_bound_holds() -> None:
    shedding = Shedding()
    shedding.admits(BURST.seconds + OWN, OWN, 0.0, MANY)
    assert shedding.active
    assert not shedding.admits(STANDING.seconds + OWN, OWN, 0.1, MANY)
    assert shedding.admits(STANDING.seconds, OWN, 0.1, MANY)


def test_the_short_bound_is_lifted_when_next_to_nothing_was_refused_for_a_window() -> None:
    shedding = Shedding()
    shedding.admits(BURST.seconds + OWN, OWN, 0.0, MANY)
    assert not shedding.admits(0.1, OWN, 0.6, MANY), "the window before had nothing but refusals"
    for step in range(30):
        shedding.admits(0.0, OWN, 0.6 + step / 100, MANY)
    assert shedding.admits(0.1, OWN, 1.2, MANY), "one in thirty was refused"
    assert not shedding.active


def test_the_short_bound_holds_for_as_long_as_the_overload_lasts() -> None:
    shedding = Shedding()
    shedding.admits(BURST.seconds + OWN, OWN, 0.0, MANY)
    for step in range(1, 100):
        shedding.admits(0.0, OWN, step / 10, MANY)
        assert not shedding.admits(STANDING.seconds + OWN, OWN, step / 10, MANY)


def test_work_that_takes_long_may_wait_for_as_long_in_proportion() -> None:
    shedding = Shedding()
    assert shedding.admits(16 * 2.0, 2.0, 0.0, MANY)
    assert not shedding.admits(17 * 2.0, 2.0, 0.0, MANY)
    assert shedding.admits(8 * 2.0, 2.0, 0.1, MANY)
    assert not shedding.admits(9 * 2.0, 2.0, 0.1, MANY)


def test_a_few_callers_may_wait_longer_than_many_but_not_for_ever() -> None:
    assert Shedding().admits(BURST.seconds_of_few, OWN, 0.0, BURST.few - 1)
    assert not Shedding().admits(BURST.seconds_of_few, OWN, 0.0, BURST.few)
    assert not Shedding().admits(BURST.seconds_of_few + OWN, OWN, 0.0, BURST.few - 1)


def test_while_an_overload_stands_a_few_are_no_exception() -> None:
    shedding = Shedding()
    shedding.admits(BURST.seconds + OWN, OWN, 0.0, MANY)
    assert not shedding.admits(STANDING.seconds + OWN, OWN, 0.1, BURST.few - 1)


@pytest.mark.parametrize("overload", [1.5, 10.0])
def test_under_overload_the_wait_stays_short_and_the_worker_busy(overload: float) -> None:
    shedding, waiting, busy, waits = Shedding(), 0.0, 0.0, []
    for step in range(int(20 * overload / OWN)):
        now = step * OWN / overload
        done = min(waiting, OWN / overload)
        waiting, busy = waiting - done, busy + done
        if shedding.admits(waiting, OWN, now, MANY):
            waits.append((now, waiting))
            waiting += OWN
    assert max(wait for now, wait in waits if now > 2.0) <= STANDING.seconds
    assert busy > 0.98 * 20


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1), st.floats(0, 2)), max_size=60))
def test_a_call_behind_nothing_is_always_admitted(steps: list[tuple[float, float, float]]) -> None:
    shedding, now = Shedding(), 0.0
    for wait_s, own_s, gap in steps:
        now += gap
        shedding.admits(wait_s, own_s, now, MANY)
        assert shedding.admits(0.0, own_s, now, MANY)
