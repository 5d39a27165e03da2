"""BLAS gets the threads that a job may have, and its own again after it."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from aiaas_async.compute.host import Host
from aiaas_async.compute.jobs import Infer, Unload
from aiaas_async.compute.threads import BlasThreads
from aiaas_async.errors import NotFoundError
from aiaas_async.nn.team import TEAM, threads_at_start


def counts() -> set[int]:
    pools = ThreadpoolController().select(user_api="blas").lib_controllers
    return {pool.get_num_threads() for pool in pools}


def parts() -> int:
    """How many threads share a product that is computed in blocks."""
    found = list[tuple[int, int]]()
    TEAM.share(60, lambda begin, end: found.append((begin, end)))
    return len(found)


def test_threads_change_and_come_back() -> None:
    assert np.ones((2, 2)).sum() == 4  # a BLAS is loaded
    before, blas = counts(), BlasThreads()
    blas.use(3)
    assert counts() == {3}
    assert parts() == 3
    blas.use(0)
    assert counts() == before
    assert parts() == threads_at_start()


def test_a_batch_gets_its_threads_and_the_next_job_the_workers_own() -> None:
    before, host = counts(), Host()
    with pytest.raises(NotFoundError):
        list(host.do(Infer("m", 1, threads=3), {}))
    assert counts() == {3}
    list(host.do(Unload("m"), {}))
    assert counts() == before
