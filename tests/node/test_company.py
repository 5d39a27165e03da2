"""A batch leaves when the loop brings no more company for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiaas_async.node.company import LONG_S, Company


def turns_of(company: Company) -> int:
    """How many turns of the loop it waits; none takes time here."""
    gathering = company.gather()
    turns = 0
    while True:
        try:
            gathering.send(None)
        except StopIteration:
            return turns
        turns += 1


def waiting_each(counts: Iterable[int], *, crowded: bool = False) -> Company:
    """A company for which one count after the other waits, and the last from then on."""
    left = list(counts)
    return Company(lambda: left.pop(0) if len(left) > 1 else left[0], lambda: crowded)


def test_a_lone_request_waits_for_two_turns_in_which_nobody_comes() -> None:
    assert turns_of(waiting_each([1])) == 2


def test_who_was_alone_in_a_batch_of_milliseconds_leaves_at_once() -> None:
    company = waiting_each([1])
    for calls, seconds, turns in ((1, 0.003, 0), (2, 0.003, 2), (1, 0.001, 2)):
        company.ended(calls, seconds)
        assert turns_of(company) == turns


def test_behind_the_one_that_left_at_once_others_gather() -> None:
    loop = asyncio.new_event_loop()
    company = waiting_each([1])
    company.ended(1, 0.003)
    company.sent(loop.create_future(), 0.003)
    assert turns_of(company) == 2
    loop.close()


def test_who_arrives_one_after_the_other_goes_together() -> None:
    # It asks once before the turns, and twice in each: whether more wait than before, how many.
    assert turns_of(waiting_each([1, 1, 1, 2, 2, 3, 3, 4])) == turns_of(waiting_each([1])) + 3


def test_a_stream_without_end_is_not_waited_out() -> None:
    assert turns_of(waiting_each(range(1, 1000))) == 8


def test_the_callers_of_a_long_batch_are_waited_for() -> None:
    loop = asyncio.new_event_loop()
    try:
        company = waiting_each([0, 0, 0, 2])
        company.ended(2, 16.0)
        loop.run_until_complete(asyncio.wait_for(company.gather(), 0.9))
        assert company._waiting() == 2
    finally:
        loop.close()


def test_where_calls_are_refused_nobody_is_waited_for() -> None:
    company = waiting_each([1], crowded=True)
    company.ended(9, 100.0)
    assert turns_of(company) == 0


def test_behind_a_long_batch_nothing_leaves_before_it_ended() -> None:
    loop = asyncio.new_event_loop()
    try:
        sent = loop.create_future()
        company = waiting_each([1], crowded=True)
        company.sent(sent, 2 * LONG_S)
        gathering = loop.create_task(company.gather())
        loop.run_until_complete(asyncio.sleep(0))
        assert not gathering.done()
        sent.set_result(None)
        loop.run_until_complete(asyncio.wait_for(gathering, 5.0))
    finally:
        loop.close()
