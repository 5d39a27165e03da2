"""Tasks cover each shard's items once and are as long as they should be."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.schedule.divide import (
    FIRST_ITEMS,
    LAST_PART,
    LATELY_S,
    MAX_TASK_ITEMS,
    TASK_BYTES,
    Task,
    coarse_items,
    divide,
    fine_items,
    guided_items,
)

shards = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 500))


@given(shards, st.integers(1, 100))
def test_tasks_cover_every_item_once_and_none_is_too_long(
    counts: dict[str, int], task_items: int
) -> None:
    found: dict[str, list[int]] = {home: [] for home in counts}
    for task in divide(counts, task_items):
        assert 1 <= task.items <= task_items
        found[task.home] += range(task.start, task.stop)
    assert {home: sorted(items) for home, items in found.items()} == {
        home: list(range(count)) for home, count in counts.items()
    }


@given(shards, st.integers(1, 100))
def test_the_tasks_of_a_shard_are_even(counts: dict[str, int], task_items: int) -> None:
    for home in counts:
        sizes = [task.items for task in divide(counts, task_items) if task.home == home]
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_shards_take_turns() -> None:
    homes = [task.home for task in divide({"a": 30, "b": 10, "c": 20}, 10)]
    assert homes == ["a", "b", "c", "a", "c", "a"]


@given(st.integers(1, 16 << 20))
def test_a_task_has_an_item_at_least_and_stays_within_its_bounds(item_bytes: int) -> None:
    items = coarse_items(item_bytes)
    assert 1 <= items <= MAX_TASK_ITEMS
    assert items == 1 or items * item_bytes <= TASK_BYTES


def test_what_was_never_measured_starts_small() -> None:
    assert fine_items(None) == FIRST_ITEMS


def test_slow_models_get_short_tasks() -> None:
    assert fine_items(0.001) == 10
    assert fine_items(10.0) == 1


def test_tasks_are_longer_where_no_call_came_lately() -> None:
    assert fine_items(0.001, LATELY_S / 2) == 10
    assert fine_items(0.001, LATELY_S) == fine_items(0.001, math.inf) == 35


@given(st.integers(2, 100), st.data())
def test_a_cut_task_is_the_same_items_in_two(items: int, data: st.DataObject) -> None:
    task = Task("a", 7, 7 + items, failures=1)
    first, second = task.cut(data.draw(st.integers(1, items - 1)))
    assert (first.start, first.stop, second.stop) == (task.start, second.start, task.stop)
    assert first.failures == second.failures == 1
    assert first.precedes(second)
    assert first.joined(second) == task


def test_tasks_are_joined_only_where_one_goes_on_with_the_other() -> None:
    task = Task("a", 0, 5)
    assert task.precedes(Task("a", 5, 9))
    for other in (Task("b", 5, 9), Task("a", 6, 9), Task("a", 5, 9, failures=1)):
        assert not task.precedes(other)


@given(st.integers(0, 10_000), st.integers(1, 500), st.integers(1, 8))
def test_tasks_get_smaller_towards_the_end_but_not_too_small(
    waiting: int, items: int, takers: int
) -> None:
    sizes = []
    while waiting:
        sizes.append(min(waiting, guided_items(items, waiting, takers)))
        waiting -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert all(items // LAST_PART <= size <= items for size in sizes[:-1])
