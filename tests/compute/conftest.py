"""Both sources of workers: what holds for one holds for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.compute.pool import WorkerForks


@pytest_asyncio.fixture
async def forks() -> AsyncIterator[WorkerForks]:
    source = WorkerForks()
    yield source
    await source.close()


@pytest_asyncio.fixture(params=["in the loop", pytest.param("a process", marks=pytest.mark.real)])
async def source(request: Any) -> AsyncIterator[WorkerSource]:
    made: WorkerSource = InLoopWorkers() if request.param == "in the loop" else WorkerForks()
    yield made
    await made.close()
