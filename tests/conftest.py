"""What holds for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from aiaas_async.nn.team import TEAM
from tests.folders import in_memory


def pytest_configure(config: pytest.Config) -> None:
    """The quick set tries half as many examples of each property as the whole one."""
    if "not real" in config.option.markexpr:
        settings.register_profile("quick", max_examples=50)
        settings.load_profile("quick")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays to the end: to look through it again and again for
    garbage took 1 s in 30."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where a platform may keep its data."""
    with in_memory() as folder:
        yield folder


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    """A test that has threads keep cores leaves none bound to the next one's harm."""
    cores = os.sched_getaffinity(0)
    yield
    TEAM.rest()
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """BLAS computes in one, as in a worker. With two, which wait for each other busily while tests
    run side by side, two epochs of the digits took 5 s of processor time in place of 0.4."""
    with threadpool_limits(1):
        yield
