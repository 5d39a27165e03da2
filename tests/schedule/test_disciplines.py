"""Each discipline takes what waits in the order it promises, and loses nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiaas_async.errors import InvalidError
from aiaas_async.schedule.disciplines import DISCIPLINES, make_discipline
from aiaas_async.schedule.fair import Fair
from aiaas_async.schedule.ordered import EarliestDeadline, HighestPriority, ShortestFirst
from aiaas_async.schedule.waiting import Discipline
from tests.schedule.work import Job, jobs

steps = st.lists(st.one_of(jobs, st.just("pop"), st.integers(0, 5)), max_size=60)
few_jobs = st.lists(jobs, min_size=1, max_size=6)


def drained(queue: Discipline[Job]) -> list[Job]:
    return [queue.pop() for _ in range(len(queue))]


def filled(queue: Discipline[Job], work: list[Job]) -> list[Job]:
    for job in work:
        queue.push(job)
    return drained(queue)


@pytest.mark.parametrize("name", DISCIPLINES)
@settings(max_examples=40)  # for each
@given(steps=steps)
def test_nothing_is_lost_nothing_is_doubled_and_whoever_asks_gets_work(
    name: str, steps: list[Job | str | int]
) -> None:
    queue, inside, number = make_discipline(name), Counter[Job](), 0
    for step in steps:
        if isinstance(step, Job):
            queue.push(step)
            inside[step] += 1
        elif step == "pop":
            if inside.total():
                inside[queue.pop()] -= 1
            else:
                with pytest.raises(IndexError):
                    queue.pop()
        else:
            number = int(step)
            taken = queue.take_like(lambda job, n=number: job.name % 2 == n % 2, number)  # type: ignore[misc]
            fitting = sum(count for job, count in inside.items() if job.name % 2 == number % 2)
            assert len(taken) == min(number, fitting)
            inside.subtract(taken)
        assert min(inside.values(), default=0) >= 0
        assert len(queue) == inside.total()
        assert Counter(queue) == +inside


@pytest.mark.parametrize("name", DISCIPLINES)
@settings(max_examples=40)  # for each
@given(work=st.lists(st.integers(0, 10**9), unique=True, max_size=20))
def test_equals_are_served_in_the_order_they_came(name: str, work: list[int]) -> None:
    came = [Job(number) for number in work]
    assert filled(make_discipline(name), came) == came


@given(few_jobs)
def test_the_earliest_deadline_first_has_the_least_lateness_of_all_orders(work: list[Job]) -> None:
    dated = [Job(j.name, deadline=j.deadline or 1.0, expected_s=j.expected_s) for j in work]
    least = min(lateness(order) for order in itertools.permutations(dated))
    assert lateness(filled(EarliestDeadline(), dated)) <= least + 1e-9


def lateness(order: list[Job] | tuple[Job, ...]) -> float:
    ends = itertools.accumulate(job.expected_s for job in order)
    return max(end - (job.deadline or 0) for job, end in zip(order, ends, strict=True))


@given(few_jobs)
def test_the_shortest_first_has_the_least_mean_time_of_all_orders(work: list[Job]) -> None:
    least = min(total_time(order) for order in itertools.permutations(work))
    assert total_time(filled(ShortestFirst(), work)) <= least + 1e-9


def total_time(order: list[Job] | tuple[Job, ...]) -> float:
    return sum(itertools.accumulate(job.expected_s for job in order))


@given(st.lists(jobs, max_size=20))
def test_priorities_never_rise_while_the_queue_empties(work: list[Job]) -> None:
    served = [job.priority for job in filled(HighestPriority(), work)]
    assert served == sorted(served, reverse=True)


def test_work_without_a_deadline_comes_after_all_that_has_one() -> None:
    assert [j.name for j in filled(EarliestDeadline(), [Job(1), Job(2, deadline=9.0)])] == [2, 1]


@given(
    st.lists(st.floats(0.0001, 0.05), min_size=40, max_size=40),
    st.lists(st.floats(0.0001, 0.05), min_size=40, max_size=40),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.sampled_from([0.0005, 0.002, 0.1]),
)
def test_two_flows_that_always_wait_are_served_in_proportion_to_their_weights(
    a: list[float], b: list[float], weight: float, quantum: float
) -> None:
    queue: Fair[Job] = Fair({"a": weight}, quantum)
    for number, (first, second) in enumerate(zip(a, b, strict=True)):
        queue.push(Job(number, "a", expected_s=first))
        queue.push(Job(number, "b", expected_s=second))
    left, got = Counter({"a": 40, "b": 40}), Counter[str]()
    bound = quantum + max(a) / weight + max(b)
    while min(left.values()):
        job = queue.pop()
        left[job.flow] -= 1
        got[job.flow] += job.expected_s  # type: ignore[assignment]
        assert abs(got["a"] / weight - got["b"]) <= bound + 1e-9


def test_a_call_waits_one_turn_of_a_batch_job_not_its_thousand_tasks() -> None:
    queue: Fair[Job] = Fair(quantum_s=0.002)
    for number in range(1000):
        queue.push(Job(number, "batch", expected_s=0.001))
    for _ in range(10):
        queue.pop()
    queue.push(Job(1, "call"))
    flows = [queue.pop().flow for _ in range(4)]
    assert "call" in flows


def test_a_flow_that_was_alone_neither_saved_credit_nor_owes_any() -> None:
    queue: Fair[Job] = Fair(quantum_s=0.002)
    for number in range(100):
        queue.push(Job(number, "a", expected_s=0.001))
    for _ in range(50):
        queue.pop()
    for number in range(100):
        queue.push(Job(number, "b", expected_s=0.001))
    served = Counter(queue.pop().flow for _ in range(40))
    assert abs(served["a"] - served["b"]) <= 4


def test_work_a_thousand_turns_long_is_found_without_counting_them() -> None:
    queue: Fair[Job] = Fair(quantum_s=1e-6)
    queue.push(Job(1, "a", expected_s=1000.0))
    queue.push(Job(2, "b", expected_s=2000.0))
    assert [queue.pop().name for _ in range(2)] == [1, 2]


def test_an_unknown_schedule_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidError, match="fifo, priority, sjf, edf, fair"):
        make_discipline("lifo")
