"""BLAS gets the threads that a job may have, and its own again after it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from aiaas_async.compute.host import Host
from aiaas_async.compute.jobs import Infer, Unload
from aiaas_async.compute.threads import BlasThreads
from aiaas_async.errors import NotFoundError
from aiaas_async.nn.team import MOST, TEAM, threads_at_start

CORES = os.sched_getaffinity(0)

# A worker's first products: one by a team, one by BLAS. Prints the cores of all its threads.
_FIRST_PRODUCTS = """
import os, threading
import numpy as np
from aiaas_async.compute.threads import BlasThreads
from aiaas_async.nn.team import TEAM
blas = BlasThreads()
TEAM.share(64, lambda begin, end: None)
np.ones((999, 999), np.float32) @ np.ones((999, 999), np.float32)
blas.rest()
own = {thread.native_id for thread in threading.enumerate() if thread.name == "team"}
for task in map(int, os.listdir("/proc/self/task")):
    if task not in own:
        print(len(os.sched_getaffinity(task)))
"""


@pytest.mark.skipif(not 1 < len(CORES) <= MOST, reason="a team has no core for each")
def test_no_thread_of_blas_is_left_on_the_one_core_of_who_started_it() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": str(len(CORES))}
    command = [sys.executable, "-c", _FIRST_PRODUCTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {str(len(CORES))}


def counts() -> set[int]:
    pools = ThreadpoolController().select(user_api="blas").lib_controllers
    return {pool.get_num_threads() for pool in pools}


def parts(most: int = 60) -> int:
    """How many threads share a product that is computed in blocks."""
    found = list[tuple[int, int]]()
    TEAM.share(most, lambda begin, end: found.append((begin, end)))
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


@pytest.mark.skipif(not 1 < len(CORES) <= MOST, reason="a team has no core for each")
def test_who_kept_a_core_may_go_anywhere_when_the_job_is_done() -> None:
    cores, host = os.sched_getaffinity(0), Host()
    host._blas.use(len(cores))
    parts(len(cores))
    assert len(os.sched_getaffinity(0)) == 1
    list(host.do(Unload("m"), {}))
    assert os.sched_getaffinity(0) == cores


def test_a_batch_gets_its_threads_and_the_next_job_the_workers_own() -> None:
    before, host = counts(), Host()
    with pytest.raises(NotFoundError):
        list(host.do(Infer("m", 1, threads=3), {}))
    assert counts() == {3}
    list(host.do(Unload("m"), {}))
    assert counts() == before
