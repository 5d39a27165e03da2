"""Within the budget the least recently used goes first; what is pinned or under way stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.errors import MemoryBudgetError, UnplaceableError
from aiaas_async.node.residency import Residency


def test_nothing_is_unloaded_while_there_is_room() -> None:
    residency = Residency(100)
    residency.add("a", 60)
    assert residency.room_for(40) == []


def test_the_least_recently_used_goes_first_and_only_as_many_as_needed() -> None:
    residency = Residency(100)
    for name in "abc":
        residency.add(name, 30)
    residency.touch("a")
    assert residency.room_for(30) == ["b"]
    assert residency.room_for(60) == ["b", "c"]


def test_what_is_more_than_the_whole_budget_is_told_so_whatever_is_loaded() -> None:
    residency = Residency(100)
    residency.add("a", 60)
    with pytest.raises(UnplaceableError, match=r"101 bytes do not fit: .* 100 bytes; deploy"):
        residency.room_for(101)
    assert list(residency) == ["a"]


def test_what_is_under_way_or_pinned_is_never_a_victim() -> None:
    residency = Residency(100)
    for name in "abc":
        residency.add(name, 30)
    residency.begin("a")
    residency.pin("b")
    assert residency.room_for(40) == ["c"]
    with pytest.raises(MemoryBudgetError, match="budget is 100") as caught:
        residency.room_for(60)
    assert type(caught.value) is MemoryBudgetError
    residency.end("a")
    assert residency.room_for(60) == ["c", "a"]


def test_the_end_of_a_job_whose_worker_died_changes_nothing() -> None:
    residency = Residency(10)
    residency.add("a", 5)
    residency.begin("a")
    residency.clear()
    residency.end("a")
    assert residency.used == 0


def test_a_pin_outlives_the_worker_and_its_room_is_nobody_else_s() -> None:
    residency = Residency(100)
    residency.add("a", 70)
    residency.pin("a")
    residency.clear()
    assert (residency.used, residency.free, residency.pinned) == (0, 30, frozenset("a"))
    residency.add("b", 90)  # what is not pinned may stay until the pinned one comes back
    assert residency.room_for(70) == ["b"]
    residency.unpin("a")
    assert (residency.free, residency.pinned) == (100, frozenset())


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60)), max_size=40))
def test_the_budget_is_never_exceeded(steps: list[tuple[str, int]]) -> None:
    residency = Residency(100)
    sizes: dict[str, int] = {}
    for name, nbytes in steps:
        size = sizes.setdefault(name, nbytes)
        if name in residency:
            residency.touch(name)
            continue
        for victim in residency.room_for(size):
            residency.remove(victim)
        residency.add(name, size)
        assert residency.used <= 100
