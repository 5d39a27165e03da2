"""Tenants share a node by their weights; a flood of one costs another nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.schedule.disciplines import DISCIPLINES, make_discipline
from aiaas_async.schedule.fair import Fair
from aiaas_async.schedule.origin import WEIGHTS
from tests.schedule.work import Job


def flooded(tenants: dict[str, float] | None = None) -> Fair[Job]:
    """A thousand calls of "a" wait, and ten of "b" came after them."""
    queue: Fair[Job] = Fair(WEIGHTS, tenants=tenants or {})
    for number in range(1000):
        queue.push(Job(number, tenant="a"))
    for number in range(10):
        queue.push(Job(number, tenant="b"))
    return queue


def test_a_flood_of_one_tenant_does_not_starve_another() -> None:
    queue = flooded()
    served = Counter(queue.pop().tenant for _ in range(40))
    assert served["b"] == 10


@pytest.mark.parametrize(("weight", "least", "most"), [(0.25, 1, 8), (4.0, 10, 10)])
def test_a_tenants_weight_says_how_soon_it_is_served(weight: float, least: int, most: int) -> None:
    queue = flooded({"b": weight})
    served = Counter(queue.pop().tenant for _ in range(32))
    assert least <= served["b"] <= most


def test_a_tenants_own_batch_job_does_not_starve_its_calls_nor_anybody_elses() -> None:
    queue: Fair[Job] = Fair(WEIGHTS)
    for number in range(1000):
        queue.push(Job(number, "batch", tenant="a", expected_s=0.01))
    for tenant in "ab":
        for number in range(5):
            queue.push(Job(number, "call", tenant=tenant))
    first = [queue.pop() for _ in range(16)]
    assert sum(job.flow == "call" for job in first) == 10


def test_in_a_full_queue_the_newest_of_the_tenant_with_the_most_gives_way() -> None:
    queue = flooded()
    gone = queue.give_way(Job(0, tenant="b"))
    assert gone is not None
    assert (gone.tenant, gone.name) == ("a", 999)
    assert len(queue) == 1009
    assert queue.give_way(Job(0, tenant="a")) is None, "not to its own tenant"


def test_who_has_as_much_waiting_for_its_weight_gets_no_place_of_others() -> None:
    queue: Fair[Job] = Fair(tenants={"b": 2.0})
    for number in range(2):
        queue.push(Job(number, tenant="a"))
        queue.push(Job(number, tenant="b"))
    assert queue.give_way(Job(9, tenant="c")) is not None
    queue.push(Job(9, tenant="c"))
    assert queue.give_way(Job(9, tenant="c")) is None
    assert queue.give_way(Job(9, tenant="b")) is None


@pytest.mark.parametrize("name", sorted(DISCIPLINES.keys() - {"fair"}))
def test_under_other_schedules_nobody_gives_way(name: str) -> None:
    queue = make_discipline(name)
    for number in range(5):
        queue.push(Job(number, tenant="a"))
    assert queue.give_way(Job(0, tenant="b")) is None
    assert len(queue) == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_what_gives_way_is_gone_once_and_all_else_is_served_once(
    steps: list[tuple[str, bool]],
) -> None:
    queue: Fair[Job] = Fair(WEIGHTS, tenants={"b": 3.0})
    inside: set[Job] = set()
    for number, (tenant, push) in enumerate(steps):
        job = Job(number, "call" if number % 2 else "batch", tenant=tenant)
        if push:
            queue.push(job)
            inside.add(job)
        elif (gone := queue.give_way(job)) is not None:
            inside.remove(gone)
    served = [queue.pop() for _ in range(len(queue))]
    assert len(served) == len(inside)
    assert set(served) == inside
