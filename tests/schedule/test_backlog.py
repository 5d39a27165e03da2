"""The backlog hands out every item once, whoever steals, leaves or fails."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.schedule.assign import DataLocal, LeastLoaded
from aiaas_async.schedule.backlog import Backlog
from aiaas_async.schedule.divide import Task, divide

counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 200))
actions = st.lists(
    st.one_of(
        st.sampled_from("abcd"),
        st.sets(st.sampled_from("abcd"), min_size=1),
        st.just("fail"),
    ),
    max_size=80,
)


@given(counts, actions, st.integers(1, 10))
def test_no_item_is_lost_and_none_is_done_twice(
    counts: dict[str, int], actions: list[str | set[str]], limit: int
) -> None:
    backlog, taken = Backlog(DataLocal()), list[tuple[Task, str]]()
    backlog.set_nodes("abcd")
    backlog.add(divide(counts, 7))
    nodes = set("abcd")
    for action in actions:
        if isinstance(action, set):
            backlog.set_nodes(action)
            nodes = action
        elif action == "fail" and taken:
            backlog.put_back(*taken.pop())
        elif action in nodes and (task := backlog.take(action, limit)) is not None:
            assert task.items <= limit
            taken.append((task, action))
        assert len(backlog) + sum(t.items for t, _ in taken) == sum(counts.values())
    while (task := backlog.take(min(nodes), limit)) is not None:
        taken.append((task, ""))
    done = Counter((t.home, item) for t, _ in taken for item in range(t.start, t.stop))
    assert done == Counter((home, item) for home, n in counts.items() for item in range(n))


@given(counts, st.sampled_from("abcd"))
def test_a_node_never_idles_while_anything_waits(counts: dict[str, int], node: str) -> None:
    backlog = Backlog(DataLocal())
    backlog.set_nodes("abcd")
    backlog.add(divide(counts, 10))
    while len(backlog):
        assert backlog.take(node, 4) is not None
    assert backlog.take(node, 4) is None


def test_a_node_does_its_own_tasks_in_order_before_it_steals_the_others_last() -> None:
    backlog = Backlog(DataLocal())
    backlog.set_nodes("ab")
    backlog.add(divide({"a": 2, "b": 3}, 1))
    taken = [backlog.take("a", 1) for _ in range(4)]
    assert [(t.home, t.start) for t in taken if t] == [("a", 0), ("a", 1), ("b", 2), ("b", 1)]
    assert backlog.stolen == 2


def test_of_a_long_task_the_owner_takes_the_start_and_the_thief_the_end() -> None:
    backlog = Backlog(DataLocal())
    backlog.set_nodes("ab")
    backlog.add([Task("a", 0, 100)])
    own, stolen = backlog.take("a", 10), backlog.take("b", 20)
    assert (own, stolen) == (Task("a", 0, 10), Task("a", 80, 100))
    assert len(backlog) == 70


def test_what_was_cut_short_is_joined_with_what_follows_it() -> None:
    backlog = Backlog(DataLocal())
    backlog.set_nodes("ab")
    backlog.add(divide({"a": 40}, 10))
    taken = [backlog.take("a", 7), backlog.take("a", 10), backlog.take("b", 12)]
    assert taken == [Task("a", 0, 7), Task("a", 7, 17), Task("a", 28, 40)]
    assert backlog.take("a", 99) == Task("a", 17, 28)
    assert len(backlog) == 0


def test_what_failed_is_not_joined_with_what_did_not() -> None:
    backlog, failed = Backlog(DataLocal()), Task("a", 0, 9, failures=1)
    backlog.set_nodes("a")
    backlog.add([Task("a", 9, 20)])
    backlog.put_back(failed, "a")
    assert backlog.take("a", 99) == failed


def test_what_failed_goes_first_and_elsewhere() -> None:
    backlog, failed = Backlog(DataLocal()), Task("a", 90, 99)
    backlog.set_nodes("ab")
    backlog.add(divide({"b": 3}, 1))
    backlog.put_back(failed, "a")
    assert backlog.take("b", 9) == failed


def test_with_one_node_what_failed_is_done_there_again() -> None:
    backlog, failed = Backlog(DataLocal()), Task("a", 0, 9)
    backlog.set_nodes("a")
    backlog.put_back(failed, "a")
    assert backlog.take("a", 9) == failed


def test_the_tasks_of_a_node_that_left_go_to_those_that_stay() -> None:
    backlog = Backlog(LeastLoaded())
    backlog.set_nodes("abc")
    backlog.add(divide({"a": 90}, 10))
    backlog.set_nodes("bc")
    assert backlog.loads == pytest.approx({"b": 45, "c": 45}, abs=10)
    assert backlog.take("a", 9) is None
