"""Each policy of assignment chooses the node it promises."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import InvalidError
from aiaas_async.schedule.assign import ASSIGNMENTS, Assignment, make_assignment
from aiaas_async.schedule.divide import Task

loads = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1000), min_size=1)
tasks = st.builds(Task, st.sampled_from("abcdefgh"), st.integers(0, 100), st.integers(101, 200))


def policy(name: str) -> Assignment:
    return make_assignment(name, lambda key: key[0])


@pytest.mark.parametrize("name", ASSIGNMENTS)
@settings(max_examples=40)  # for each
@given(task=tasks, loads=loads)
def test_every_policy_chooses_a_node_that_is_there(
    name: str, task: Task, loads: dict[str, int]
) -> None:
    assert policy(name).choose(task, loads) in loads


@given(tasks, loads)
def test_the_data_decides_unless_its_node_has_left(task: Task, loads: dict[str, int]) -> None:
    chosen = policy("data_local").choose(task, loads)
    assert chosen == task.home if task.home in loads else loads[chosen] == min(loads.values())


@given(tasks, loads)
def test_the_least_loaded_is_the_least_loaded(task: Task, loads: dict[str, int]) -> None:
    assert loads[policy("least_loaded").choose(task, loads)] == min(loads.values())


@given(loads, st.integers(1, 5))
def test_round_robin_gives_each_node_equally_many(loads: dict[str, int], rounds: int) -> None:
    chooser, task = policy("round_robin"), Task("a", 0, 1)
    chosen = Counter(chooser.choose(task, loads) for _ in range(rounds * len(loads)))
    assert set(chosen.values()) == {rounds}


@given(tasks, loads)
def test_hash_sends_a_task_to_the_same_node_whatever_the_loads(
    task: Task, loads: dict[str, int]
) -> None:
    everywhere = dict.fromkeys("abcdefgh", 0)
    chooser = policy("hash")
    assert chooser.choose(task, everywhere) == chooser.choose(task, {**everywhere, **loads})


def test_two_choices_are_far_more_even_than_one_at_random() -> None:
    chooser, loads = policy("power_of_two"), dict.fromkeys("abcdefghij", 0)
    for number in range(10_000):
        loads[chooser.choose(Task("a", number, number + 1), loads)] += 1
    assert max(loads.values()) - 1000 <= 10, "one choice would be about 60 above the mean"


def test_the_fullest_node_never_wins_of_two() -> None:
    chooser, loads = policy("power_of_two"), {"a": 5, "b": 1, "c": 9}
    chosen = {chooser.choose(Task("a", 0, 1), loads) for _ in range(200)}
    assert chosen == {"a", "b"}


def test_an_unknown_assignment_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidError, match="power_of_two"):
        policy("best")
