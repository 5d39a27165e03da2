"""A team does all parts once, at the same time, and says what went wrong."""

from __future__ import annotations

import os
import threading
from functools import partial

import pytest

from aiaas_async.nn.team import MOST, Team, threads_at_start

CORES = os.sched_getaffinity(0)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("more", [0, 1, 9])
def test_every_part_is_done_once(size: int, count: int, more: int) -> None:
    team, done = Team(size), list[int]()
    team.share(count, lambda begin, end: done.extend(range(begin, end)), more)
    assert sorted(done) == list(range(count))


def test_the_callers_part_is_larger_by_as_much_as_is_asked_for() -> None:
    parts = dict[int, int]()

    def work(begin: int, end: int) -> None:
        parts[threading.get_ident()] = end - begin

    Team(3).share(100, work, 10)
    assert parts.pop(threading.get_ident()) == 40
    assert list(parts.values()) == [30, 30]


@pytest.mark.parametrize("sizes", [(2,), (3,), (2, 3), (3, 2)])
def test_as_many_work_at_once_as_are_asked_for(sizes: tuple[int, ...]) -> None:
    team = Team()
    for size in sizes:
        team.use(size)
        meeting = threading.Barrier(size, timeout=10)
        team.share(size, partial(_meet, meeting))


def _meet(meeting: threading.Barrier, begin: int, end: int) -> None:
    assert end == begin + 1
    meeting.wait()


def test_it_comes_back_to_the_size_it_began_with() -> None:
    team, threads = Team(1), set[int]()
    team.use(2)
    team.use(0)
    team.share(9, lambda begin, end: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


@pytest.mark.skipif(not 1 < len(CORES) <= MOST, reason="a team has no core for each")
def test_who_has_all_cores_keeps_one_each_until_it_rests() -> None:
    cores, found = os.sched_getaffinity(0), list[set[int]]()
    team = Team(len(cores))
    for _ in range(2):
        team.share(len(cores), lambda _begin, _end: found.append(os.sched_getaffinity(0)))
    team.rest()
    assert sorted(map(len, found)) == [1] * 2 * len(cores)
    assert set().union(*found) == cores
    assert os.sched_getaffinity(0) == cores


def test_threads_that_come_later_are_not_left_on_the_core_of_who_started_them() -> None:
    team, found = Team(len(CORES) + 1), list[set[int]]()
    team.share(len(CORES), lambda _begin, _end: None)  # so many are bound, and no more
    meeting = threading.Barrier(len(CORES) + 1, timeout=10)

    def work(begin: int, end: int) -> None:
        _meet(meeting, begin, end)
        found.append(os.sched_getaffinity(0))

    team.share(len(CORES) + 1, work)
    assert found == [CORES] * (len(CORES) + 1)


def test_who_calls_while_all_are_at_work_does_it_alone() -> None:
    team, done = Team(2), list[int]()

    def work(begin: int, end: int) -> None:
        if begin == 0:
            team.share(5, lambda begin, end: done.extend(range(begin, end)))

    team.share(2, work)
    assert done == [0, 1, 2, 3, 4]


def test_after_an_interruption_nobody_takes_the_old_end_for_the_new_one() -> None:
    team, going_on = Team(2), threading.Event()

    def interrupted(begin: int, end: int) -> None:
        if begin:
            going_on.wait(10)

    helper = team._some(1)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helper, "end", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            team.share(2, interrupted)
    done = list[int]()
    team.share(2, lambda begin, end: done.extend(range(begin, end)))
    assert sorted(done) == [0, 1]
    going_on.set()


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_what_ends_a_thread_ends_its_caller() -> None:
    def work(begin: int, end: int) -> None:
        if begin:
            raise SystemExit(3)

    team = Team(2)
    with pytest.raises(SystemExit):
        team.share(2, work)
    team.share(2, lambda _begin, _end: None)


@pytest.mark.parametrize("failing", [0, 1])
def test_what_a_part_raises_is_raised_when_all_have_ended(failing: int) -> None:
    ended = list[int]()

    def work(begin: int, end: int) -> None:
        if begin == failing:
            raise ValueError(f"part {begin}")
        ended.append(begin)

    with pytest.raises(ValueError, match=f"part {failing}"):
        Team(2).share(2, work)
    assert ended == [1 - failing]


def test_where_no_thread_can_be_started_the_caller_does_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    team = Team(3)
    for _ in range(2):
        done = list[int]()
        team.share(7, lambda begin, end, done=done: done.extend(range(begin, end)))  # type: ignore[misc]
        assert done == list(range(7))


@pytest.mark.parametrize(("given", "found"), [("3", 3), ("0", 1), ("", 1), ("many", 1)])
def test_a_process_begins_with_as_many_as_its_environment_says(
    given: str, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_at_start() == found
