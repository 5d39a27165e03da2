"""Threads that have all cores keep one each, and all others are left alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from aiaas_async.nn import binding
from aiaas_async.nn.binding import Binding

CORES = os.sched_getaffinity(0)
several = pytest.mark.skipif(len(CORES) == 1, reason="one core leaves nothing to choose")


@pytest.fixture
def helpers() -> Iterator[list[int]]:
    """Native ids of as many threads as there are further cores."""
    done, threads = threading.Event(), list[threading.Thread]()
    for _ in range(len(CORES) - 1):
        threads.append(threading.Thread(target=done.wait))
        threads[-1].start()
    yield [thread.native_id or 0 for thread in threads]
    done.set()
    for thread in threads:
        thread.join()
    os.sched_setaffinity(0, CORES)


def cores_of(threads: list[int]) -> list[set[int]]:
    return [os.sched_getaffinity(thread) for thread in [0, *threads]]


def test_each_has_a_core_of_its_own_until_the_caller_is_released(helpers: list[int]) -> None:
    bound = Binding()
    for _ in range(3):
        bound.bind(helpers)
        bound.bind(helpers)
        found = cores_of(helpers)
        assert [len(cores) for cores in found] == [1] * len(CORES)
        assert set().union(*found) == CORES
        bound.release()
        assert os.sched_getaffinity(0) == CORES


@several
def test_a_caller_that_moved_leaves_the_others_the_other_cores(helpers: list[int]) -> None:
    bound = Binding()
    for core in CORES:
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(0, CORES)
        bound.bind(helpers)
        assert set().union(*cores_of(helpers)) == CORES
        bound.release()


@several
def test_where_others_may_use_a_core_too_nobody_is_bound(helpers: list[int]) -> None:
    bound = Binding()
    bound.bind(helpers[1:])
    assert cores_of(helpers) == [CORES] * len(CORES)


@several
def test_helpers_are_let_go_when_they_no_longer_have_all_cores(helpers: list[int]) -> None:
    bound = Binding()
    bound.bind(helpers)
    bound.release()
    bound.bind(helpers[1:])
    assert cores_of(helpers) == [CORES] * len(CORES)


def test_where_the_system_forbids_it_all_go_on(
    helpers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: int, cores: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    bound = Binding()
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refused)
        bound.bind(helpers)
        bound.release()
    assert cores_of(helpers) == [CORES] * len(CORES)


@several
def test_what_the_system_forbids_half_is_undone(
    helpers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = os.sched_setaffinity

    def refused(thread: int, cores: set[int]) -> None:
        if thread == 0:
            raise PermissionError(1, "Operation not permitted")
        place(thread, cores)

    bound = Binding()
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refused)
        bound.bind(helpers)
    assert cores_of(helpers) == [CORES] * len(CORES)
    bound.bind(helpers)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refused)
        bound.release()
    assert bound.held
    bound.release()
    assert os.sched_getaffinity(0) == CORES


def test_where_no_thread_can_tell_its_core_nobody_is_bound(
    helpers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "_current_core", None)
    Binding().bind(helpers)
    assert cores_of(helpers) == [CORES] * len(CORES)
