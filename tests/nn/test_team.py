"""A team does all parts once, at the same time, and says what went wrong."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from aiaas_async.nn.team import Team, threads_at_start


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_part_is_done_once(size: int, count: int) -> None:
    team, done = Team(size), list[int]()
    team.share(count, lambda begin, end: done.extend(range(begin, end)))
    assert sorted(done) == list(range(count))


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
