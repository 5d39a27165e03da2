"""Cores are lent while they are idle, and only then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiaas_async.node.cores import Cores


def test_who_works_alone_may_use_every_core() -> None:
    cores = Cores(8)
    cores.begin("a")
    assert cores.share("a", 1.0) == 8


def test_who_works_beside_others_shares_with_them() -> None:
    cores = Cores(8)
    for name in "abc":
        cores.begin(name)
    assert cores.share("a", 1.0) == 2


def test_nothing_is_lent_that_is_no_more_than_ones_own() -> None:
    cores = Cores(8, threads=4)
    cores.begin("b")
    assert cores.share("a", 1.0) == 0
    assert Cores().share("a", 1.0) == 0


def test_who_worked_lately_is_reckoned_with() -> None:
    cores = Cores(2)
    cores.begin("b")
    cores.end("b", 5.0)
    assert cores.share("a", 5.09) == 0
    assert cores.share("a", 5.11) == 2


def test_workers_of_a_job_take_cores_for_as_long_as_it_runs() -> None:
    cores = Cores(4)
    with cores.taken(["job/0", "job/1", "job/2"]):
        assert cores.share("a", 1.0) == 0
    assert cores.share("a", 1.0) == 4


def test_a_server_that_is_busy_itself_keeps_a_core() -> None:
    spent = [0.0]
    cores = Cores(2, spent=lambda: spent[0])
    assert cores.share("a", 1.0) == 2
    spent[0] = 0.08
    assert cores.share("a", 1.2) == 0
    assert cores.share("a", 1.29) == 0  # too soon to look again
    assert cores.share("a", 1.4) == 2


@given(st.integers(1, 256), st.integers(1, 16), st.sets(st.text(max_size=3), min_size=1))
def test_all_together_never_get_more_threads_than_there_are_cores_or_than_are_their_own(
    count: int, threads: int, names: set[str]
) -> None:
    cores = Cores(count, threads)
    for name in names:
        cores.begin(name)
    used = sum(cores.share(name, 0.0) or threads for name in names)
    assert used <= max(count, threads * len(names))
