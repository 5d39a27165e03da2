"""A platform without HTTP, with workers in the loop or in processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiaas_async.compute.base import WorkerSource
from aiaas_async.compute.inloop import InLoopWorkers
from aiaas_async.config import Settings
from aiaas_async.service.lifespan import running_platform
from aiaas_async.service.platform import Platform

Start = Callable[..., AbstractAsyncContextManager[Platform]]


@pytest.fixture
def start(scratch: Path) -> Start:
    """A platform on the test's own folder; twice with the same one is a restart."""

    @asynccontextmanager
    async def started(workers: WorkerSource | None = None, **given: Any) -> AsyncIterator[Platform]:
        settings = Settings(data_dir=str(scratch), **{"nodes": 2, **given})
        async with running_platform(settings, workers or InLoopWorkers()) as platform:
            yield platform

    return started
